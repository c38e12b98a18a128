"""Which activations a returning costate meets, what a layer keeps for it, and on which ticks it may drive the weights.

current      today's: nothing is kept but the last input itself
stashed      those of D ticks ago: linearised again with today's weights, or with the linearisation of then kept,
             and with it the weights of then
reversible   those reconstructed from the output that comes back with the costate; a layer that cannot be
             inverted stashes
window       those of a window of time, for costates that go back through it: inputs, and states or, where the dynamics
             can be inverted, none: from the one after the window they are integrated back

A memory is a rule and never moves. What it keeps is part of a node's state: it is handed in, and `remember` writes into
it. Plain and stacked ticks ask the same rule.
"""

from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Literal, NamedTuple

from torch import Tensor

from hamdist.physics.layers import Layer, Point
from hamdist.physics.pure_module import Context
from hamdist.physics.step import Carry, Evaluation

PairingName = Literal["current", "stashed", "reversible"]
StashName = Literal["inputs", "graph"]
StatesName = Literal["stored", "reintegrated"]
Gate = Literal["always", "settled"]


class Returned(NamedTuple):
    """What comes back with a costate, the output it speaks of (reversible only) and its circumstances, and to whom."""

    output: Tensor | None
    context: Context
    layer: Layer
    carry: Carry


class Memory(ABC):
    """What one layer keeps between ticks so that a costate can be paired.

    linearises: whether a layer that learns makes the pullback of what it evaluates; its costate then needs no other.
    keeps_graphs: whether it keeps pullbacks, which need the weights that they were made with as they were.
    """

    linearises = False
    keeps_graphs = False

    @abstractmethod
    def empty(self) -> Any:
        """What is kept before the first tick."""

    @abstractmethod
    def remember(self, kept: Any, tick: int, evaluation: Evaluation | None) -> None:
        """Called once a tick with what was evaluated, None where nothing that learns was."""

    def count(self, kept: Any) -> int:
        """How many points are kept."""
        return sum(evaluation is not None for evaluation in kept)

    def nbytes(self, kept: Any) -> int:
        """The memory of the inputs and states that are kept."""
        evaluations = [evaluation for evaluation in kept if evaluation is not None]
        return sum(t.nbytes for e in evaluations for t in (*e.point.inputs, *e.point.state, *e.entered))


Kept = list[Evaluation | None]


class Pairing(Memory):
    """A costate meets one point.

    meets_present: whether it is that of this tick, where there is one.  reconstructs: whether it is found from the
    output that comes back.  depth: how many ticks ago it was evaluated, where it is neither.
    """

    meets_present = False
    reconstructs = False
    depth = 0

    @property
    def stashes(self) -> bool:
        """Whether a costate meets a point of an earlier tick."""
        return not (self.meets_present or self.reconstructs)

    def empty(self) -> Kept:
        return []

    @abstractmethod
    def recall(self, kept: Kept, tick: int, returned: Returned) -> Evaluation | None:
        """What this tick's costate meets; None where there is nothing."""

    def restore(self, kept: Kept, tick: int, points: list[Point]) -> None:
        """Keeps these points, the latest first, as if they had been remembered in the ticks before this one."""
        for ago in range(len(points), 0, -1):
            self.remember(kept, tick - ago, Evaluation(points[ago - 1]))


class Latest(Pairing):
    """`current`: the last point evaluated."""

    linearises = meets_present = True

    def empty(self) -> Kept:
        return [None]

    def remember(self, kept: Kept, tick: int, evaluation: Evaluation | None) -> None:
        if evaluation is not None:
            kept[0] = Evaluation(evaluation.point)

    def recall(self, kept: Kept, tick: int, returned: Returned) -> Evaluation | None:
        return kept[0]


