"""A stream around another one."""

from collections.abc import Mapping

from hamdist.streams.stream import Stream


class Wrapped(Stream):
    """It has the facts, and the position in the source, of the stream inside it, unless it says otherwise."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.samples, self.classes, self.live = stream.samples, stream.classes, stream.live

    @property
    def available(self) -> int | None:
        return self._stream.available

    @property
    def seeks(self) -> bool:
        return self._stream.seeks

    @property
    def taken(self) -> int:
        return self._stream.taken

    @property
    def skipped(self) -> Mapping[str, int]:
        return self._stream.skipped
