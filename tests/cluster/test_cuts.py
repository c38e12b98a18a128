"""A cut of a network over several actors fits any placement: its parts together are the network at that tick.

Every actor copies its part by itself when it reaches the tick that the source announced. From the parts the run goes on
over other actors, or in one process, and ends with the bits of the run that was never cut.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from support.actors import Cut, Ensemble
from support.comparing import everything
from support.inline import learning, run_through
from support.inside import kept_cut
from support.matrix import FAR, LAYERS, batches, network
from support.networks import network_of
from torch import Tensor, nn

from hamdist.cluster.cutter import CutSchedule
from hamdist.cluster.source_part import SourcePart
from hamdist.engine.build import program
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.loss_node import LossNode
from hamdist.engine.spec import PLAIN, STACKED, Execution
from hamdist.engine.state import RuntimeState, united
from hamdist.network.locality import Horizon, Locality
from hamdist.network.network import Network
from hamdist.physics import statespace

pytestmark = pytest.mark.usefixtures("one_fitter")
CHUNKS = Execution(stacked=True, chunk=4)


def tanh() -> nn.Module:
    return nn.Sequential(nn.Linear(9, 9), nn.Tanh())


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "embed": tanh,
    "a": tanh,
    "b": tanh,
    "c": tanh,
    "head": lambda: nn.Linear(9, 3),
}


def chain(*edges: Any, **more: Any) -> Network:
    """The layers in a row, and these edges."""
    names = list(BUILDERS)
    return network_of(BUILDERS, [*map("->".join, pairwise(names)), *edges], **more)


def several_losses() -> Network:
    """One of them on the way, and a layer that hears the source late."""
    late = {"from": "source", "to": "c", "delay": 3}
    return chain(late, "embed->c", losses={"loss": "head", "early": "embed", "second": "b"})


def remembering() -> Network:
    return network_of(
        {
            "embed": lambda: nn.GRUCell(9, 9),
            "a": lambda: statespace.CSSM(9, 6, 9),
            "b": tanh,
            "c": lambda: nn.LSTMCell(9, 9),
            "head": lambda: nn.Linear(9, 3),
        }
    )


def relaxing() -> Network:
    layers = [replace(spec, relaxing=None if spec.name == "head" else 2.0) for spec in chain().layers]
    return replace(chain(), layers=tuple(layers))


@dataclass(frozen=True)
class Case:
    """restarts: whether episodes begin.  count: of batches, the last one short."""

    name: str
    place: dict[str, Any] = field(default_factory=dict)
    make: Callable[[], Network] = network
    execution: Execution = PLAIN
    restarts: bool = False
    count: int = 40


CASES = [
    Case("delays", {"delays": {"embed->a": 2, "a->b": 3, "c->head": 4}}),
    Case("current", {"pairing": "current"}),
    Case("groups", {"mode": "groups", "groups": [["embed", "a"], ["b"], ["c", "head"]]}),
    Case("nonlocal", {"mode": "nonlocal"}),
    Case("graph", {"stash": "graph"}),
    Case("reversible", {"pairing": "reversible", "delays": {"a->b": 2}}),
    Case("held", {"hold": 3}),
    Case("settled", {"hold": 10, "gate": "settled", "pairing": "current"}),
    Case("warm", {"warmup": "zeros", "delays": {"a->b": 2, "source->embed": 2}}),
    Case("skips", {}, partial(chain, "embed->c", "a->head")),
    Case("feedback", {"pairing": "current"}, partial(chain, "c->a", "b->b")),
    Case("feedback that is cut", {}, partial(chain, {"from": "c", "to": "a", "delay": 3})),
    Case("out of balance", {"balance": False, "pairing": "current"}, partial(chain, "embed->head")),
    Case("several losses", {}, several_losses),
    Case("relaxing", {"pairing": "current"}, relaxing),
    Case("memories", {}, remembering, restarts=True),
    Case("blocks of time", {"horizon": Horizon(4)}, remembering, restarts=True),
    Case("windows of time", {"horizon": Horizon(4, slid=True)}, remembering, restarts=True),
    Case("stacked", {}, execution=STACKED),
    Case("stacked delays", {"delays": {"a->b": 3}}, several_losses, STACKED),
    Case("stacked memories", {}, remembering, STACKED, restarts=True),
    Case("chunks", FAR["far"], execution=CHUNKS, count=80),
    Case("chunks of what is reversible", FAR["far"] | {"pairing": "reversible"}, execution=CHUNKS, count=80),
]
CUT_OVER = [["embed", "b"], ["a", "c", "head"]]
ONTO: Sequence[Sequence[Sequence[str]]] = (
    [LAYERS],
    [["embed", "a", "c"], ["b", "head"]],
    [["head"], ["a", "embed"], ["c", "b"]],
)
RULE = learning(0.05, weight_dissipation=0.3)


def data_of(case: Case) -> list[Any]:
    """Batches, and with some of them episodes begin."""
    data: list[Any] = batches(case.count)
    if case.restarts:
        flags = [torch.tensor([(k + row) % 7 == 0 for row in range(5)]) for k in range(case.count - 1)]
        data = [(*batch, flag) for batch, flag in zip(data[:-1], flags, strict=True)] + data[-1:]
    return data


def alone(case: Case, data: Sequence[Any]) -> InlineRuntime:
    place = Locality(**case.place)
    return InlineRuntime(program(case.make(), place, RULE, data[0][:2], execution=case.execution))


def ended(runtime: InlineRuntime, data: Sequence[Any]) -> dict[str, Any]:
    """What a run in one process comes to with these batches."""
    run_through(runtime, data)
    return figures(runtime.nodes, runtime.losses)


def over_actors(
    case: Case, actors: Sequence[Sequence[str]], schedule: CutSchedule | None = None, start: Cut | None = None
) -> tuple[dict[str, Any], list[Cut]]:
    """What it comes to over actors, from a cut or from the start, and the cuts that were made."""
    data = data_of(case)
    place = Locality(**case.place)
    with Ensemble(
        case.make(),
        place,
        RULE,
        data,
        actors,
        dtype=torch.float32,
        execution=case.execution,
        cuts=schedule,
        start=start,
    ) as ensemble:
        ensemble.run()
        cuts = [
            (united([kept_cut(worker, part.tick) for worker in ensemble.workers]), part)
            for part in ensemble.stream.progress().cuts
        ]
        losses = {name: loss for worker in ensemble.workers for name, loss in worker.partition.losses.items()}
        return figures(ensemble.nodes, losses), cuts


def figures(nodes: Mapping[str, LayerNode], losses: Mapping[str, LossNode]) -> dict[str, Any]:
    """All that is carried, counted and scored."""
    carried = {
        f"{name}.{key}": tensor for name, node in nodes.items() for key, tensor in everything(node).items()
    }
    counted: dict[str, Any] = {f"{name}.ledger": node.ledger for name, node in nodes.items()}
    return carried | counted | {name: loss.prequential.total() for name, loss in losses.items()}


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What has other bits, by name."""
    assert ours.keys() == theirs.keys()
    return [name for name, one in ours.items() if not _same(one, theirs[name])]


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_from_a_cut_over_actors_a_run_goes_on_anywhere_with_the_same_bits(case: Case) -> None:
    data = data_of(case)
    undisturbed = ended(alone(case, data), data)
    cut, cuts = over_actors(case, CUT_OVER, CutSchedule(every_ticks=12))
    assert differing(cut, undisturbed) == [], "cut, and not gone back"
    assert len(cuts) == 2
    traced = case.execution is not PLAIN  # takes seconds to make: it goes on from each cut once
    onto = (ONTO[CASES.index(case) % 3], ONTO[2])
    for start, actors in list(zip(cuts, onto, strict=True))[: 1 if traced else 2]:
        assert differing(over_actors(case, actors, start=start)[0], undisturbed) == [], actors
    for state, part in cuts[1 if traced else 0 :]:
        inline = alone(case, data)
        inline.restore(RuntimeState(state, part.state))
        assert differing(ended(inline, data[part.stream["done"] :]), undisturbed) == [], part.tick


@pytest.mark.parametrize("case", [CASES[0], CASES[-1]], ids=lambda case: case.name)
def test_a_cut_in_one_process_fits_actors(case: Case) -> None:
    data, done = data_of(case), 20
    inline = alone(case, data)
    for number in range(done):
        list(inline.present(*data[number]))
    state = inline.cut()
    part = SourcePart(state.source, {"done": done}, data[0][:2])
    theirs, _ = over_actors(case, CUT_OVER, start=(state.partition, part))
    assert differing(theirs, ended(inline, data[done:])) == []
