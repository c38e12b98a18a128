"""All that moves is in the state: a run that is cut, and goes on elsewhere from a copy, ends with the same bits."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from support.inline import learning, runtime_of
from support.networks import cnn, residual_net
from support.samples import samples
from support.timelines import Together
from torch import nn
from torch.utils._pytree import tree_leaves

from hamdist.engine.inline import InlineRuntime
from hamdist.engine.profiler import SILENT, Timeline
from hamdist.engine.spec import PLAIN, Execution
from hamdist.engine.state import RuntimeState, copied
from hamdist.errors import RunError
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.locality import Horizon
from hamdist.network.losses import LossSpec
from hamdist.network.network import Network
from hamdist.physics import statespace
from hamdist.physics.modules import Coupling
from hamdist.physics.rates import Adam
from hamdist.physics.soap import Soap

BATCHES = 28
STACKED, CHUNKS = Execution(stacked=True), Execution(stacked=True, chunk=4)

pytestmark = pytest.mark.usefixtures("one_fitter")


@dataclass(frozen=True)
class Case:
    """make: the layers.  edges: beside or instead of the chain.  shape: of a row."""

    name: str
    place: dict[str, Any] = field(default_factory=dict)
    make: Callable[[], Any] = lambda: residual_net(4)
    rule: dict[str, Any] = field(default_factory=dict)
    edges: tuple[str, ...] | None = None
    shape: tuple[int, ...] = (8,)
    loss: Callable[..., Any] = nn.functional.cross_entropy


def couplings() -> list[nn.Module]:
    torch.manual_seed(0)
    half = [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(4)]
    layers = [nn.Linear(8, 8), Coupling(half[0], half[1]), Coupling(half[2], half[3]), nn.Linear(8, 3)]
    return [layer.double() for layer in layers]


def memories() -> list[nn.Module]:
    torch.manual_seed(0)
    return [statespace.CSSM(8, 6, 5).double(), statespace.CTBE(5, 6, 4).double(), nn.Linear(4, 3).double()]


def exact_memories() -> list[nn.Module]:
    torch.manual_seed(0)
    return [statespace.LRU(8, 6, 5, initial="input").double(), nn.Linear(5, 3).double()]


def relaxing() -> Network:
    layers = [LayerSpec(name, lambda: nn.Linear(8, 8), relaxing=2.0) for name in ("a", "b")]
    head = LayerSpec("head", lambda: nn.Linear(8, 3))
    loss = LossSpec(nn.functional.cross_entropy, "head", "cross_entropy")
    return Network((*layers, head), {"loss": loss})


def random_layers() -> list[nn.Module]:
    torch.manual_seed(0)
    dropped = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.Tanh())
    return [dropped.double(), nn.Linear(8, 3).double()]


ADAM = {"adaptive": Adam(), "weight_decay": 0.01}
CASES = [
    Case("current", {"pairing": "current"}),
    Case("stashed"),
    Case("stashed with momentum", rule={"weight_dissipation": 0.2}),
    Case("adam", rule=ADAM),
    Case("soap", rule={"adaptive": Soap()}),
    Case("graph", {"stash": "graph"}),
    Case("reversible", {"pairing": "reversible"}, couplings),
    Case("non-local", {"mode": "nonlocal"}),
    Case("groups", {"mode": "groups", "groups": (("0", "1"), ("2", "3"))}),
    Case("held", {"hold": 3}),
    Case("settled", {"hold": 8, "gate": "settled", "pairing": "current"}),
    Case("settled within a tolerance", {"hold": 12, "gate": "settled", "pairing": "current"}, relaxing),
    Case("relaxing", {"pairing": "current", "warmup": "zeros"}, relaxing),
    Case("skipping", edges=("0->1", "1->2", "2->3", "0->3")),
    Case("out of balance", {"balance": False, "pairing": "current"}, edges=("0->1", "1->2", "2->3", "0->3")),
    Case("feedback", {"pairing": "current"}, edges=("0->1", "1->2", "2->3", "2->1")),
    Case("exact in time", {"exact": True}, exact_memories),
    Case("memories", make=memories),
    Case("forward in time", {"pairing": "current"}, memories),
    Case("blocks of time", {"horizon": Horizon(5)}, memories),
    Case("windows of time", {"horizon": Horizon(5, slid=True)}, memories),
    Case("batch statistics", make=cnn, shape=(1, 8, 8)),
    Case("random", make=random_layers),
]


def runtime_for(case: Case, execution: Execution, timeline: Timeline = SILENT) -> InlineRuntime:
    rule = learning(**({"beta": 0.05} | case.rule))
    batches = samples(1, case.shape)
    made = case.make()
    return runtime_of(
        made,
        batches,
        case.loss,
        edges=case.edges,
        rule=rule,
        execution=execution,
        timeline=timeline,
        **case.place,
    )


def go(runtime: InlineRuntime, case: Case, first: int, last: int) -> list[torch.Tensor]:
    """Batches from one number to another, episodes beginning now and then; a hold-out between, where one is due."""
    batches, left = samples(BATCHES, case.shape), []
    for number in range(first, last):
        x, target = batches[number]
        flags = torch.tensor([number % 9 == 4, False, number % 5 == 2, False])
        left += [p.output for p in runtime.present(x, target, restarts=flags)]
        if number % 12 == 11:
            left += [p.output for p in runtime.evaluate([(x, target)])]
    return left


def in_chunks(runtime: InlineRuntime, case: Case, first: int, last: int) -> list[torch.Tensor]:
    """The same without hold-outs, all at once, so that ticks may run in chunks."""
    batches = samples(BATCHES, case.shape)[first:last]
    return [p.output for p in runtime.present_all((x, y, None) for x, y in batches)]


def bits_agree(ours: Any, theirs: Any) -> bool:
    """Of two trees."""
    one, other = tree_leaves(ours), tree_leaves(theirs)
    return len(one) == len(other) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(one, other, strict=True)
    )


def moved(state: RuntimeState) -> Any:
    """All that decides what comes next; points that no costate will meet any more may differ between forms."""
    nodes = state.partition.nodes
    passing = {
        (place, name): [(tick.tokens, tick.tensors[:1]) for message in said for tick in message.single()]
        for place, edges in enumerate(
            (state.partition.signals, state.partition.costates, state.source.signals)
        )
        for name, said in edges.items()
    }
    carried = {name: (node.carry, node.ledger, node.trial, node.settling) for name, node in nodes.items()}
    return carried, passing, state.partition.losses, state.partition.tick, state.source[:4]


FUSED = (
    "current",
    "stashed",
    "reversible",
    "non-local",
    "relaxing",
    "skipping",
    "feedback",
    "memories",
    "exact in time",
)
TRIALS = [
    *(pytest.param(case, PLAIN, (1, 17), id=f"{case.name}-plain") for case in CASES),
    *(pytest.param(case, STACKED, (17,), id=f"{case.name}-stacked") for case in CASES if case.name in FUSED),
]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "execution", "at"), TRIALS)
def test_from_a_cut_a_run_goes_on_with_the_same_bits(
    case: Case, execution: Execution, at: tuple[int, ...]
) -> None:
    """A copy of the state must be enough, and be left alone by what goes on beside it."""
    runtime, cuts = runtime_for(case, execution), []
    left = []
    for first, last in zip((0, *at), (*at, BATCHES), strict=True):
        if first:
            cuts.append((first, len(left), runtime.cut()))
        left += go(runtime, case, first, last)
    end = runtime.cut()
    for first, before, cut in cuts:
        kept = copied(cut)
        other = runtime_for(case, execution)
        other.restore(cut)
        assert bits_agree(other.cut(), cut)
        ours = go(other, case, first, BATCHES)
        assert bits_agree(ours, left[before:]), "what left the network"
        assert bits_agree(moved(other.cut()), moved(end)), "all that moves"
        assert bits_agree(cut, kept), "the cut was written over"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES[:4], ids=lambda case: case.name)
def test_from_a_cut_between_chunks_too(case: Case) -> None:
    runtime = runtime_for(case, CHUNKS)
    in_chunks(runtime, case, 0, 20)
    cut = runtime.cut()
    left, end = in_chunks(runtime, case, 20, BATCHES), runtime.cut()
    other = runtime_for(case, CHUNKS)
    other.restore(cut)
    assert bits_agree(in_chunks(other, case, 20, BATCHES), left)
    assert bits_agree(moved(other.cut()), moved(end))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "execution", "at"),
    [(CASES[1], STACKED, 6), (CASES[1], STACKED, 13), (CASES[2], CHUNKS, 11), (CASES[-6], STACKED, 22)],
    ids=["filling", "after a hold-out", "in a chunk", "memories"],
)
def test_ticks_that_ran_in_one_go_go_on_so_at_once(case: Case, execution: Execution, at: int) -> None:
    """After a cut that falls before, in or after a hold-out and the silence that follows it, as if none had been."""
    heard = [Together() for _ in range(3)]
    whole, before, after = (runtime_for(case, execution, each) for each in heard)
    go(whole, case, 0, BATCHES)
    go(before, case, 0, at)
    after.restore(before.cut())
    go(after, case, at, BATCHES)
    assert heard[0].lengths(whole.tick) == heard[1].lengths(before.tick) + heard[2].lengths(after.tick)
    assert sum(heard[2].lengths(after.tick)) > 0
    assert bits_agree(moved(after.cut()), moved(whole.cut()))


def test_a_cut_is_not_made_where_something_entered_that_was_not_met() -> None:
    case = replace(CASES[0], place={"mode": "nonlocal", "hold": 4})
    runtime = runtime_for(case, CHUNKS)
    going = runtime.present(*samples(1, case.shape)[0])
    next(going)
    with pytest.raises(RunError, match="4 ticks entered and 1 are done"):
        runtime.cut()
    list(going)
    assert runtime.cut().partition.tick == 4


def test_what_is_shared_is_copied_once() -> None:
    shared, alone = torch.ones(2), torch.ones(2)
    one, (two, three) = copied((shared, [shared, alone]))
    assert one is two is not three
    assert one is not shared
    assert torch.equal(one, shared)


@pytest.mark.slow
def test_what_has_run_is_left_behind_where_another_cut_is_restored() -> None:
    """Back to the past, twice, and each time the same future."""
    case = CASES[1]
    runtime = runtime_for(case, STACKED)
    go(runtime, case, 0, 16)
    cut = runtime.cut()
    futures = []
    for _ in range(2):
        runtime.restore(cut)
        go(runtime, case, 16, BATCHES)
        futures.append(runtime.cut())
    assert bits_agree(*futures)


def test_a_state_says_whose_it_is() -> None:
    state: RuntimeState = runtime_for(CASES[1], PLAIN).cut()
    assert set(state.partition.nodes) == {"0", "1", "2", "3"}
    larger = runtime_of(residual_net(5), samples(1, (8,)), rule=learning())
    with pytest.raises(RunError, match="another network: it lacks layers 4"):
        larger.restore(state)
