"""Which activations a returning costate meets, what a layer keeps for it, and on which ticks it may drive the weights.

current      today's: nothing is kept but the last input itself
stashed      those of D ticks ago: linearised again with today's weights, or with the linearisation of then kept,
             and with it the weights of then
reversible   those reconstructed from the output that comes back with the costate; a layer that cannot be
             inverted stashes
window       those of a window of time, for costates that go back through it: inputs, and states or, where the dynamics
             can be inverted, none: from the one after the window they are integrated back
"""

from abc import ABC, abstractmethod
from collections import deque
from typing import Literal, NamedTuple

from torch import Tensor

from hamdist.physics.hamiltonian import Pullback
from hamdist.physics.layers import Context, Layer, Point
from hamdist.physics.step import Carry

PairingName = Literal["current", "stashed", "reversible"]
StashName = Literal["inputs", "graph"]
Gate = Literal["always", "settled"]


class Returned(NamedTuple):
    """What comes back with a costate: the output it speaks of (reversible only), and its circumstances."""

    output: Tensor | None
    context: Context


class Evaluation(NamedTuple):
    """A point, and the pullback of what was evaluated there; None where it is to be made with today's weights."""

    point: Point
    pullback: Pullback | None = None


class Memory(ABC):
    """What one layer keeps between ticks so that a costate can be paired.

    meets_present: whether a costate of this tick meets this tick's evaluation, where there is one.
    keeps_graphs: whether it keeps pullbacks, which need the weights that they were made with as they were.
    """

    meets_present: bool
    keeps_graphs = False

    @property
    def linearises(self) -> bool:
        """Whether a layer that learns makes the pullback of what it evaluates; its costate then needs no other."""
        return self.meets_present or self.keeps_graphs

    @abstractmethod
    def remember(self, evaluation: Evaluation | None) -> None:
        """Called once a tick with what was evaluated, None where nothing that learns was."""

    @abstractmethod
    def recall(self, carry: Carry, returned: Returned) -> Evaluation | None:
        """What this tick's costate meets; None where there is nothing."""

    @abstractmethod
    def points(self) -> list[Point | None]:
        """The points held, the latest first."""

    @abstractmethod
    def restore(self, points: list[Point]) -> None:
        """Holds these points, the latest first, as if they had been remembered."""

    @property
    def kept(self) -> int:
        """How many points are held."""
        return sum(point is not None for point in self.points())


class Latest(Memory):
    """`current`: the last point evaluated."""

    meets_present = True

    def __init__(self) -> None:
        self._point: Point | None = None

    def remember(self, evaluation: Evaluation | None) -> None:
        if evaluation is not None:
            self._point = evaluation.point

    def recall(self, carry: Carry, returned: Returned) -> Evaluation | None:
        return self._point and Evaluation(self._point)

    def points(self) -> list[Point | None]:
        return [self._point]

    def restore(self, points: list[Point]) -> None:
        (self._point,) = points


class Stash(Memory):
    """`stashed`: the points of the last D ticks and of this one; the oldest is recalled."""

    def __init__(self, depth: int) -> None:
        self.meets_present = depth == 0
        self._evaluations: deque[Evaluation | None] = deque([None] * (depth + 1), maxlen=depth + 1)

    def remember(self, evaluation: Evaluation | None) -> None:
        self._evaluations.append(evaluation and Evaluation(evaluation.point))

    def recall(self, carry: Carry, returned: Returned) -> Evaluation | None:
        return self._evaluations[0]

    def points(self) -> list[Point | None]:
        return [evaluation and evaluation.point for evaluation in reversed(self._evaluations)]

    def restore(self, points: list[Point]) -> None:
        for point in reversed(points):
            self.remember(Evaluation(point))


class GraphStash(Stash):
    """`stashed`, as graphs: the points with their pullbacks, each of which holds its activations and its weights."""

    keeps_graphs = True

    def remember(self, evaluation: Evaluation | None) -> None:
        self._evaluations.append(evaluation)

    def recall(self, carry: Carry, returned: Returned) -> Evaluation | None:
        """Gives the oldest away, so that its memory is free before the next weights are made."""
        oldest, self._evaluations[0] = self._evaluations[0], None
        return oldest


