"""Locality, the dial from backpropagation to fully local: it is nothing but the delay of every edge.

    nonlocal   every d = 0                    the whole network is traversed inside one tick
    groups     d = 0 inside, 1 between        a group of layers works as one
    local      every d = 1                    every layer works on what its neighbours said one tick ago
    cyclic     every d = 1                    the same, but a layer's output moves at the first tick of a hold alone

Source and loss edges have d = 0, feedback edges d = 1, unless set.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from hamdist.errors import NetworkError, Problem, did_you_mean
from hamdist.network.graph import SOURCE, Edge, Graph
from hamdist.network.timing import balanced, is_balanced, shortest_hold
from hamdist.network.wording import all_of
from hamdist.physics.memory import Gate, PairingName, StashName

Mode = Literal["local", "nonlocal", "groups", "cyclic"]
Warmup = Literal["invalid", "zeros"]


@dataclass(frozen=True)
class Horizon:
    """How far back in time layers look, where costates are integrated backward over windows of so many ticks.

    slid: a window ends at every tick, and of its losses the last counts; else windows follow each other, and all count.
    reintegrates: states are not stored, but integrated back from the last.
    """

    ticks: int
    slid: bool = False
    reintegrates: bool = False


@dataclass(frozen=True)
class Locality:
    """How far a layer sees within one tick, and what its costates meet.

    groups: layer names, for mode "groups".  delays: edge name → ticks, over whatever the mode says.
    hold: ticks for which each sample is presented.  balance: one sample meets itself at every join.
    stash: what the pairing `stashed` keeps, the inputs of a layer or the graph of its evaluation.
    warmup: whether forward edges start with nothing, or with valid zeros.
    tolerance: the change of a signal below which it counts as settled, where no hold is exact.
    horizon: how far back in time layers look; None: state costates are integrated forward with everything else.
    exact: whether, instead, memories carry the derivatives of their states by their weights.
    """

    mode: Mode = "local"
    pairing: PairingName = "stashed"
    stash: StashName = "inputs"
    gate: Gate = "always"
    hold: int = 1
    groups: Sequence[Sequence[str]] = ()
    delays: Mapping[str, int] = field(default_factory=dict)
    balance: bool = True
    warmup: Warmup = "invalid"
    tolerance: float = 1e-6
    horizon: Horizon | None = None
    exact: bool = False

    @property
    def holds_outputs(self) -> bool:
        """Whether a layer says again, at later ticks of a hold, what it said at its first: its state moves once."""
        return self.mode == "cyclic"

    @property
    def batches_per_update(self) -> float:
        """Those that drive the weights at once; a share of one where every tick of a hold does."""
        if self.horizon is not None and not self.horizon.slid:
            return self.horizon.ticks
        return 1 / self.hold if self.gate == "always" else 1.0


def apply_locality(graph: Graph, locality: Locality) -> Graph:
    """The graph with every delay set and joins balanced.

    Raises NetworkError: groups that overlap or leave a layer out, delays of edges that do not exist or below 0,
    a cycle of total delay 0, a hold too short to settle, joins out of balance under a pairing that needs them.
    """
    problems = [*_group_problems(graph, locality), *_delay_problems(graph, locality)]
    if problems:
        raise NetworkError(*problems)
    group_of = {name: index for index, group in enumerate(locality.groups) for name in group}
    delayed = graph.with_edges(
        edge.delayed(locality.delays.get(edge.name, _delay(graph, edge, locality.mode, group_of)))
        for edge in graph.edges
    )
    delayed.order()
    delayed = balanced(delayed, joins=locality.balance)
    delayed.order()
    if problems := list(_pairing_problems(delayed, locality)):
        raise NetworkError(*problems)
    return delayed


def settles_exactly(graph: Graph, relaxing: Mapping[str, float], tau: float) -> bool:
    """Whether a hold long enough settles to the last bit: no feedback, and every relaxing layer has T = τ."""
    return not graph.has_feedback and all(constant == tau for constant in relaxing.values())


def _delay(graph: Graph, edge: Edge, mode: Mode, group_of: Mapping[str, int]) -> int:
    if edge.delay is not None:
        return edge.delay
    if edge.feedback:
        return 1
    if edge.source == SOURCE or edge.target in graph.losses or mode == "nonlocal":
        return 0
    return int(mode in ("local", "cyclic") or group_of[edge.source] != group_of[edge.target])


def _group_problems(graph: Graph, locality: Locality) -> list[Problem]:
    if locality.mode != "groups":
        return []
    listed = Counter(name for group in locality.groups for name in group)
    layers, known = set(graph.layers), all_of(graph.layers)
    unknown = [name for name in listed.elements() if name not in layers]
    twice = sorted(name for name, times in listed.items() if times > 1)
    missing = [name for name in graph.layers if name not in listed]
    return [
        *(
            Problem("locality.groups", f"there is no layer {name!r}; the layers are {known}")
            for name in unknown
        ),
        *(
            Problem("locality.groups", f"layer {name!r} is in more than one group: groups must not overlap")
            for name in twice
        ),
        *(
            Problem("locality.groups", f"layer {name!r} is in no group: every layer needs one")
            for name in missing
        ),
    ]


def _delay_problems(graph: Graph, locality: Locality) -> list[Problem]:
    names = dict.fromkeys(edge.name for edge in graph.edges)
    problems = []
    for name, delay in locality.delays.items():
        key = f"locality.delays.{name}"
        if name not in names:
            hint = did_you_mean(name, names) or f"; the edges are {all_of(tuple(names))}"
            problems.append(Problem(key, f"there is no edge {name!r}{hint}"))
        elif delay < 0:
            problems.append(Problem(key, f"the delay is {delay}, but a delay is 0 ticks or more"))
    return problems


def _pairing_problems(graph: Graph, locality: Locality) -> Iterator[Problem]:
    if locality.pairing != "current" and not is_balanced(graph):
        yield Problem(
            "locality.balance",
            f"pairing {locality.pairing!r} needs balanced joins, or a layer would hear of "
            "several samples at once: set balance: true, or pairing: current",
        )
    if locality.stash == "graph" and locality.pairing != "stashed":
        yield Problem(
            "locality.stash",
            f"'graph' is a form of pairing 'stashed', not of {locality.pairing!r}: set pairing: stashed, or stash: "
            "inputs",
        )
    if locality.horizon is not None:
        yield from _horizon_problems(graph, locality)
    if locality.mode == "cyclic":
        yield from _cyclic_problems(graph, locality)
    if locality.exact and (locality.pairing != "stashed" or locality.stash != "inputs"):
        yield Problem(
            "locality.time",
            "'exact' takes each costate to the input and the state that it speaks of: set locality.pairing=stashed and "
            "locality.stash=inputs",
        )
    if locality.gate != "settled":
        return
    if locality.pairing != "current":
        yield Problem(
            "locality.gate",
            f"'settled' waits for today's activations, so it needs pairing: current, not "
            f"{locality.pairing!r}",
        )
    needed = shortest_hold(graph)
    if locality.hold < needed:
        yield Problem(
            "stream.hold",
            f"a hold of {locality.hold} ticks is too short for the gate 'settled': this network "
            f"needs hold: {needed} or more",
        )


def _horizon_problems(graph: Graph, locality: Locality) -> Iterator[Problem]:
    if locality.pairing != "stashed" or locality.stash != "inputs":
        yield Problem(
            "locality.time",
            "'backward' goes through a window of stashed inputs and states: set locality.pairing=stashed and "
            "locality.stash=inputs",
        )
    if locality.hold > 1:
        yield Problem(
            "locality.time", "'backward' counts ticks as time, so a sample takes one: set stream.hold=1"
        )
    if any(graph.latencies.values()):
        yield Problem(
            "locality.time",
            "'backward' does not go through relaxing layers, whose costates are integrated forward: leave out relaxing,"
            " or set locality.time=forward",
        )


def _cyclic_problems(graph: Graph, locality: Locality) -> Iterator[Problem]:
    """What does not fit a schedule in which layer k of ν moves at the ticks t with t mod ν = k, and no other."""
    if locality.pairing != "current":
        yield Problem(
            "locality.pairing",
            f"mode 'cyclic' pairs costates with what is there, not with what is {locality.pairing}: set "
            "locality.pairing=current",
        )
    if locality.gate != "always":
        yield Problem(
            "locality.gate", "in mode 'cyclic' weights move at every tick: set locality.gate=always"
        )
    if locality.warmup != "invalid":
        yield Problem(
            "locality.warmup",
            "in mode 'cyclic' a layer's first turn comes with the first sample: set locality.warmup=invalid",
        )
    if any(graph.latencies.values()):
        yield Problem(
            "locality.mode",
            "in mode 'cyclic' a layer's output is its state: leave out relaxing, or set mode=local",
        )
    if not _is_chain(graph):
        yield Problem(
            "locality.mode",
            "'cyclic' moves the layers of a chain in turn, each a tick after the one before it, with one loss at its "
            "end: leave out edges and delays, or set mode=local",
        )
    elif locality.hold != (layers := len(graph.layers)):
        yield Problem(
            "stream.hold",
            f"in mode 'cyclic' a sample is held for as many ticks as there are layers: set stream.hold={layers}, not "
            f"{locality.hold}",
        )


def _is_chain(graph: Graph) -> bool:
    """Each layer to the next with a delay of 1, without one from the source to the first, and to the only loss."""
    path = (SOURCE, *graph.layers, *graph.losses)
    ends = {(SOURCE, loss) for loss in graph.losses}
    inner = {edge for edge in graph.edges if (edge.source, edge.target) not in ends}
    delays = (0, *(1,) * (len(graph.layers) - 1), 0)
    expected = {(a, b, delay) for (a, b), delay in zip(pairwise(path), delays, strict=False)}
    return len(graph.losses) == 1 and {(e.source, e.target, e.ticks) for e in inner} == expected
