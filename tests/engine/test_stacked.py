"""Stacked execution gives what layers give one by one: float64, within 1e-10, whatever is configured.

Every case asks that fused ticks ran at all, and compares what every layer carries, what was predicted and counted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from support.comparing import everything
from support.inline import learning, runtime_of
from support.inside import channels
from support.networks import cnn, network_of, residual_net, transformer
from support.samples import samples
from support.timelines import Together
from torch import Tensor, nn

from hamdist.engine.fused.plan import FusedPlan
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.message import Token
from hamdist.engine.spec import PLAIN, Execution
from hamdist.network.learning import AverageReach
from hamdist.network.locality import Horizon
from hamdist.network.network import Network
from hamdist.network.timing import arrivals, sink
from hamdist.physics.modules import Coupling
from hamdist.physics.rates import Adam, RMSprop, linear
from hamdist.physics.soap import Soap

pytestmark = pytest.mark.usefixtures("one_fitter")
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Case:
    """make: the layers, or a network.  units: how many the layers form."""

    name: str
    make: Callable[[], Any] = lambda: residual_net(5)
    rule: dict[str, Any] = field(default_factory=dict)
    place: dict[str, Any] = field(default_factory=dict)
    edges: tuple[str, ...] | None = None
    shape: tuple[int, ...] = (8,)
    units: int = 2
    chunk: int = 1

    @property
    def execution(self) -> Execution:
        return Execution(stacked=True, chunk=self.chunk)

    def samples(self, count: int) -> list[tuple[Tensor, Tensor]]:
        batches = samples(count, self.shape)
        if self.make is not words:
            return batches
        return [((x * 4).round().long().clamp(-5, 5) + 5, target) for x, target in batches]

    def runtime(self, batches: Any, execution: Execution, heard: Together) -> InlineRuntime:
        rule = learning(**({"beta": 0.05, "weight_dissipation": 0.3} | self.rule))
        return runtime_of(
            self.make(),
            batches,
            edges=self.edges,
            rule=rule,
            execution=execution,
            timeline=heard,
            **self.place,
        )


def couplings() -> list[nn.Module]:
    """Layers that can be inverted, and others around them."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8), *(Coupling(_half(), _half()) for _ in range(3)), nn.Linear(8, 3)]
    return [layer.double() for layer in layers]


def _half() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh())


def tanh(inputs: int = 8, outputs: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.Tanh()).double()


def tanhs() -> list[nn.Module]:
    torch.manual_seed(0)
    return [*(tanh() for _ in range(4)), nn.Linear(8, 3).double()]


def relaxing(time: float) -> Network:
    network = Network.of(residual_net(5), nn.functional.cross_entropy)
    specs = [replace(spec, relaxing=time) for spec in network.layers[:-1]]
    return replace(network, layers=(*specs, network.layers[-1]))


def branches(join: str) -> Network:
    """Two branches of equal layers that meet, one of them longer; the shorter bears a loss of its own as well."""
    names = ("stem", "left", "right", "deeper", "meet", "head")
    heard = 16 if join == "concat" else 8
    builders = dict.fromkeys(names, tanh) | {
        "meet": Pair if join == "arguments" else lambda: tanh(heard),
        "head": lambda: tanh(8, 3),
        "aside": lambda: tanh(8, 3),
    }
    edges = ("stem->left", "stem->right", "right->deeper", "left->meet", "deeper->meet", "meet->head")
    return network_of(
        builders,
        (*edges, "left->aside"),
        {"loss": "head", "second": "aside"},
        {"meet": join},
    )


class Pair(nn.Module):
    """Hears two signals, each for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.ours, self.theirs = tanh(), nn.Linear(8, 8).double()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.ours(x) * 0.5 + self.theirs(y)


def words() -> list[nn.Module]:
    """For 8 numbers of words, which have no costate."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Embedding(11, 4), nn.Flatten())
    return [first.double(), *(tanh(32, 32) for _ in range(3)), nn.Linear(32, 3).double()]


