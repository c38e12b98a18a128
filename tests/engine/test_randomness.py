"""Randomness that repeats: dropout recomputed or held draws the same mask, and nobody else's generator is touched."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.comparing import largest_difference, same_bits
from support.delayed_gradients import delayed_gradients
from support.dropout import Reseeded, dropping
from support.inline import learning, run_through, runtime_of, weights
from support.networks import mlp, network_of
from support.samples import samples
from torch import Tensor, nn

from hamdist.network.network import Network
from hamdist.physics.randomness import derive_seed


class Logged(nn.Module):
    """Dropout of one half, which writes down every input and the mask it drew for it."""

    def __init__(self, log: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.log = log

    def __deepcopy__(self, memo: dict) -> "Logged":
        return Logged(self.log)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask = torch.rand(x.shape) > 0.5
        self.log.append((x.detach().clone(), mask))
        return x * mask * 2


def masks_by_input(log):
    """For every input, all the masks that were drawn for it."""
    found: dict[tuple[float, ...], list[Tensor]] = {}
    for x, mask in log:
        found.setdefault(tuple(x.flatten().tolist()), []).append(mask)
    return found


# Masks


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 4])
def test_dropout_recomputed_repeats_its_mask(depth):
    """Against a plain loop of delayed gradients that reseeds for every sample; tolerance 1e-10."""
    batches = samples(40, (8,))
    runtime = runtime_of(dropping(depth), batches, rule=learning(0.1))
    run_through(runtime, batches)
    oracle = [Reseeded(layer, str(i), 4) for i, layer in enumerate(dropping(depth))]
    expected = delayed_gradients(oracle, batches, [0.1] * depth, 0.0)
    expected = {key.replace(".inner.", "."): value for key, value in expected.items()}
    assert largest_difference(weights(runtime), expected) < 1e-10


@pytest.mark.parametrize(("hold", "times"), [(1, 2), (3, 6)])
def test_a_sample_has_one_mask_however_often_it_is_evaluated(hold, times):
    """Stashed: once when evaluated and once when recomputed, on each tick of its hold."""
    log: list[tuple[Tensor, Tensor]] = []
    batches = samples(10, (8,))
    runtime = runtime_of([nn.Sequential(Logged(log), nn.Linear(8, 8)).double(), *mlp(2)], batches, hold=hold)
    log.clear()
    run_through(runtime, batches)
    drawn = masks_by_input(log)
    assert len(drawn) == 10
    assert {len(masks) for masks in drawn.values()} == {times}
    assert all(torch.equal(masks[0], mask) for masks in drawn.values() for mask in masks)


def test_two_samples_and_two_layers_draw_differently():
    logs: list[list[tuple[Tensor, Tensor]]] = [[], []]
    batches = [(torch.ones(4, 8).double(), y) for _, y in samples(10, (8,))]
    layers = [Logged(logs[0]), Logged(logs[1]), nn.Linear(8, 3).double()]
    runtime = runtime_of(layers, batches, mode="nonlocal", rule=learning(0.0))
    for log in logs:
        log.clear()
    run_through(runtime, batches)
    masks = [mask for log in logs for _, mask in log]
    assert len(masks) == 20
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 20


def test_two_runs_with_one_seed_are_the_same_bits_and_with_two_are_not():
    batches = samples(10, (8,))
    runs = [runtime_of(dropping(), batches, seed=seed) for seed in (0, 0, 1)]
    for salt, runtime in enumerate(runs):
        torch.manual_seed(salt)  # the global generator has no say
        run_through(runtime, batches)
    assert same_bits(runs[0], runs[1])
    assert not same_bits(runs[0], runs[2])


# The global generator


class Noise(nn.Module):
    """Adds noise in training and in evaluation alike."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


@pytest.mark.parametrize("module", [nn.Dropout(0.5), Noise()])
@pytest.mark.parametrize("pairing", ["current", "stashed"])
def test_the_global_generator_is_left_as_it_was(module, pairing):
    batches = samples(4, (8,))
    builders = {"a": lambda: nn.Sequential(nn.Linear(8, 8), module).double(), "b": lambda: nn.LazyLinear(3)}
    before = torch.get_rng_state()
    runtime = runtime_of(network_of(builders), batches, pairing=pairing)
    run_through(runtime, batches)
    list(runtime.evaluate(batches))
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_in_evaluation_is_the_same_in_every_run():
    batches = samples(4, (8,))
    outputs = []
    for salt in (0, 1):
        runtime = runtime_of([Noise(), *mlp(2)], batches, mode="nonlocal")
        torch.manual_seed(salt)
        outputs.append([p.output for p in runtime.evaluate(batches)])
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))
    assert not torch.equal(outputs[0][0], outputs[0][1])


# Weights


def drawn(builders, seed=0):
    runtime = runtime_of(network_of(builders), samples(1, (8,)), seed=seed)
    return weights(runtime)


