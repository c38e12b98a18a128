"""Training and evaluation mode, and frozen weights, of modules given to a Learner: against plain loops of torch.

Tolerance 1e-10 in float64 over twenty batches: the same sums in another order.
"""

import copy
from typing import Any

import pytest
import torch
from support.comparing import largest_difference
from support.samples import samples
from torch import nn

from hamdist import Learner, Network
from hamdist.config.network_schema import NetworkConfig
from hamdist.errors import EvaluationModeWarning
from hamdist.runs.assembly import network_of

pytestmark = pytest.mark.usefixtures("one_fitter")

TOLERANCE = 1e-10
EXACT: dict[str, Any] = {"dtype": torch.float64, "locality": "nonlocal", "beta": 0.2}


def normed() -> nn.Sequential:
    """Two batch-norms, whose statistics tell in which mode they learnt."""
    torch.manual_seed(0)
    hidden = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh())
    return nn.Sequential(hidden, nn.BatchNorm1d(8), nn.Linear(8, 3)).double()


def plain_loop(model: nn.Module, batches: Any) -> dict[str, torch.Tensor]:
    """The model after so many steps of SGD, in the mode that it is in."""
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.2)
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.state_dict()


def learnt(model: Any, batches: Any, **settings: Any) -> dict[str, torch.Tensor]:
    learner = Learner(model, **EXACT, **settings)
    learner.steps(batches)
    learner.drain()
    return learner.state_dict()


def test_a_model_in_evaluation_mode_as_a_whole_learns_in_training_mode_and_that_is_said():
    batches, model = samples(20, (6,)), normed()
    expected = plain_loop(copy.deepcopy(model), batches)
    with pytest.warns(
        EvaluationModeWarning, match=r"in evaluation mode as a whole, .* call train\(\)"
    ) as told:
        ours = learnt(model.eval(), batches)
    assert told[0].filename == __file__
    assert largest_difference(ours, expected) < TOLERANCE
    assert not any(part.training for part in model.modules())


def test_layers_that_are_all_in_evaluation_mode_are_a_whole():
    batches, layers = samples(20, (6,)), list(normed().eval())
    with pytest.warns(EvaluationModeWarning):
        ours = learnt(layers, batches)
    assert largest_difference(ours, plain_loop(normed(), batches)) < TOLERANCE


FROZEN = {"a part of a layer": lambda model: model[0][1], "a layer": lambda model: model[1]}


@pytest.mark.parametrize("part", FROZEN.values(), ids=list(FROZEN))
@pytest.mark.parametrize("settings", [{}, {"stack": True}], ids=["node by node", "stacked"])
def test_parts_alone_in_evaluation_mode_stay_so(part: Any, settings: dict[str, Any]):
    """A frozen batch-norm uses its running statistics, which do not move; its weights learn."""
    batches, model, plain = samples(20, (6,)), normed(), normed()
    for each in (model, plain):
        part(each).running_mean.fill_(0.3)
        part(each).eval()
    ours = learnt(model, batches, **settings)
    assert largest_difference(ours, plain_loop(plain, batches)) < TOLERANCE
    key = "0.1.running_mean" if part(model) is model[0][1] else "1.running_mean"
    assert torch.equal(ours[key], torch.full((8,), 0.3, dtype=torch.float64))


def test_weights_that_require_no_gradient_stay_as_they_are():
    batches, model, plain = samples(20, (6,)), normed(), normed()
    for each in (model, plain):
        each[0].requires_grad_(False)
        each[2].bias.requires_grad_(False)
    ours = learnt(model, batches, weight_decay=0.1)
    frozen = {key: value for key, value in model.state_dict().items() if key in ("0.0.weight", "2.bias")}
    assert largest_difference({key: ours[key] for key in frozen}, frozen) == 0
    assert largest_difference(learnt(model, batches), plain_loop(plain, batches)) < TOLERANCE


def test_what_a_function_builds_is_not_taken_for_a_whole():
    """A frozen backbone beside a new head: nothing is switched, and nothing said."""
    backbone = normed()[0].eval()
    network = Network.of([backbone, lambda: nn.Linear(8, 3)], "cross_entropy")
    assert not any(part.training for part in network.layers[0].build().modules())


def sleeping() -> nn.Sequential:
    return normed().eval()


def test_a_factory_of_a_config_is_no_other():
    config = NetworkConfig(loss="cross_entropy", factory=f"{__name__}:sleeping")
    with pytest.warns(EvaluationModeWarning):
        network = network_of(config, 0)
    assert all(part.training for spec in network.layers for part in spec.build().modules())


@pytest.mark.parametrize("edges", [None, ["a->b", "a->c", "b->c"]], ids=["chain", "graph"])
def test_a_plain_model_in_evaluation_mode_learns_on_in_training_mode(edges: Any):
    """As load_model returns it: batch-norm learns on from the statistics that it had."""
    builders = {"a": lambda: nn.Linear(6, 6), "b": lambda: nn.BatchNorm1d(6), "c": lambda: nn.Linear(6, 3)}
    batches, first = samples(20, (6,)), Learner(builders, edges=edges, **EXACT)
    first.steps(batches)
    model = first.plain_model()
    with pytest.warns(EvaluationModeWarning):
        again = Learner(model, **EXACT)
    again.steps(batches)
    first.steps(batches)
    assert largest_difference(again.state_dict(), first.state_dict()) < TOLERANCE
