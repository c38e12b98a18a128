"""Running means of weights: what they are, against a plain sum in the test, and who goes by them.

Tolerance 1e-12 in float64: the same mean, once as a recursion and once as a sum.
"""

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from support.comparing import largest_difference
from support.inline import learning, run_through, runtime_of
from support.networks import cnn, mlp
from support.samples import samples
from torch import Tensor, nn

from hamdist import Learner, load_model, run
from hamdist.config import load
from hamdist.errors import ConfigError, UserError
from hamdist.network.learning import AverageReach
from hamdist.physics.step import Carry
from hamdist.runs.assembly import run_stream
from hamdist.streams import Stream

TOLERANCE = 1e-12


def mean_of(past: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    """Σ aⁿ⁻ᵏ xₖ / Σ aⁿ⁻ᵏ over all updates k = 1 … n; whole numbers are the latest."""
    weights = [decay ** (len(past) - 1 - k) for k in range(len(past))]
    return {
        name: sum(w * x[name] for w, x in zip(weights, past, strict=True)) / sum(weights)
        if latest.is_floating_point()
        else latest
        for name, latest in past[-1].items()
    }


def everything_of(carry: Carry) -> dict[str, Tensor]:
    """Weights and buffers."""
    return {name: tensor.clone() for name, tensor in (carry.parameters | carry.buffers).items()}


@pytest.mark.parametrize(("make", "shape"), [(mlp, (8,)), (cnn, (1, 8, 8))], ids=["mlp", "batch norm"])
def test_mean_of_what_every_update_left(make: Any, shape: tuple[int, ...]) -> None:
    """Of weights and buffers of every layer; before its costate has come once, what the layer began with."""
    batches = samples(30, shape)
    runtime = runtime_of(
        make(), batches, rule=learning(0.1, weight_dissipation=0.5, average=AverageReach(0.9))
    )
    past: dict[str, list[dict[str, Tensor]]] = {name: [] for name in runtime.nodes}
    began = {name: everything_of(node.carry) for name, node in runtime.nodes.items()}
    for x, target in batches:
        before = {name: float(node.carry.updates) for name, node in runtime.nodes.items()}
        list(runtime.present(x, target))
        for name, node in runtime.nodes.items():
            if node.carry.updates > before[name]:
                past[name].append(everything_of(node.carry))
            expected = mean_of(past[name], 0.9) if past[name] else began[name]
            averaged = node.carry.averaged
            assert largest_difference(averaged.parameters | averaged.buffers, expected) < TOLERANCE
    assert all(len(updates) > 20 for updates in past.values())


def test_weights_move_as_they_would_without() -> None:
    batches = samples(20, (8,))
    plain, averaged = (
        runtime_of(mlp(), batches, rule=learning(0.1, **more))
        for more in ({}, {"average": AverageReach(0.9)})
    )
    for one, other in zip(run_through(plain, batches), run_through(averaged, batches), strict=True):
        assert torch.equal(one.output, other.output)
    for name, node in plain.nodes.items():
        assert largest_difference(node.carry.parameters, averaged.nodes[name].carry.parameters) == 0.0
    assert plain.prequential() == averaged.prequential()


@pytest.mark.parametrize(
    ("place", "rows"),
    [({}, 4), ({"hold": 5}, 0.8), ({"mode": "nonlocal", "time": "backward", "horizon": 3}, 12)],
    ids=["one batch", "held", "blocked"],
)
def test_a_reach_in_samples(place: dict[str, Any], rows: float) -> None:
    """What stays at an update is e^(−samples of the update / reach)."""
    place = dict(place)
    learner = Learner(
        mlp(), dtype=torch.float64, locality=place.pop("mode", "local"), average={"samples": 40}, **place
    )
    batches = samples(1, (8,), batch=4)
    learner.step(*batches[0])
    runtime = learner._core.runtime
    assert runtime is not None
    for node in runtime.nodes.values():
        assert node.spec.dynamics.average == pytest.approx(math.exp(-rows / 40), rel=1e-12)


def learner_of(**more: Any) -> Learner:
    return Learner(mlp(), dtype=torch.float64, dissipation={"weight": 0.5}, **more)


def averaged_model(learner: Learner) -> nn.Module:
    """The plain modules, with the means that `layers` shows."""
    model = nn.Sequential(*mlp())
    model.load_state_dict({f"{v.name}.{k}": t for v in learner.layers for k, t in v.average.items()})
    return model


def test_predictions_and_hold_out_go_by_it() -> None:
    learner, batches = learner_of(average=0.9), samples(20, (8,))
    learner.steps(batches)
    learner.drain()
    model, (x, target) = averaged_model(learner), batches[0]
    output = model(x)
    assert torch.allclose(learner.predict(x), output, rtol=0, atol=TOLERANCE)
    assert torch.allclose(learner.plain_model()(x), output, rtol=0, atol=TOLERANCE)
    assert torch.allclose(learner.generate([x], 0)[0], output, rtol=0, atol=TOLERANCE)
    loss = nn.functional.cross_entropy(output, target).item()
    assert learner.evaluate([(x, target)])["loss"] == pytest.approx(loss, abs=TOLERANCE)
    live = learner.layers[0]
    assert largest_difference(live.weights, live.average) > 1e-3


def test_a_state_has_both() -> None:
    """Gone on from, the bits of weights and means are those without the break; as a pickle, too."""
    learner, batches = learner_of(average=0.9), samples(20, (8,))
    learner.steps(batches[:10])
    again = learner_of(average=0.9)
    again.load_training_state(learner.training_state())
    loaded = pickle.loads(pickle.dumps(learner))
    for each in (learner, again, loaded, copy.deepcopy(learner)):
        each.steps(batches[10:])
        for one, other in zip(each.layers, learner.layers, strict=True):
            assert largest_difference(one.average, other.average) == 0.0
            assert largest_difference(one.weights, other.weights) == 0.0
    with pytest.raises(
        UserError, match="average: weights are averaged in the state, and are not averaged here"
    ):
        learner_of().load_training_state(learner.training_state())


def test_loaded_weights_begin_it_anew() -> None:
    learner, batches = learner_of(average=0.9), samples(20, (8,))
    learner.steps(batches)
    state = nn.Sequential(*mlp(seed=3)).state_dict()
    learner.load_state_dict(state)
    assert largest_difference(learner.state_dict(), state) == 0.0
    learner.step(*batches[0])
    assert largest_difference(averaged_model(learner).state_dict(), live(learner)) < TOLERANCE


def live(learner: Learner) -> dict[str, Tensor]:
    return {f"{view.name}.{key}": t for view in learner.layers for key, t in view.weights.items()}


@pytest.mark.usefixtures("folder")
def test_a_run_judges_and_exports_it() -> None:
    """The exported model has the accuracy that the summary tells, to the last sample; the live weights have another."""
    config = ["placement.runtime=inline", "stream.samples=3200", "learning.beta=0.5"]
    stream: Stream = run_stream(load("digits", config).config)
    accuracies = {}
    for average in ("null", "{samples: 800}"):
        summary = run("digits", [*config, f"learning.average={average}"], out=average[0])
        model, found = load_model(average[0]), summary["holdout"]["accuracy"]
        hits = [(model(b.inputs).argmax(1) == b.targets).float() for b in stream.holdout()]
        assert torch.cat(hits).mean().item() == pytest.approx(found, abs=1e-6)
        accuracies[average] = found
    assert accuracies["null"] != accuracies["{samples: 800}"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("1", "average: must be less than 1, got 1"),
        ("0", "average: must be greater than 0, got 0"),
        ("often", r"average: expected a number between 0 and 1, {samples: …}, or null, got 'often'"),
        ("{samples: 0}", r"average\.samples: must be greater than 0, got 0"),
        ("{ticks: 3}", r"average\.ticks: unknown key"),
    ],
)
def test_a_config_says_what_average_is(value: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load("digits", [f"learning.average={value}"])
