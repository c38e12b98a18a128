"""What a layer keeps of a window of time, for costates that go back through it: inputs, and states or none.

Where the dynamics can be inverted, states need not be kept: from the one after the window they are integrated back.
"""

from collections import deque
from typing import Literal, NamedTuple

from torch import Tensor

from hamdist.physics.layers import Layer, Point
from hamdist.physics.tick import Carry

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
