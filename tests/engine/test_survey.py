"""What the first batch finds out, before the first tick: shapes that do not fit, and how every layer behaves."""

import pytest
import torch
from support.comparing import everything, largest_difference
from support.inline import learning, run_through, runtime_of, weights
from support.networks import network_of
from support.samples import samples
from torch import nn

from hamdist.errors import NetworkError
from hamdist.network.graph import LOSS, Edge
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.losses import LossSpec
from hamdist.network.network import Network
from hamdist.physics.modules import Residual

BATCH = samples(1, (8,))


class Calls(nn.Module):
    """A module from a function of its inputs."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def linear(inputs, outputs=3):
    return lambda: nn.Linear(inputs, outputs).double()


def refused(layers, message, batches=BATCH, **kwargs):
    with pytest.raises(NetworkError, match=message) as caught:
        runtime_of(layers, batches, **kwargs)
    return caught.value


# Shapes


def test_neighbours_that_do_not_fit_are_named_with_both_shapes():
    layers = {"embed": linear(8, 12), "head": linear(9)}
    refused(
        network_of(layers),
        r"'embed' gives \[4, 12\] float64, but layer 'head' \(Linear, in_features=9\) cannot take it: mat1 and mat2",
    )


def test_a_stream_that_does_not_fit_the_first_layer():
    refused(
        network_of({"embed": linear(5)}),
        r"'source' gives \[4, 8\] float64, but layer 'embed' \(Linear, in_features=5\)",
    )


def test_a_join_names_every_neighbour():
    layers = {"a": linear(8, 5), "b": linear(8, 6), "c": linear(6)}
    refused(
        network_of(layers, ["a->c", "b->c"]),
        r"'a' gives \[4, 5\] float64, 'b' gives \[4, 6\] float64, but layer 'c'",
    )


@pytest.mark.parametrize("shape", [[4, 1], [4, 4, 8]])
def test_a_sum_of_signals_of_different_shapes_is_refused_though_torch_would_broadcast(shape):
    layers = {"a": linear(8, 8), "b": lambda: Calls(lambda x: x.new_ones(shape)), "c": linear(8)}
    sizes = str(shape)[1:-1]
    message = rf"'a' gives \[4, 8\] float64, 'b' gives \[{sizes}\] float64, but layer 'c'"
    refused(network_of(layers, ["a->c", "b->c"]), message)


@pytest.mark.parametrize(
    ("layer", "inputs", "remedy"),
    [
        (
            nn.Linear(8, 3),
            torch.ones(4, 8).long(),
            r"give it real numbers \(x\.float\(\)\), or let an Embedding",
        ),
        (nn.Linear(8, 3), torch.ones(4, 8).bool(), "give it real numbers"),
        (nn.Conv1d(8, 3, 1), torch.ones(4, 8, 1).int(), "give it real numbers"),
        (nn.BatchNorm1d(8), torch.ones(4, 8).long(), "give it real numbers"),
        (nn.Linear(8, 3), torch.ones(4, 8).cfloat(), "give it complex weights"),
        (nn.Embedding(8, 3), torch.ones(4), r"indices are integers \(x\.long\(\)\)"),
    ],
)
def test_numbers_of_the_wrong_kind_are_told_with_the_layer_and_the_remedy(layer, inputs, remedy):
    kind = type(layer).__name__
    refused(
        [layer], rf"'source' gives .*, but layer '0' \({kind}, .*{remedy}", [(inputs, torch.zeros(4).long())]
    )


@pytest.mark.parametrize("layer", [nn.Embedding(8, 3, sparse=True), nn.EmbeddingBag(8, 3, sparse=True)])
def test_a_sparse_gradient_is_refused_by_name(layer):
    inputs = torch.zeros(4, 2).long() if isinstance(layer, nn.EmbeddingBag) else torch.zeros(4).long()
    refused(
        [layer],
        r"layer '0' gives a sparse gradient of weight.*use sparse=False",
        [(inputs, torch.zeros(4).long())],
    )


def test_the_key_of_the_config_is_in_the_error():
    spec = LayerSpec("a", linear(5), key="network.layers.3")
    network = Network((spec,), {LOSS: LossSpec(nn.functional.cross_entropy, "a")})
    assert refused(network, "layer 'a'").problems[0].key == "network.layers.3"


# Losses


def test_a_loss_that_does_not_fit_names_the_layer_the_output_and_the_targets():
    refused(
        [linear(8)],
        r"network.loss: loss mse_loss does not fit: layer '0' gives \[4, 3\] float64, the targets are \[4\] int64",
        loss=nn.functional.mse_loss,
    )


def test_a_loss_that_would_only_warn_of_broadcasting_is_refused():
    batches = [(torch.randn(4, 8, dtype=torch.float64), torch.randn(4, dtype=torch.float64))]
    refused(
        [linear(8, 1)],
        r"layer '0' gives \[4, 1\] float64, the targets are \[4\] float64",
        batches,
        loss=nn.functional.mse_loss,
    )


def test_a_loss_must_give_one_real_number():
    refused(
        [linear(8)], r"<lambda> must give one real number, but for layer '0'", loss=lambda y, t: y.sum(dim=1)
    )


def test_a_stream_without_targets():
    from hamdist.engine.build import program
    from hamdist.network.locality import Locality

    network = Network.of([linear(8)], nn.functional.cross_entropy)
    with pytest.raises(
        NetworkError, match=r"network.loss: cross_entropy needs targets, but the stream has none"
    ):
        program(network, Locality(), learning(), (BATCH[0][0], None), 0, torch.float64)


# Modules that cannot work


def test_an_in_place_module_first_in_a_layer_is_refused():
    layers = {"a": linear(8, 8), "b": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 3)).double()}
    refused(
        network_of(layers),
        "layer 'b' modifies its input in place, which its neighbour still needs: use inplace=False",
    )


def test_an_in_place_module_after_the_first_is_fine():
    """It changes only what the layer itself made: the same weights as without."""
    batches = samples(10, (8,))
    runs = []
    for inplace in (False, True):
        torch.manual_seed(0)
        layer = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=inplace)).double()
        runs.append(runtime_of([layer, linear(8)], batches))
        run_through(runs[-1], batches)
    assert largest_difference(weights(runs[0]), weights(runs[1])) == 0


@pytest.mark.parametrize(
    ("rows", "module"), [(4, lambda: nn.GRU(8, 8, batch_first=True)), (2, lambda: Calls(lambda x: (x, x)))]
)
def test_a_module_that_returns_a_tuple(rows, module):
    refused(
        [module().double(), linear(8)],
        "layer '0' must give a tensor with the .* rows of its input, not a tuple",
        samples(1, (8,), batch=rows),
    )


@pytest.mark.parametrize(
    "change",
    [lambda x: x.mean(), lambda x: x.mean(0, keepdim=True), lambda x: x[:3], lambda x: torch.cat([x, x])],
)
def test_a_module_that_changes_the_number_of_rows(change):
    refused(
        [Calls(change), linear(8)],
        r"layer '0' must give a tensor with the 4 rows of its input, not \[.*\] float64",
    )


def test_images_taken_for_one_image_without_a_batch():
    """Conv2d takes [4, 8, 8] for one image of 4 channels; its 3 output channels are not 4 rows."""
    refused(
        [nn.Conv2d(4, 3, 3, padding=1).double()],
        r"must give a tensor with the 4 rows of its input, not \[3, 8, 8\]",
        samples(1, (8, 8)),
    )


@pytest.mark.parametrize("outputs", [7, 1])
def test_a_residual_body_that_changes_the_shape_also_where_it_would_broadcast(outputs):
    layers = {"block": lambda: Residual(nn.Linear(8, outputs)).double(), "head": linear(8)}
    refused(network_of(layers), rf"(?s)layer 'block'.*\[4, 8\].*\[4, {outputs}\]")


def test_a_residual_block_over_a_concatenation():
    layers = {"a": linear(8, 8), "b": lambda: Residual(nn.Linear(16, 16)).double(), "c": linear(16)}
    batches = samples(5, (8,))
    runtime = runtime_of(network_of(layers, ["source->b", "a->b", "b->c"], joins={"b": "concat"}), batches)
    run_through(runtime, batches)
    assert runtime.seen_once()


def test_what_is_no_module():
    refused([lambda: 3], "layer '0' is a int, not a torch.nn.Module")
    with pytest.raises(NetworkError, match=r"neither a torch\.nn\.Module nor a function that builds one"):
        Network.of([3], nn.functional.cross_entropy)


def test_shared_weights_are_refused_as_modules_and_as_builders():
    shared = nn.Linear(8, 8).double()
    with pytest.raises(
        NetworkError, match="layers 'a' and 'b' share weights: each layer must own its weights"
    ):
        Network.of({"a": shared, "b": nn.Sequential(shared)}, nn.functional.cross_entropy)
    refused(
        network_of({"a": lambda: shared, "b": lambda: shared, "c": linear(8)}),
        "layers 'a' and 'b' share weights",
    )


# Joins and feedback


@pytest.mark.parametrize("join", ["sum", "concat", "arguments"])
def test_joins_give_what_torch_gives(join):
    """Non-local predictions of the first batch, against the plain formula."""
    layers = {
        "a": linear(8, 6),
        "b": linear(8, 6),
        "c": linear(12 if join == "concat" else 6)
        if join != "arguments"
        else lambda: nn.Bilinear(6, 6, 3).double(),
    }
    runtime = runtime_of(network_of(layers, ["b->c", "a->c"], joins={"c": join}), BATCH, mode="nonlocal")
    a, b, c = (node.spec.layer.pure.module for node in runtime.nodes.values())
    x, y = BATCH[0]
    inputs = {
        "sum": lambda: (b(x) + a(x),),
        "concat": lambda: (torch.cat([b(x), a(x)], 1),),
        "arguments": lambda: (b(x), a(x)),
    }
    (prediction,) = runtime.present(x, y)
    assert (prediction.output - c(*inputs[join]())).abs().max() < 1e-14


def test_feedback_into_a_concatenation_needs_a_shape_and_fits_with_one():
    layers = {"a": linear(13, 8), "b": linear(8, 5), "c": linear(5)}
    bare = network_of(layers, ["a->b", "b->c", "b->a"], joins={"a": "concat"})
    refused(
        bare,
        r"feedback edge b->a: the shape of its signal is not known before the first tick; give the edge shape",
    )
    specs, losses = bare.layers, bare.losses
    edges = (Edge("a", "b"), Edge("b", "c"), Edge("b", "a", shape=(5,)))
    batches = samples(5, (8,))
    runtime = runtime_of(Network(specs, losses, edges), batches)
    run_through(runtime, batches)
    assert runtime.seen_once()
    wrong = (*edges[:2], Edge("b", "a", shape=(4,)))
    layers["a"] = linear(12, 8)
    specs = network_of(layers, joins={"a": "concat"}).layers
    refused(
        Network(specs, losses, wrong), r"feedback edge b->a: 'b' gives \[4, 5\], but 'a' takes \[4, 4\] there"
    )


# Facts


def test_integers_get_no_costate_and_an_embedding_learns():
    torch.manual_seed(0)
    layers = [nn.Embedding(10, 6).double(), nn.Linear(6, 3).double()]
    plain = nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 3)).double()
    plain.load_state_dict(
        {f"{i}.{k}": v for i, layer in enumerate(layers) for k, v in layer.state_dict().items()}
    )
    batches = [(torch.randint(10, (4,)), torch.randint(3, (4,))) for _ in range(20)]
    runtime = runtime_of(layers, batches, mode="nonlocal")
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.1)
    before = everything(runtime.nodes["0"])["parameters.weight"]
    for x, y in batches:
        list(runtime.present(x, y))
        optimiser.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        optimiser.step()
    assert runtime.nodes["0"].spec.facts.wanted == (False,)
    assert largest_difference(weights(runtime), {k: p.detach() for k, p in plain.named_parameters()}) < 1e-13
    assert not torch.equal(weights(runtime)["0.weight"], before)


def test_an_integer_signal_between_layers_returns_nothing():
    layers = {
        "choose": lambda: Calls(lambda x: x.argmax(1)),
        "embed": lambda: nn.Embedding(8, 6).double(),
        "head": linear(6),
    }
    batches = samples(6, (8,))
    runtime = runtime_of(network_of(layers), batches)
    before = weights(runtime)["embed.weight"].clone()
    run_through(runtime, batches)
    assert [node.spec.facts.wanted for node in runtime.nodes.values()] == [(False,), (False,), (True,)]
    assert not torch.equal(weights(runtime)["embed.weight"], before)
    assert runtime.seen_once()


@pytest.mark.parametrize(
    ("module", "random", "batch"),
    [
        (nn.Tanh(), False, False),
        (nn.Dropout(0.3), True, False),
        (nn.RReLU(), True, False),
        (nn.BatchNorm1d(8), False, True),
        (nn.BatchNorm1d(8, track_running_stats=False), False, True),
        (nn.LayerNorm(8), False, False),
        (Calls(lambda x: x - x.mean(0)), False, True),
        (nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.BatchNorm1d(8)), True, True),
        (nn.LazyLinear(8), False, False),
    ],
    ids=str,
)
def test_what_is_random_and_what_looks_at_all_rows(module, random, batch):
    facts = runtime_of([module.double(), linear(8)], BATCH).nodes["0"].spec.facts
    assert (facts.random, facts.batch_statistics) == (random, batch)


def test_lazy_modules_take_their_shape_from_the_first_batch():
    batches = samples(8, (8,))
    runtime = runtime_of([lambda: nn.LazyLinear(6), nn.Tanh(), lambda: nn.LazyLinear(3)], batches)
    before = {key: value.clone() for key, value in weights(runtime).items()}
    assert before["0.weight"].shape == (6, 8)
    assert before["2.weight"].dtype == torch.float64
    run_through(runtime, batches)
    assert largest_difference(weights(runtime), before) > 0
    assert runtime.seen_once()


def test_a_lazy_batch_norm_has_seen_nothing_before_the_first_tick():
    runtime = runtime_of([lambda: nn.LazyBatchNorm1d(), linear(8)], BATCH)
    assert runtime.nodes["0"].carry.buffers["num_batches_tracked"] == 0
    assert not runtime.nodes["0"].carry.buffers["running_mean"].any()


def test_frozen_parameters_stay_and_are_part_of_the_weights_of_the_model():
    layer = nn.Linear(8, 8).double()
    layer.bias.requires_grad_(False)
    batches = samples(5, (8,))
    runtime = runtime_of([layer, linear(8)], batches, rule=learning(weight_decay=0.1))
    run_through(runtime, batches)
    assert torch.equal(runtime.nodes["0"].carry.buffers["bias"], layer.bias)
    assert "bias" not in runtime.nodes["0"].carry.parameters


def test_the_users_modules_stay_as_they_are():
    layers = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).double(), nn.Linear(8, 3).double()]
    before = [{k: v.clone() for k, v in layer.state_dict().items()} for layer in layers]
    batches = samples(5, (8,))
    run_through(runtime_of(layers, batches), batches)
    for layer, state in zip(layers, before, strict=True):
        assert layer.training
        assert all(torch.equal(v, state[k]) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("name", ["a/b", "a.b", "", "a->b"])
def test_a_name_that_could_not_be_a_file_or_a_key_is_refused(name):
    with pytest.raises(NetworkError, match=r"a layer's name is made of letters, digits, '_' and '-', not "):
        Network.of({name: nn.Linear(8, 3)}, nn.functional.cross_entropy)


class Counting(nn.Module):
    """Writes a buffer in evaluation mode, too."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.linear(x)


def test_evaluation_moves_no_buffer_of_a_layer():
    batches = samples(3, (8,))
    runtime = runtime_of([Counting().double()], batches)
    run_through(runtime, batches)
    before = runtime.nodes["0"].carry.buffers["calls"].clone()
    list(runtime.evaluate(batches))
    runtime.predict(batches[0][0])
    assert torch.equal(runtime.nodes["0"].carry.buffers["calls"], before)
    assert before == 3


def test_prediction_with_feedback_into_a_concatenation_hears_zeros_there():
    batches = samples(2, (8,))
    layers = [LayerSpec("a", lambda: nn.Linear(11, 3).double(), "concat")]
    network = Network.of(layers, nn.functional.cross_entropy, [{"from": "a", "to": "a", "shape": [3]}])
    runtime = runtime_of(network, batches, pairing="current", rule=learning(0.0))
    linear = runtime.nodes["a"].carry.parameters
    x = batches[0][0]
    expected = nn.functional.linear(x, linear["weight"][:, :8], linear["bias"])
    assert (runtime.predict(x) - expected).abs().max() < 1e-14
