"""on_bad: skip: samples whose loss is not finite are as if they had no target, counted apart, and named."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.actors import Ensemble
from support.inline import learning, run_through, runtime_of, weights
from support.networks import network_of, relaxed, residual_net, reversible_net
from support.samples import Batches
from torch import Tensor, nn
from torch.nn import functional as F

from hamdist.engine import skipped_losses
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.spec import STACKED
from hamdist.errors import DivergenceError, NetworkError
from hamdist.network.learning import Learning
from hamdist.network.locality import Horizon, Locality
from hamdist.network.network import Network
from hamdist.physics.rates import Adam

pytestmark = pytest.mark.usefixtures("one_fitter")

BAD = (3, 4, 9)
FAR = 1e200  # its square is infinite in float64
RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"weight_dissipation": 0.1},
    "adam": {"adaptive": Adam()},
    "decay": {"weight_decay": 0.1},
}
PLACES: dict[str, dict[str, Any]] = {
    "nonlocal": {"mode": "nonlocal"},
    "local": {},
    "graphs": {"stash": "graph"},
    "current": {"pairing": "current"},
    "settled": {"pairing": "current", "gate": "settled", "hold": 8},
}


def skipping(beta: float = 0.05, **constants: Any) -> Learning:
    return replace(learning(beta, **constants), skips=True)


def batches(width: int = 3, count: int = 14) -> Batches:
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(4, 8, generator=generator).double(), torch.randn(4, width, generator=generator).double())
        for _ in range(count)
    ]


def with_targets(value: float, given: Batches) -> Batches:
    """The bad ones have this target in every row, or in one where it is a number."""
    found = []
    for number, (x, y) in enumerate(given):
        y = y.clone()
        if number in BAD:
            y[slice(None) if value != value else 1] = value
        found.append((x, y))
    return found


def both(
    place: dict[str, Any], given: Batches, layers: Any = residual_net, **rule: Any
) -> tuple[InlineRuntime, ...]:
    """After samples whose loss is infinite, left out; and after the same samples without a target."""
    runs = []
    for value, how in ((FAR, skipping(**rule)), (torch.nan, learning(0.05, **rule))):
        said = with_targets(value, given)
        runtime = runtime_of(layers(4), given, F.mse_loss, rule=how, **place)
        run_through(runtime, said)
        runs.append(runtime)
    return tuple(runs)


def assert_same(one: InlineRuntime, other: InlineRuntime) -> None:
    for name, node in one.nodes.items():
        mine, its = node.carry, other.nodes[name].carry
        for kind in ("parameters", "weight_costate", "moments"):
            for key, value in getattr(mine, kind).items():
                assert torch.equal(value, getattr(its, kind)[key]), (name, kind, key)
        assert torch.equal(mine.updates, its.updates)
        assert node.ledger == other.nodes[name].ledger


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("place", PLACES)
def test_samples_whose_loss_is_not_finite_are_as_if_they_had_no_target(place: str, rule: str) -> None:
    left_out, missing = both(PLACES[place], batches(), **RULES[rule])
    assert_same(left_out, missing)
    assert left_out.seen_once()
    told, expected = left_out.loss.prequential.total(), missing.loss.prequential.total()
    assert expected.pop("unlabelled") == told.pop("skipped") == 4 * len(BAD)
    assert told == expected


@pytest.mark.parametrize("pairing", ["reversible", "stashed"])
def test_layers_that_are_inverted_for_it(pairing: str) -> None:
    assert_same(*both({"pairing": pairing}, batches(), reversible_net, weight_dissipation=0.1))


@pytest.mark.parametrize("actors", [["01", "23"], ["0", "13", "2"]])
def test_over_actors(actors: list[str]) -> None:
    given = with_targets(FAR, batches())
    alone = runtime_of(residual_net(4), given, F.mse_loss, rule=skipping(weight_dissipation=0.1))
    run_through(alone, given)
    network = Network.of(residual_net(4), F.mse_loss)
    rule = skipping(weight_dissipation=0.1)
    with Ensemble(network, Locality(), rule, given, [list(names) for names in actors]) as ensemble:
        outcomes, _ = ensemble.run()
        for name, node in ensemble.nodes.items():
            for key, value in alone.nodes[name].carry.parameters.items():
                assert torch.equal(node.carry.parameters[key], value)
            assert node.ledger == alone.nodes[name].ledger
    (told,) = [found["loss"] for outcome in outcomes if (found := outcome.prequential)]
    assert told == alone.loss.prequential.total()


class Log(nn.Module):
    """No number, and no derivative, below 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x)


