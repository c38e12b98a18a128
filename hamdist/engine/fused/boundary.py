"""What crosses the border of a fused partition: the ways to other partitions and from the source, tick by tick."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.engine.channel import Channel, InChannel, OutChannel
from hamdist.engine.fused.state import Back, Entering, there
from hamdist.engine.fused.tokens import Passage
from hamdist.engine.message import NO_COSTATE, Message, Token
from hamdist.engine.spec import Outline
from hamdist.errors import RunError
from hamdist.network.graph import SOURCE
from hamdist.network.tick_order import crossings
from hamdist.network.timing import Times

Send = Callable[[int, int, Any, Sequence[Tensor]], None]


class Boundary:
    """inner: the channels inside the partition, by the name of their edge.

    passage: takes every token that comes in, and gives those of all that goes out.
    """

    def __init__(
        self,
        outline: Outline,
        times: Times,
        into: Sequence[InChannel],
        out_of: Sequence[OutChannel],
        batch: int,
        kept: int,
    ) -> None:
        graph = outline.graph
        self.inner = {way.edge.name: way for way in out_of if isinstance(way, Channel)}
        index = {edge.name: number for number, edge in enumerate(graph.edges)}
        self._in = [(index[way.edge.name], way) for way in into if way.edge.name not in self.inner]
        self._out = [(index[way.edge.name], way) for way in out_of if way.edge.name not in self.inner]
        self._times, self._batch = times, batch
        told = [way for _, way in self._in if not way.edge.feedback]
        self._first = max(told, key=lambda way: times.heard(way.edge.target, 0))
        self._others = [(way, -times.heard(way.edge.target, 0)) for way in told if way is not self._first]
        self.passage = Passage(kept)
        self._sends = list(self._in_order(outline))

    def regular(self, ticks: int) -> bool:
        """Whether every token that comes in, in the next so many ticks, learns and is of a full batch with all its
        targets; awaits them.
        """
        return all(
            way.edge.feedback or all(map(self.full, way.signals.tokens(ticks))) for _, way in self._in
        ) and all(way.edge.feedback or all(map(_learns, way.costates.tokens(ticks))) for _, way in self._out)

    def latest(self) -> Token:
        """That of the latest samples that come in; the others follow them."""
        return self._first.signals.tokens(1)[0]

    def full(self, token: Token) -> bool:
        """Whether it learns and is of a full batch with all its targets."""
        return _learns(token) and token.rows == self._batch and token.labelled

    def enter(self, ticks: int) -> None:
        """Notes the samples that come in, in the next so many ticks."""
        self.passage.add(self._first.signals.tokens(ticks))

    def recall(self, recent: Sequence[Token]) -> int:
        """Goes on from a cut: notes what came in last, as far as there was nothing but full batches; of how many ticks.

        recent: what the source gave in the ticks before the cut. What it gave last has not come here yet.
        """
        self.passage.restart()
        heard = recent[: max(0, len(recent) + self._times.heard(self._first.edge.target, 0))]
        regular = list(takewhile(self.full, reversed(heard)))[::-1]
        if regular:
            self.passage.add(regular)
        return len(regular)

    def check(self, tick: int, ticks: int) -> None:
        """Raises RunError where what comes in is not of the samples that its target meets in these ticks."""
        for way, arrival in self._others:
            due, come = self.passage.told(tick - arrival, ticks), way.signals.tokens(ticks)
            if tuple(come) != due:
                raise RunError(
                    f"edge {way.edge.name} at tick {tick}: the signal of sample {come[0].first} came where that of "
                    f"sample {due[0].first} was due; this is a fault of hamdist: please report it with your config"
                )

    def look(self, ticks: int, restarts: Mapping[int, Tensor]) -> Entering:
        """The signals and costates of the next so many ticks, with the restarts of units in them."""
        signals = {index: there(way.signals.ahead(ticks).tensors[0]) for index, way in self._in}
        costates = {}
        for index, out in self._out:
            value, used = out.costates.ahead(ticks).tensors
            if value is not None:
                costates[index] = Back({0: value}, () if used is None else (used,))
        return Entering(signals, costates, restarts)

    def take(self, ticks: int) -> None:
        """So many ticks' are met."""
        for _, way in self._in:
            way.signals.skip(ticks)
        for _, out in self._out:
            out.costates.skip(ticks)

    def give(self, tick: int, ticks: int, leaving: Any, tensors: Sequence[Tensor]) -> None:
        """Sends what goes out in so many ticks, in the order of a tick.  leaving: of places in `tensors`."""
        for send in self._sends:
            send(tick, ticks, leaving, tensors)

    def _in_order(self, outline: Outline) -> Iterator[Send]:
        inward, outward = dict(self._in), dict(self._out)
        for index, forward in crossings(outline.order, outline.graph.edges):
            if forward and index in outward:
                yield partial(self._say, index, outward[index])
            elif not forward and index in inward:
                yield partial(self._return, index, inward[index])

    def _say(
        self, index: int, way: OutChannel, tick: int, ticks: int, leaving: Any, tensors: Sequence[Tensor]
    ) -> None:
        tokens = self.passage.told(self._times.said(way.edge.source, tick), ticks)
        way.signals.add(Message(tokens, (aligned(tensors[leaving.signals[index]]),)))

    def _return(
        self, index: int, way: InChannel, tick: int, ticks: int, leaving: Any, tensors: Sequence[Tensor]
    ) -> None:
        if way.edge.source == SOURCE:
            way.costates.add(Message((NO_COSTATE.token,) * ticks, NO_COSTATE[1:]))
            return
        tokens = self.passage.told(self._times.returned(way.edge.target, tick), ticks)
        back = leaving.costates[index]
        value = aligned(tensors[back.costates[0]]) if back.costates else None
        used = aligned(tensors[back.used[0]]) if back.used else None
        way.costates.add(Message(tokens, (value, used)))


def _learns(token: Token) -> bool:
    return token.valid and token.learn