class Reconstruction(Memory):
    """`reversible`: nothing is kept; the input is what today's weights map to the output that came back."""

    meets_present = False

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def remember(self, evaluation: Evaluation | None) -> None:
        pass

    def recall(self, carry: Carry, returned: Returned) -> Evaluation | None:
        assert returned.output is not None, "a reversible layer's out-edge returns the output it speaks of"
        inputs = self._layer.inverse(carry.parameters, carry.buffers, returned.output, returned.context)
        return Evaluation(Point((inputs,), (), returned.context))

    def points(self) -> list[Point | None]:
        return []

    def restore(self, points: list[Point]) -> None:
        pass


def make_memory(pairing: PairingName, layer: Layer, depth: int, stash: StashName = "inputs") -> Memory:
    """The memory a layer needs; `depth` is D, the ticks between its evaluation and its costate's return."""
    if pairing == "current":
        return Latest()
    if pairing == "reversible" and layer.invertible:
        return Reconstruction(layer)
    return GraphStash(depth) if stash == "graph" and depth else Stash(depth)


def gate_open(gate: Gate, tick: int, hold: int) -> bool:
    """always: every tick; settled: the last tick of every hold."""
    return gate == "always" or tick % hold == hold - 1


StatesName = Literal["stored", "reintegrated"]


class Moment(NamedTuple):
    """A tick that learns.

    number: orders the ticks.  point: its state is empty where it is not kept.  ended: where an episode begins, the
    state in which the one before ended.
    """

    number: int
    point: Point
    ended: tuple[Tensor, ...] = ()


class Past:
    """The last `horizon` moments of a layer, and the `depth` ones that came after them.

    reintegrates: whether states further back than `depth` are left out; those in which an episode begins stay.
    """

    def __init__(self, layer: Layer, horizon: int, depth: int, reintegrates: bool) -> None:
        self._layer, self._depth = layer, depth
        self._reintegrates = reintegrates and layer.remembers
        self._moments: deque[Moment] = deque(maxlen=horizon + depth)

    def remember(self, number: int, point: Point, before: tuple[Tensor, ...]) -> None:
        """before: the state before episodes began at the point."""
        ends = self._reintegrates and point.restarts is not None
        self._moments.append(Moment(number, point, before if ends else ()))
        if self._reintegrates and len(self._moments) > self._depth:
            place = len(self._moments) - 1 - self._depth
            moment = self._moments[place]
            if moment.point.restarts is None:
                self._moments[place] = moment._replace(point=moment.point._replace(state=()))

    def window(self, number: int, most: int, carry: Carry) -> list[Point]:
        """The points of the moment `number` and of those before it, at most so many, the latest last.

        carry: as it is after the last moment remembered.
        """
        last = next(place for place, moment in enumerate(self._moments) if moment.number == number)
        known = list(self._moments)
        window = known[max(0, last + 1 - most) : last + 1]
        if not self._reintegrates:
            return [moment.point for moment in window]
        after = carry.state if last + 1 == len(known) else _met(known[last + 1])
        return self._with_states(window, after, carry)

    @property
    def bytes(self) -> int:
        """Of what is kept."""
        kept = ((*moment.point.inputs, *moment.point.state, *moment.ended) for moment in self._moments)
        return sum(tensor.nbytes for tensors in kept for tensor in tensors)

    def _with_states(self, window: list[Moment], after: tuple[Tensor, ...], carry: Carry) -> list[Point]:
        """The points with every state, each found from the one after it with today's weights."""
        found: list[Point] = []
        for moment in reversed(window):
            point = moment.point
            if not point.state:
                state = self._layer.earlier(carry.parameters, carry.buffers, point, after)
                point = point._replace(state=state)
            found.append(point)
            after = moment.ended or point.state
        return found[::-1]


def _met(moment: Moment) -> tuple[Tensor, ...]:
    """The state that the moment before led to."""
    return moment.ended or moment.point.state