def bounded(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(torch.tanh(output[:, :3]), target)


@pytest.mark.parametrize("place", ["nonlocal", "local", "graphs"])
def test_nothing_that_is_not_finite_is_handed_on(place: str) -> None:
    """The bad samples make ∞ in the midst, and 0 · ∞ on the way back, where another loss joins it: that one drives."""
    torch.manual_seed(0)
    layers = [layer.double() for layer in (nn.Linear(8, 8), nn.Softplus(), Log(), nn.Linear(8, 3))]
    given = [(x.abs(), y) for x, y in batches()]
    said = [(x - 1e6 * (n in BAD), y) for n, (x, y) in enumerate(given)]
    network, rule = Network.of(layers, {"3": F.mse_loss, "0": bounded}), skipping(0.01, adaptive=Adam())
    runtime = runtime_of(network, given, rule=rule, **PLACES[place])
    run_through(runtime, said)
    assert all(bool(value.isfinite().all()) for value in weights(runtime).values())
    drives = {name: node.ledger.drives for name, node in runtime.nodes.items()}
    assert (drives["0"], drives["3"]) == (len(given), len(given) - len(BAD))
    assert runtime.loss.prequential.total()["skipped"] == 4 * len(BAD)


def test_a_derivative_that_is_not_finite_is_left_out_too() -> None:
    def root(output: Tensor, target: Tensor) -> Tensor:
        return (output * target).abs().sqrt().mean()

    given = batches()
    given = [(x, torch.zeros_like(y) if n in BAD else y) for n, (x, y) in enumerate(given)]
    runtime = runtime_of(residual_net(3), given, root, rule=skipping())
    run_through(runtime, given)
    assert all(bool(value.isfinite().all()) for value in weights(runtime).values())
    assert runtime.loss.prequential.total()["skipped"] == 4 * len(BAD)


def two_losses(bad: bool) -> Network:
    def aux(output: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(output[:, :3], target)

    def main(output: Tensor, target: Tensor) -> Tensor:
        far = (target.abs() > 1e3).any()
        return F.mse_loss(output, torch.zeros_like(target)) * (
            torch.inf if far and bad else 0.0 if far else 1.0
        )

    return Network.of(residual_net(4), {"3": main, "1": aux})


@pytest.mark.parametrize("place", ["nonlocal", "local"])
def test_of_several_losses_the_finite_ones_drive_what_they_reach(place: str) -> None:
    """The layers behind the other loss pass the sample; those before it learn from it as if the bad loss were 0."""
    given = [(x, y + 1e4 * (n in BAD)) for n, (x, y) in enumerate(batches())]
    runs = []
    for rule, bad in ((skipping(0.001), True), (learning(0.001), False)):
        runtime = runtime_of(two_losses(bad), given, rule=rule, **PLACES[place])
        run_through(runtime, given)
        runs.append(runtime)
    for name, value in weights(runs[1]).items():
        assert torch.equal(weights(runs[0])[name], value), name
    drives = {name: node.ledger.drives for name, node in runs[0].nodes.items()}
    few = len(given) - len(BAD)
    assert drives == {"0": len(given), "1": len(given), "2": few, "3": few}
    assert runs[0].seen_once()
    scores = {node: loss.prequential.total().get("skipped") for node, loss in runs[0].losses.items()}
    assert sorted(scores.values(), key=str) == [4 * len(BAD), None]


def test_hold_out_samples_are_left_out_of_their_scores() -> None:
    given = batches()
    runtime = runtime_of(residual_net(2), given, F.mse_loss, rule=skipping())
    run_through(runtime, given)
    list(runtime.evaluate(given[:2]))
    whole = runtime.loss.holdout.window()
    list(runtime.evaluate([*given[:2], (given[2][0], torch.full_like(given[2][1], FAR))]))
    assert runtime.loss.holdout.window() == whole | {"skipped": 4}


def test_the_first_are_named_and_the_others_counted(caplog: pytest.LogCaptureFixture) -> None:
    given = [(x, y + FAR * (n % 2)) for n, (x, y) in enumerate(batches())]
    runtime = runtime_of(residual_net(3), given, F.mse_loss, rule=skipping())
    with caplog.at_level(logging.WARNING):
        run_through(runtime, given)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == skipped_losses.NAMED
    assert told[0] == (
        "the loss mse_loss of samples 4 to 7 is inf at tick 3: it is left out, as on_bad says, and nothing is learnt "
        "from it"
    )
    assert told[-1].endswith("; what follows is counted only")
    assert runtime.loss.prequential.total()["skipped"] == 4 * 7


def test_weights_that_are_not_finite_are_no_matter_of_samples() -> None:
    given = batches()
    runtime = runtime_of(residual_net(3), given, F.mse_loss, rule=skipping())
    run_through(runtime, given[:5])
    carry = runtime.nodes["1"].carry
    broken = {name: torch.full_like(weight, torch.nan) for name, weight in carry.parameters.items()}
    runtime.nodes["1"].carry = carry._replace(parameters=broken)
    with pytest.raises(DivergenceError, match="the weights of layer '1' are not finite"):
        run_through(runtime, given[5:])


def test_losses_that_are_never_finite_again_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skipped_losses, "IN_A_ROW", 6)
    given = batches(count=20)
    said = [(x, y + FAR * (n >= 10 or n in (1, 2, 3, 4, 5))) for n, (x, y) in enumerate(given)]
    runtime = runtime_of(residual_net(2), given, F.mse_loss, rule=skipping(), mode="nonlocal")
    with pytest.raises(DivergenceError, match="of samples 60 to 63 is inf at tick 15"):
        run_through(runtime, said)


@pytest.mark.parametrize(
    ("network", "place", "why"),
    [
        (lambda: [nn.Linear(8, 8), nn.GRUCell(8, 8), nn.Linear(8, 3)], {}, "layer '1' has a memory"),
        (lambda: relaxed(residual_net(3), 1.0), {}, "layer '0' has a state that relaxes"),
        (lambda: [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)], {}, "layer '1' moves .*running_mean"),
        (lambda: residual_net(3), {"horizon": Horizon(4)}, "costates that go back in time"),
        (
            lambda: network_of(
                {"a": lambda: nn.Linear(8, 8), "b": lambda: nn.Linear(8, 8), "c": lambda: nn.Linear(8, 3)},
                ["source->a", "a->b", "a->c", "b->c"],
            ),
            {"balance": False, "pairing": "current"},
            "joins out of balance",
        ),
        (
            lambda: network_of(
                {"a": lambda: nn.Linear(8, 8), "b": lambda: nn.Linear(8, 8), "c": lambda: nn.Linear(8, 3)},
                ["source->a", "a->b", "b->c", "b->a"],
            ),
            {"pairing": "current"},
            "what feedback brings back .*b->a.* stays bad",
        ),
    ],
    ids=["memory", "relaxing", "buffers", "windows", "joins", "feedback"],
)
def test_what_keeps_something_of_every_sample_is_refused(
    network: Any, place: dict[str, Any], why: str
) -> None:
    made = network()
    given = batches()
    layers = made if isinstance(made, Network) else [layer.double() for layer in made]
    with pytest.raises(
        NetworkError, match=f"^on_bad: 'skip' leaves out .* but {why}.*set on_bad to 'stop' or"
    ):
        runtime_of(layers, given, F.mse_loss, rule=skipping(), **place)


def test_ticks_run_node_by_node() -> None:
    given = batches()
    runtime = runtime_of(residual_net(3), given, F.mse_loss, rule=skipping(), execution=STACKED)
    assert runtime.execution["node_by_node"] == "on_bad: skip looks at each loss before it is learnt from"
