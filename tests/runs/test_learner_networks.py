"""Networks as a Learner takes them: losses, their targets and metrics, edges, layers; against plain loops of torch.

Tolerance 1e-12 in float64 over ten batches: the same operations, their sums in another order.
"""

from typing import Any

import pytest
import torch
from support.comparing import largest_difference
from support.networks import network_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from hamdist import Edge, LayerSpec, Learner, LossSpec, Network, plain_model
from hamdist.errors import ConfigError, NetworkError, StreamError

pytestmark = pytest.mark.usefixtures("one_fitter")

TOLERANCE = 1e-12
EXACT: dict[str, Any] = {"dtype": torch.float64, "locality": "nonlocal", "beta": 0.1}
EDGES = ("body -> head", "body -> aux")


def layers() -> dict[str, nn.Module]:
    """The last one listed bears the lesser loss, so that an output is not the last by chance."""
    torch.manual_seed(0)
    made = {"body": nn.Linear(4, 8), "head": nn.Linear(8, 3), "aux": nn.Linear(8, 2)}
    return {name: module.double() for name, module in made.items()}


def batches() -> list[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(5, 4, generator=generator, dtype=torch.float64),
            torch.randint(3, (5,), generator=generator),
            torch.randn(5, 2, generator=generator, dtype=torch.float64),
        )
        for _ in range(10)
    ]


def plain_loop(weight: float) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
    """The weights after ten steps, and both losses before each."""
    model = nn.ModuleDict(layers())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    told = []
    for x, classes, values in batches():
        hidden = model["body"](x)
        losses = cross_entropy(model["head"](hidden), classes), mse_loss(model["aux"](hidden), values)
        optimizer.zero_grad()
        (losses[0] + weight * losses[1]).backward()
        optimizer.step()
        told.append((losses[0].detach(), losses[1].detach()))
    return model.state_dict(), told


WEIGHED = {"type": "mse", "weight": 0.5}
SPELLINGS: dict[str, tuple[Any, tuple[Any, ...], tuple[str, str]]] = {
    "by layer": ({"head": "cross_entropy", "aux": WEIGHED}, EDGES, ("head", "aux")),
    "by name, with edges": (
        {"class": "cross_entropy", "value": WEIGHED},
        (*EDGES, "head -> class", "aux -> value"),
        ("class", "value"),
    ),
    "by name, with layers": (
        {"class": {"type": cross_entropy, "layer": "head"}, "value": {**WEIGHED, "layer": 2}},
        EDGES,
        ("class", "value"),
    ),
    "in a list, as in a config": (
        [{"type": "cross_entropy", "layer": "head"}, {**WEIGHED, "layer": "aux"}],
        (Edge("body", "head"), (0, 2)),
        ("head", "aux"),
    ),
    "LossSpecs": (
        {"class": LossSpec(cross_entropy, "head"), "value": LossSpec(mse_loss, "aux", "mse", 0.5)},
        EDGES,
        ("class", "value"),
    ),
}


@pytest.mark.parametrize(("loss", "edges", "names"), SPELLINGS.values(), ids=list(SPELLINGS))
@pytest.mark.parametrize("settings", [{}, {"stack": True}], ids=["node by node", "stacked"])
def test_several_losses_learn_as_their_weighted_sum(loss: Any, edges: Any, names: Any, settings: Any):
    learner = Learner(layers(), loss, edges=edges, **EXACT, **settings)
    first, second = names
    learner.steps((x, {first: classes, second: values}) for x, classes, values in batches())
    weights, told = plain_loop(0.5)
    assert largest_difference(learner.state_dict(), weights) < TOLERANCE
    metrics = learner.metrics
    assert set(metrics) == {"loss", "accuracy", f"{second}.loss", f"{second}.mae"}
    for place, key in enumerate(("loss", f"{second}.loss")):
        assert abs(metrics[key] - torch.stack([pair[place] for pair in told]).mean().item()) < TOLERANCE


def test_a_network_of_specs_takes_losses_and_edges_as_strings():
    specs = tuple(LayerSpec(name, lambda module=module: module) for name, module in layers().items())
    network = Network(specs, {"head": "cross_entropy", "aux": WEIGHED}, EDGES)
    assert network == Network(specs, network.losses, network.edges)
    learner = Learner(network, **EXACT)
    for x, classes, values in batches():
        learner.step(x, {"head": classes, "aux": values})
    assert largest_difference(learner.state_dict(), plain_loop(0.5)[0]) < TOLERANCE


