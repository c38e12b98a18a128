"""The source of a network, seen by those who read it: what enters goes to them over links, tick by tick."""

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor

from hamdist.cluster.layout import Layout
from hamdist.cluster.outcome import Advance, Progress, attributed
from hamdist.engine.message import Message
from hamdist.engine.parts import signals_of
from hamdist.engine.profiler import timeline_of
from hamdist.engine.source import INPUTS, TARGETS
from hamdist.engine.state import Said, SourceState
from hamdist.network.graph import SOURCE
from hamdist.transport.base import Wiring
from hamdist.transport.remote_channel import OutgoingChannel, Traffic


class SourceWorker:
    """name: what errors call it.  profile: as a WorkerSpec's."""

    def __init__(self, name: str, profile: bool = False) -> None:
        self.name = name
        self._timeline = timeline_of(profile)
        self._reset_traffic()
        self._stopped = False
        self._wiring: Wiring | None = None
        self._ticks = 0  # that were sent

    def _reset_traffic(self) -> None:
        """Nothing has been said."""
        self._traffic = Traffic(timeline=self._timeline)

    def listen(self, layout: Layout, make_wiring: Callable[[], Wiring]) -> dict[int, str]:
        """As a worker's; the stream calls its neighbours, so nobody looks for it."""
        if self._wiring is not None:
            self._wiring.close()
        self._layout, self._wiring = layout, make_wiring()
        return self._wiring.listen(layout.endpoints(layout.stream))

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Joins those that read the source."""
        assert self._wiring is not None
        layout = self._layout
        links = self._wiring.connect(addresses)
        self._ways = [
            OutgoingChannel(edge, links[index], self._traffic, layout.ahead, layout.outline.warm(edge))
            for index, edge in layout.crossing()
            if edge.source == SOURCE
        ]

    def _give(self, messages: Iterable[Message]) -> None:
        losses = self._layout.outline.losses
        for message in messages:
            self._timeline.begin(self._ticks)
            self._ticks += message.ticks
            for way in self._ways:
                way.costates.skip(message.ticks)
                way.signals.add(message.only(TARGETS if way.edge.target in losses else INPUTS))

    def said(self) -> Said:
        """By edge, what it said in the last d ticks, of edges with a delay."""
        return signals_of(self._ways)

    def resume(self, source: SourceState) -> None:
        """Goes on after what a source said, before it says anything."""
        self._ticks = source.tick
        for way in self._ways:
            way.signals.resume(source.signals.get(way.edge.name, ()))

    # From any thread

    def alive(self) -> bool:
        """It is, if it answers."""
        return True

    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self._ticks)

    def stop(self) -> None:
        """Ends what it does at once."""
        self._stopped = True
        if self._wiring is not None:
            self._wiring.close()


class Presenter(SourceWorker):
    """Sends what it is given, when it is given. first: a batch like those to come."""

    def __init__(self, name: str, first: tuple[Tensor, Tensor]) -> None:
        super().__init__(name)
        self._first = first

    def first_batch(self) -> tuple[Tensor, Tensor | None]:
        """What tells the shapes; it is not presented by that."""
        return self._first

    def present(self, messages: Sequence[Message]) -> Advance:
        """Sends them to all who read the source; whatever goes wrong is in what it returns."""
        try:
            self._give(messages)
        except BaseException as error:
            self.stop()
            return Advance(
                self._ticks, error=attributed(error, self.name, self._ticks), details=traceback.format_exc()
            )
        return Advance(self._ticks)