@pytest.mark.parametrize("kind", [lambda: nn.Linear(8, 8), lambda: nn.LazyLinear(8)], ids=["linear", "lazy"])
def test_weights_depend_on_the_seed_and_the_name_of_their_layer_only(kind):
    few, more = {"a": kind, "b": kind}, {"new": kind, "b": kind, "between": kind, "a": kind}
    torch.manual_seed(1)
    first = drawn(few)
    torch.manual_seed(2)
    second = drawn(more)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["a.weight"], first["b.weight"])
    assert not torch.equal(first["a.weight"], drawn(few, seed=1)["a.weight"])


def test_modules_handed_over_keep_their_weights_whatever_the_seed():
    layer = nn.Linear(8, 3).double()
    network = Network.of({"a": layer}, nn.functional.cross_entropy)
    for seed in (0, 1):
        assert torch.equal(
            weights(runtime_of(network, samples(1, (8,)), seed=seed))["a.weight"], layer.weight
        )


def test_seeds_depend_on_every_part_and_on_their_order():
    parts = [
        (0, "a", 1),
        (0, "a", 2),
        (1, "a", 1),
        (0, "b", 1),
        ("a", 0, 1),
        (0, "a1"),
        (0, "a"),
        (0, "a", "1", ""),
    ]
    assert len({derive_seed(*p) for p in parts}) == len(parts)
    assert all(0 <= derive_seed(*p) < 2**63 for p in parts)


# Batch statistics


def first_normed():
    torch.manual_seed(0)
    return [
        nn.BatchNorm1d(8).double(),
        nn.Sequential(nn.Linear(8, 8), nn.Tanh()).double(),
        nn.Linear(8, 3).double(),
    ]


@pytest.mark.parametrize(
    ("hold", "place"),
    [(1, {}), (3, {}), (3, {"mode": "nonlocal"}), (7, {"gate": "settled", "pairing": "current"})],
)
def test_running_statistics_are_those_of_plain_training_once_a_sample(hold, place):
    """Over raw inputs, which no weight has touched; the last batch is short."""
    batches = samples(9, (8,))
    batches[-1] = tuple(t[:2] for t in batches[-1])
    runtime = runtime_of(first_normed(), batches, hold=hold, **place)
    run_through(runtime, batches)
    plain = nn.BatchNorm1d(8).double()
    for x, _ in batches:
        plain(x)
    assert largest_difference(runtime.nodes["0"].carry.buffers, dict(plain.named_buffers())) < 1e-15
    assert runtime.nodes["0"].carry.buffers["num_batches_tracked"] == 9


def test_running_statistics_behind_weights_that_learn_through_delays():
    """Each sample is counted at its first evaluation, with the weights of that tick, and not when recomputed."""

    class Counted(nn.Module):
        """For the plain loop: statistics move in evaluations only."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            if not x.requires_grad:
                return self.inner(x)
            thrown_away = {k: b.clone() for k, b in self.inner.named_buffers()}
            return torch.func.functional_call(self.inner, thrown_away, (x,))

    def make():
        torch.manual_seed(0)
        return [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh()).double() for _ in range(3)] + [
            nn.Linear(8, 3).double()
        ]

    batches = samples(20, (8,))
    runtime = runtime_of(make(), batches)
    run_through(runtime, batches)
    oracle = [Counted(layer) for layer in make()]
    delayed_gradients(oracle, batches, [0.1] * 4, 0.0)
    for node, layer in zip(runtime.nodes.values(), oracle, strict=True):
        expected = dict(layer.inner.named_buffers())
        assert node.carry.buffers.keys() == expected.keys()
        assert not expected or largest_difference(node.carry.buffers, expected) < 1e-10


@pytest.mark.parametrize("place", [{}, {"mode": "nonlocal"}])
def test_a_buffer_that_its_module_assigns_anew_is_kept(place):
    """`self.mean = …` in place of `self.mean.copy_(…)`: the usual idiom of a moving average."""

    class Average(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
            return x - self.mean

    batches = samples(5, (8,))
    runtime = runtime_of([Average().double(), *mlp(2)], batches, **place)
    run_through(runtime, batches)
    expected = torch.zeros(8).double()
    for x, _ in batches:
        expected = 0.9 * expected + 0.1 * x.mean(0)
    assert (runtime.nodes["0"].carry.buffers["mean"] - expected).abs().max() < 1e-15


def test_networks_in_two_threads_draw_as_they_do_alone():
    """Torch's generators are the whole process's; each draw has them to itself. Bitwise."""
    batches = samples(40, (8,))

    def learn(seed):
        builders = {
            "a": lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).double(),
            "b": lambda: nn.Linear(8, 3),
        }
        runtime = runtime_of(network_of(builders), batches, seed=seed)
        run_through(runtime, batches)
        return weights(runtime)

    alone = [learn(seed) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(learn, (0, 1)))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(alone, together, strict=True) for key in a)
