"""What crosses the border of a fused part: the ways to other parts and from the source, tick by tick."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from hamdist.network.graph import SOURCE
from hamdist.runtime.aligned import aligned
from hamdist.runtime.channel import Channel, InWay, OutWay
from hamdist.runtime.fused.carries import there
from hamdist.runtime.fused.flow import Back
from hamdist.runtime.fused.passage import Passage
from hamdist.runtime.fused.times import Times
from hamdist.runtime.outline import Outline
from hamdist.runtime.token import NO_COSTATE, Costate, Signal, Token

Send = Callable[[int, Any, Sequence[Tensor]], None]


class Boundary:
    """inner: the channels inside the part, by the name of their edge.

    passage: takes every token that comes in, and gives those of all that goes out.
    """

    def __init__(
        self,
        outline: Outline,
        times: Times,
        into: Sequence[InWay],
        out_of: Sequence[OutWay],
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
        self.passage = Passage(kept)
        self._sends = list(self._in_order(outline.islands))

    def regular(self, ahead: int) -> bool:
        """Whether every token that comes in, so many ticks ahead, learns and is of a full batch; awaits them."""
        return all(way.edge.feedback or self._full(way.signals[ahead].token) for _, way in self._in) and all(
            way.edge.feedback or _learns(way.costates[ahead].token) for _, way in self._out
        )

    def fresh(self) -> bool:
        """Whether the token of the latest samples that come in is so; the others follow them."""
        return self._full(self._first.signals[0].token)

    def enter(self, ahead: int) -> None:
        """Notes the samples that come in, so many ticks ahead."""
        self.passage.add(self._first.signals[ahead].token)

    def look(self, ahead: int) -> tuple[dict[int, Tensor], dict[int, Back]]:
        """The signals and costates of one tick, so many ticks ahead, by edge."""
        signals, costates = {}, {}
        for index, way in self._in:
            signals[index] = there(way.signals[ahead].value)
        for index, out in self._out:
            costate = out.costates[ahead]
            if costate.value is not None:
                costates[index] = Back(
                    {0: costate.value}, () if costate.output is None else (costate.output,)
                )
        return signals, costates

    def take(self) -> None:
        """One tick's are met."""
        for _, way in self._in:
            way.signals.popleft()
        for _, out in self._out:
            out.costates.popleft()

    def give(self, tick: int, leaving: Any, tensors: Sequence[Tensor]) -> None:
        """Sends what goes out in a tick, in the order of a tick.  leaving: as a Leaving, of places in `tensors`."""
        for send in self._sends:
            send(tick, leaving, tensors)

    def _in_order(self, islands: Sequence[Sequence[str]]) -> Iterator[Send]:
        """Signals as their sources are evaluated, costates as their targets react."""
        for island in islands:
            for node in island:
                yield from (partial(self._say, i, way) for i, way in self._out if way.edge.source == node)
            for node in reversed(island):
                yield from (partial(self._return, i, way) for i, way in self._in if way.edge.target == node)

    def _say(self, index: int, way: OutWay, tick: int, leaving: Any, tensors: Sequence[Tensor]) -> None:
        token = self.passage[self._times.said(way.edge.source, tick)]
        way.signals.append(Signal(token, aligned(tensors[leaving.signals[index]])))

    def _return(self, index: int, way: InWay, tick: int, leaving: Any, tensors: Sequence[Tensor]) -> None:
        if way.edge.source == SOURCE:
            way.costates.append(NO_COSTATE)
            return
        token = self.passage[self._times.returned(way.edge.target, tick)]
        way.costates.append(self._costate(token, leaving.costates[index], tensors))

    def _costate(self, token: Token, back: Any, tensors: Sequence[Tensor]) -> Costate:
        value = aligned(tensors[back.costates[0]]) if back.costates else None
        return Costate(token, value, aligned(tensors[back.used[0]]) if back.used else None)

    def _full(self, token: Token) -> bool:
        return _learns(token) and token.rows == self._batch


def _learns(token: Token) -> bool:
    return token.valid and token.learn