class Stash(Pairing):
    """`stashed`: a ring of the points of the last D ticks and of this one; that of D ticks ago is recalled."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.linearises = self.meets_present = depth == 0

    def empty(self) -> Kept:
        return [None] * (self.depth + 1)

    def remember(self, kept: Kept, tick: int, evaluation: Evaluation | None) -> None:
        kept[tick % len(kept)] = evaluation and Evaluation(evaluation.point)

    def recall(self, kept: Kept, tick: int, returned: Returned) -> Evaluation | None:
        return kept[(tick - self.depth) % len(kept)]

    def points(self, kept: Kept, tick: int) -> list[Point | None]:
        """Those of the last D ticks before this one, the latest first."""
        evaluations = [kept[(tick - ago) % len(kept)] for ago in range(1, self.depth + 1)]
        return [evaluation and evaluation.point for evaluation in evaluations]


class GraphStash(Stash):
    """`stashed`, as graphs: the points with their pullbacks, each of which holds its activations and its weights."""

    keeps_graphs = True

    def __init__(self, depth: int) -> None:
        super().__init__(depth)
        self.linearises = True

    def remember(self, kept: Kept, tick: int, evaluation: Evaluation | None) -> None:
        kept[tick % len(kept)] = evaluation

    def recall(self, kept: Kept, tick: int, returned: Returned) -> Evaluation | None:
        """Gives the oldest away, so that its memory is free before the next weights are made."""
        place = (tick - self.depth) % len(kept)
        oldest, kept[place] = kept[place], None
        return oldest


class Reconstruction(Pairing):
    """`reversible`: nothing is kept; the input is what today's weights map to the output that came back."""

    reconstructs = True

    def remember(self, kept: Kept, tick: int, evaluation: Evaluation | None) -> None:
        pass

    def recall(self, kept: Kept, tick: int, returned: Returned) -> Evaluation | None:
        output, context, layer, carry = returned
        if output is None:
            return None
        return Evaluation(
            Point((layer.inverse(carry.parameters, carry.buffers, output, context),), (), context)
        )


def pairing_of(name: PairingName, layer: Layer, depth: int, stash: StashName = "inputs") -> Pairing:
    """The memory a layer needs; `depth` is D, the ticks between its evaluation and its costate's return."""
    if name == "current":
        return Latest()
    if name == "reversible" and layer.invertible:
        return Reconstruction()
    return GraphStash(depth) if stash == "graph" and depth else Stash(depth)


class WindowMemory(Memory):
    """`time: backward`: the last `horizon` points of a layer, and the `depth` ones that came after them.

    layer: whose.  reintegrates: whether states further back than `depth` are left out (a point's state is empty then);
    those in which an episode begins stay.
    """

    def __init__(self, layer: Layer, horizon: int, depth: int, reintegrates: bool) -> None:
        self._layer, self._most, self._depth = layer, horizon + depth, depth
        self._reintegrates = reintegrates and layer.remembers

    def empty(self) -> deque[Evaluation]:
        return deque(maxlen=self._most)

    def remember(self, kept: deque[Evaluation], tick: int, evaluation: Evaluation | None) -> None:
        if evaluation is None:
            return
        ends = self._reintegrates and evaluation.point.restarts is not None
        kept.append(evaluation if ends else evaluation._replace(entered=()))
        if self._reintegrates and len(kept) > self._depth:
            place = len(kept) - 1 - self._depth
            point = kept[place].point
            if point.restarts is None:
                kept[place] = kept[place]._replace(point=point._replace(state=()))

    def window(self, kept: deque[Evaluation], number: int, most: int, carry: Carry) -> list[Point]:
        """The points of the evaluation `number` and of those before it, at most so many, the latest last.

        carry: as it is after the last evaluation remembered.
        """
        last = next(place for place, evaluation in enumerate(kept) if evaluation.number == number)
        known = list(kept)
        window = known[max(0, last + 1 - most) : last + 1]
        if not self._reintegrates:
            return [evaluation.point for evaluation in window]
        after = carry.state if last + 1 == len(known) else _met(known[last + 1])
        return self._with_states(window, after, carry)

    def _with_states(self, window: list[Evaluation], after: tuple[Tensor, ...], carry: Carry) -> list[Point]:
        """The points with every state, each found from the one after it with today's weights."""
        found: list[Point] = []
        for evaluation in reversed(window):
            point = evaluation.point
            if not point.state:
                state = self._layer.earlier(carry.parameters, carry.buffers, point, after)
                point = point._replace(state=state)
            found.append(point)
            after = evaluation.entered or point.state
        return found[::-1]


def _met(evaluation: Evaluation) -> tuple[Tensor, ...]:
    """The state that the evaluation before led to."""
    return evaluation.entered or evaluation.point.state


def gate_open(gate: Gate, tick: int, hold: int) -> bool:
    """always: every tick; settled: the last tick of every hold."""
    return gate == "always" or tick % hold == hold - 1