def test_held_out_targets_go_by_loss_too_and_the_plain_model_says_what_the_first_loss_judges():
    learner = Learner(layers(), {"head": "cross_entropy", "aux": "mse"}, edges=EDGES, **EXACT)
    learner.steps((x, {"head": classes, "aux": values}) for x, classes, values in batches())
    x, classes, values = batches()[3]
    found = learner.evaluate([(x, {"aux": values, "head": classes})])
    model = plain_model(learner.network, dtype=torch.float64)
    model.load_state_dict(learner.state_dict())
    output, hidden = model(x), model.body(x)
    assert (output - learner.predict(x)).abs().max() < TOLERANCE
    assert abs(found["loss"] - cross_entropy(output, classes).item()) < TOLERANCE
    assert abs(found["aux.loss"] - mse_loss(model.aux(hidden), values).item()) < TOLERANCE


def gaps(batch: int) -> tuple[Tensor, Tensor]:
    """The rows that lack a class, and those that lack values: some, all of one kind, all of both, none."""
    generator = torch.Generator().manual_seed(batch)
    classless, valueless = (torch.rand(5, generator=generator) < 0.4 for _ in range(2))
    classless[:] = True if batch in (3, 6) else False if batch == 5 else classless
    valueless[:] = True if batch in (4, 6) else False if batch == 5 else valueless
    return classless, valueless


@pytest.mark.parametrize("settings", [{}, {"stack": True, "chunk": 2}], ids=["node by node", "stacked"])
def test_each_loss_may_lack_targets_of_its_own(settings: Any):
    """A loss is the mean over the rows that have its target; where none has any, no weight moves."""
    learner = Learner(layers(), {"head": "cross_entropy", "aux": WEIGHED}, edges=EDGES, **EXACT, **settings)
    model = nn.ModuleDict(layers())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    given, lacking = [], torch.zeros(2)
    for number, (x, classes, values) in enumerate(batches()):
        classless, valueless = gaps(number) if number else (torch.zeros(5, dtype=torch.bool),) * 2
        lacking += torch.stack((classless.sum(), valueless.sum()))
        told = {"head": classes.masked_fill(classless, -100), "aux": values.clone()}
        told["aux"][valueless] = torch.nan
        given.append((x, None if number == 6 else told))
        hidden, losses = model["body"](x), []
        if not classless.all():
            losses.append(cross_entropy(model["head"](hidden)[~classless], classes[~classless]))
        if not valueless.all():
            losses.append(0.5 * mse_loss(model["aux"](hidden)[~valueless], values[~valueless]))
        if losses:
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
    learner.steps(given)
    assert largest_difference(learner.state_dict(), model.state_dict()) < TOLERANCE
    assert learner.metrics["unlabelled"] == lacking[0]
    assert learner.metrics["aux.unlabelled"] == lacking[1]


def test_one_target_for_all_losses_goes_on_as_it_did():
    builders = {"a": lambda: nn.Linear(4, 3), "b": lambda: nn.Linear(3, 3)}
    learner = Learner(network_of(builders, losses={"loss": "b", "early": "a"}), **EXACT)
    x, classes, _ = batches()[0]
    learner.step(x, classes)
    assert set(learner.metrics) == {"loss", "accuracy", "early.loss", "early.accuracy"}


WRONG_LOSSES: list[tuple[Any, type[Exception], str]] = [
    (
        {"class": "cross_entropy", "aux": "mse"},
        ConfigError,
        "loss.class: no layer is called 'class', and no edge leads to it: call a loss by the layer that bears",
    ),
    (
        {"head": {"typ": "mse"}, "aux": "mse"},
        ConfigError,
        "loss.head: unknown key 'typ'; did you mean 'type'?",
    ),
    (
        {"head": "mse", "aux": {**WEIGHED, "weight": 0}},
        ConfigError,
        "loss.aux.weight: must be a number greater than 0, got 0",
    ),
    ({"head": "msee", "aux": "mse"}, ConfigError, "loss.head: there is no loss 'msee'; did you mean 'mse'?"),
    (
        {"head": {"type": "mse", "layer": "z"}, "aux": "mse"},
        NetworkError,
        "layer 'z' bears a loss but does not exist",
    ),
    (["mse", "mse"], ConfigError, "loss: layer 'aux' bears two losses: give each a name, and an edge to it"),
    ({}, ConfigError, "a network needs at least one loss"),
]