GROUPS = {"mode": "groups", "groups": [["0", "1"], ["2"], ["3", "4"]]}
DAMPENED = {"dampening": 0.6, "weight_decay": 0.05}
WITH_RMSPROP = {"adaptive": RMSprop(momentum=0.5), "weight_dissipation": 1.0, "beta": 0.01}
LOOPS = ("0->1", "1->2", "2->3", "3->4", "1->1", "3->1")
CASES = [
    Case("local"),
    Case("current", couplings, place={"pairing": "current"}, units=3),
    Case("stashed", couplings, place={"pairing": "stashed"}, units=3),
    Case("reversible", couplings, place={"pairing": "reversible"}, units=3),
    Case("held-current", place={"pairing": "current", "hold": 3}),
    Case("held-reversible", couplings, place={"pairing": "reversible", "hold": 3}, units=3),
    Case("nonlocal", place={"mode": "nonlocal"}, units=5),
    Case("groups-nesterov", rule={"nesterov": True, "weight_decay": 0.05}, place=GROUPS, units=3),
    Case("groups-current-dampening", rule=DAMPENED, place=GROUPS | {"pairing": "current"}, units=3),
    Case("delays-explicit", rule={"step": "explicit", "tau": 0.5}, place={"delays": {"0->1": 3, "2->3": 2}}),
    Case("delays-current", place={"delays": {"0->1": 4, "3->4": 0}, "pairing": "current"}),
    Case("zeros", rule={"tau": 0.5, "weight_decay": 0.05}, place={"warmup": "zeros"}),
    Case("adam", rule={"adaptive": Adam(), "weight_dissipation": 1.0, "beta": 0.01}, units=5),
    Case("adamw", rule={"adaptive": Adam(decoupled=True), "weight_decay": 0.1, "weight_dissipation": 1.0}, units=5),
    Case("soap", rule={"adaptive": Soap(), "weight_decay": 0.1, "weight_dissipation": 1.0, "beta": 0.01}, units=5),
    Case("average", rule={"average": AverageReach(0.9)}, chunk=2, place={"delays": {"0->1": 3, "2->3": 2}}),
    Case("delay-scaled", rule={"rate": "delay-scaled", "beta_scale": {"1.*": 0.5, "*.bias": 2.0}, "gamma": 0.7}),
    Case("relaxing", lambda: relaxing(1.0), rule={"state_dissipation": 0.1}),
    Case("relaxing-current", lambda: relaxing(2.5), place={"mode": "nonlocal", "pairing": "current"}, units=5),
    Case("feedback-schedule", tanhs, rule={"beta": linear(0.1, 0.01, 30)}, edges=LOOPS, units=3),
    Case("feedback-current", tanhs, edges=LOOPS, place={"pairing": "current"}, units=3),
    *(Case(f"branches-{join}", lambda join=join: branches(join), units=3) for join in ("sum", "concat", "arguments")),
    Case("words-exponential", words, rule={"step": "exponential", "tau": 0.5, "sign": 1, "beta": 0.01}, units=3),
    Case("images-rmsprop", lambda: cnn()[1:], rule=WITH_RMSPROP, shape=(4, 8, 8)),
    Case("attention", transformer, shape=(5, 8), units=3),
]  # fmt: skip
IN_CHUNKS = ("local", "reversible", "held-reversible", "delays-explicit", "relaxing", "feedback-current")
CASES += [replace(case, name=f"{case.name}-chunks", chunk=3) for case in CASES if case.name in IN_CHUNKS]


QUICK = ("delays-explicit-chunks",)
assert {case.name for case in CASES} >= {*IN_CHUNKS, *QUICK}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.name, marks=[] if c.name in QUICK else pytest.mark.slow) for c in CASES],
)
def test_every_rule_and_every_graph(case: Case) -> None:
    """On the way the region gives back twice, for the hold-out and for the short batch at the end."""
    phase = batches_until_fused(case)
    batches = case.samples(2 * phase + 3)
    ours, theirs = (Run(case, batches, phase, execution) for execution in (case.execution, PLAIN))
    program = ours.runtime.program
    assert len(FusedPlan(program.outline, program.nodes, ours.runtime.losses).units) == case.units
    assert 0 < sum(ours.after_one) < sum(ours.after_two)
    assert case.chunk in ours.after_two
    compare(ours, theirs)


