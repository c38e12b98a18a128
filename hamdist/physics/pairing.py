"""Which activations a returning costate meets, and on which ticks it may drive the weights.

current      today's: nothing is kept but the last input itself
stashed      those of D ticks ago, linearised again with today's weights
reversible   those reconstructed from the output that comes back with the costate; a layer that cannot be
             inverted stashes
"""

from abc import ABC, abstractmethod
from collections import deque
from typing import Literal, NamedTuple

from torch import Tensor

from hamdist.physics.layers import Context, Layer, Point
from hamdist.physics.tick import Carry

PairingName = Literal["current", "stashed", "reversible"]
Gate = Literal["always", "settled"]


class Returned(NamedTuple):
    """What comes back with a costate: the output it speaks of (reversible only), and its circumstances."""

    output: Tensor | None
    context: Context


class Memory(ABC):
    """What one layer keeps between ticks so that a costate can be paired.

    meets_present: whether a costate of this tick meets this tick's evaluation, where there is one.
    """

    meets_present: bool

    @abstractmethod
    def remember(self, point: Point | None) -> None:
        """Called once a tick with the point evaluated, None where nothing that learns was evaluated."""

    @abstractmethod
    def recall(self, carry: Carry, returned: Returned) -> Point | None:
        """The point that this tick's costate meets; None where there is none."""

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

    def remember(self, point: Point | None) -> None:
        if point is not None:
            self._point = point

    def recall(self, carry: Carry, returned: Returned) -> Point | None:
        return self._point

    def points(self) -> list[Point | None]:
        return [self._point]

    def restore(self, points: list[Point]) -> None:
        (self._point,) = points


class Stash(Memory):
    """`stashed`: the points of the last D ticks and of this one; the oldest is recalled."""

    def __init__(self, depth: int) -> None:
        self.meets_present = depth == 0
        self._points: deque[Point | None] = deque([None] * (depth + 1), maxlen=depth + 1)

    def remember(self, point: Point | None) -> None:
        self._points.append(point)

    def recall(self, carry: Carry, returned: Returned) -> Point | None:
        return self._points[0]

    def points(self) -> list[Point | None]:
        return list(reversed(self._points))

    def restore(self, points: list[Point]) -> None:
        for point in reversed(points):
            self.remember(point)


class Reconstruction(Memory):
    """`reversible`: nothing is kept; the input is what today's weights map to the output that came back."""

    meets_present = False

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def remember(self, point: Point | None) -> None:
        pass

    def recall(self, carry: Carry, returned: Returned) -> Point | None:
        assert returned.output is not None, "a reversible layer's out-edge returns the output it speaks of"
        inputs = self._layer.inverse(carry.parameters, carry.buffers, returned.output, returned.context)
        return Point((inputs,), (), returned.context)

    def points(self) -> list[Point | None]:
        return []

    def restore(self, points: list[Point]) -> None:
        pass


def make_memory(pairing: PairingName, layer: Layer, depth: int) -> Memory:
    """The memory a layer needs; `depth` is D, the ticks between its evaluation and its costate's return."""
    if pairing == "current":
        return Latest()
    if pairing == "reversible" and layer.invertible:
        return Reconstruction(layer)
    return Stash(depth)


def gate_open(gate: Gate, tick: int, hold: int) -> bool:
    """always: every tick; settled: the last tick of every hold."""
    return gate == "always" or tick % hold == hold - 1