@pytest.mark.parametrize(("loss", "kind", "message"), WRONG_LOSSES, ids=[m[:40] for *_, m in WRONG_LOSSES])
def test_wrong_losses(loss: Any, kind: type[Exception], message: str):
    with pytest.raises(kind) as caught:
        Learner(layers(), loss, edges=EDGES)
    assert str(caught.value).startswith(message)


X, CLASSES, VALUES = batches()[0]
WRONG_TARGETS: list[tuple[Any, str]] = [
    ({"head": CLASSES}, "targets of head, where the losses are head, aux"),
    (
        {"head": CLASSES, "aux": VALUES, "more": VALUES},
        "targets of head, aux, more, where the losses are head, aux",
    ),
    ({"head": CLASSES, "aux": VALUES[:2]}, "targets of 5, 2 rows"),
    ({"head": CLASSES, "aux": VALUES / 0}, "target 'aux' holds values that are not finite"),
    (
        {"head": VALUES, "aux": VALUES},
        "target 'head' is of shape (2,) and float64, where it was of shape () and int64 before",
    ),
    (CLASSES, "targets are given by loss, {name: target}, as the first batch had them"),
]


@pytest.mark.parametrize(("target", "message"), WRONG_TARGETS, ids=[m[:40] for _, m in WRONG_TARGETS])
def test_wrong_targets(target: Any, message: str):
    learner = Learner(layers(), {"head": "cross_entropy", "aux": "mse"}, edges=EDGES, **EXACT)
    learner.step(X, {"head": CLASSES, "aux": VALUES})
    with pytest.raises(StreamError) as caught:
        learner.step(X, target)
    assert str(caught.value) == f"the batch at sample 5: {message}"


WRONG_EDGES: list[tuple[Any, str]] = [
    ("body->head", "edges: expected a list of edges, as in ['0->1', '1->2'], got 'body->head'"),
    ([(0, 1, 2)], "edge (0, 1, 2) is not of the form 'from->to'"),
    ([3], "edge 3 is not of the form 'from->to'"),
    (["body"], "edge 'body' is not of the form 'from->to'"),
    (
        [{"from": 0, "to": 1, "dealy": 2}],
        "edge {'from': 0, 'to': 1, 'dealy': 2}: unknown key 'dealy'; did you mean 'delay'?",
    ),
    ([{"from": 0}], "edge {'from': 0} needs both ends: {'from': …, 'to': …}"),
    (
        [{"from": 0, "to": 1, "delay": "2"}],
        "edge {'from': 0, 'to': 1, 'delay': '2'}: a delay is a whole number of ticks, not '2'",
    ),
    (
        [Edge("body", "head", feedback=True)],
        "edge body->head: feedback is what leads to an earlier layer or itself",
    ),
]


@pytest.mark.parametrize(("edges", "message"), WRONG_EDGES, ids=[m[:40] for _, m in WRONG_EDGES])
def test_wrong_edges(edges: Any, message: str):
    with pytest.raises(NetworkError) as caught:
        Learner(layers(), "mse", edges=edges)
    assert str(caught.value).startswith(message)


def test_a_network_of_modules_is_told_how_it_is_made():
    with pytest.raises(
        NetworkError, match=r"^a Network is made of LayerSpecs; Network\.of makes one of modules$"
    ):
        Network((nn.Linear(4, 3),), {"loss": "mse"})


WRONG_SPECS: list[tuple[dict[str, Any], str]] = [
    ({"build": nn.Linear(4, 3)}, "layer 'a': build is a function that makes the module, not Linear("),
    ({"join": "cat"}, "layer 'a': join is one of sum, concat, arguments, not 'cat'"),
    ({"reads": "late"}, "layer 'a': reads is one of new, old, not 'late'"),
    ({"relaxing": "2"}, "layer 'a': relaxing is a number or None, not '2'"),
    ({"name": 3}, "layer 3: a layer's name is text, not 3"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_SPECS, ids=[m[:40] for _, m in WRONG_SPECS])
def test_wrong_specs(change: dict[str, Any], message: str):
    with pytest.raises(NetworkError) as caught:
        LayerSpec(**{"name": "a", "build": lambda: nn.Linear(4, 3), **change})
    assert str(caught.value).startswith(message)


def test_a_function_that_builds_nothing():
    with pytest.raises(NetworkError, match=r"^layer '0' could not be built: TypeError: .*'in_features'"):
        Learner([nn.Linear], "mse").step(X, VALUES)


def test_a_network_alone_has_a_plain_model():
    with pytest.raises(
        NetworkError, match=r"^plain_model takes a Network, not a list: Network\.of makes one"
    ):
        plain_model([nn.Linear(4, 3)])