def batches_until_fused(case: Case) -> int:
    """And a few more: the way to the losses, twice, and to them once more, and the longest feedback and latency."""
    program = case.runtime(case.samples(1), PLAIN, Together()).program
    graph = program.graph
    feedback = [edge.ticks for edge in graph.edges if edge.feedback]
    ticks = 3 * sink(graph, arrivals(graph)) + max([0, *feedback]) + max([1, *graph.latencies.values()]) + 9
    return -(-ticks // program.locality.hold)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layers", "place", "reason"),
    [
        (
            lambda: residual_net(3),
            {"gate": "settled", "pairing": "current", "hold": 9},
            "gate settled waits for",
        ),
        (lambda: residual_net(3), {"horizon": Horizon(2)}, "costates go back through windows of time"),
        (lambda: residual_net(3), {"stash": "graph"}, "stash graph keeps what was evaluated"),
        (lambda: [tanh(), nn.Sequential(tanh(), nn.Dropout()), tanh(8, 3)], {}, "not traced: '1'"),
    ],
)
def test_what_runs_node_by_node_though_stacks_were_asked_for_says_why(layers, place, reason):
    batches = samples(3, (8,))
    stacked = runtime_of(layers(), batches, execution=Execution(stacked=True), **place)
    assert stacked.execution["node_by_node"].startswith(reason)
    assert runtime_of(layers(), batches, **place).execution == {}


class Run:
    """A stream with a hold-out in the middle and a short batch at its end, presented to a runtime.

    after_one, after_two: how many ticks went in one go, each time, before the hold-out and before the short batch.
    before: what lay in the channels then."""

    def __init__(self, case: Case, batches: list[Any], phase: int, execution: Execution) -> None:
        heard = Together()
        self.runtime = runtime = case.runtime(batches, execution, heard)
        *learnt, holdout, (x, target) = batches
        self.predictions = runtime.present_all(learnt[:phase])
        self.after_one = heard.lengths(runtime.tick)
        self.before = held(runtime)
        self.predictions += runtime.evaluate([holdout])
        self.predictions += runtime.present_all(learnt[phase:])
        self.after_two = heard.lengths(runtime.tick)
        self.predictions += runtime.present_all([(x[:3], target[:3])])
        self.predictions += runtime.drain()


def held(runtime: InlineRuntime) -> list[tuple[Token, Tensor | None, Tensor | None]]:
    """All that lies between two ticks in the channels; the outputs that costates speak of where anybody asks."""
    assert runtime.nodes
    reversible = runtime.program.locality.pairing == "reversible"
    return [
        (item.token, item.value, getattr(item, "output", None) if reversible else None)
        for channel in channels(runtime)
        for item in (*channel.signals, *channel.costates)
    ]


def compare(ours: Run, theirs: Run) -> None:
    assert [token for token, *_ in ours.before] == [token for token, *_ in theirs.before]
    pairs = zip(ours.before, theirs.before, strict=True)
    assert all(near(a, b) for one, other in pairs for a, b in zip(one[1:], other[1:], strict=True))
    told = [[(p.first, p.rows, p.learn) for p in run.predictions] for run in (ours, theirs)]
    assert told[0] == told[1]
    for a, b in zip(ours.predictions, theirs.predictions, strict=True):
        assert near(a.output, b.output)
        assert near(a.loss, b.loss)
    for name, cell in theirs.runtime.nodes.items():
        mine = ours.runtime.nodes[name]
        assert mine.ledger.counts() == cell.ledger.counts()
        carried, expected = everything(mine), everything(cell)
        assert carried.keys() == expected.keys()
        assert [key for key in expected if not near(carried[key], expected[key])] == []
    for node, loss in theirs.runtime.losses.items():
        other = ours.runtime.losses[node]
        assert other.prequential.total() == pytest.approx(loss.prequential.total(), abs=TOLERANCE)
        assert other.holdout.total() == pytest.approx(loss.holdout.total(), abs=TOLERANCE)
    assert ours.runtime.seen_once() == theirs.runtime.seen_once()


def near(ours: Tensor | None, theirs: Tensor | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return ours.shape == theirs.shape and (ours - theirs).abs().max().item() < TOLERANCE
