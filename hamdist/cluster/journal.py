"""What a stream that cannot seek has given since the last whole cut, on disk: batches, and the ticks of its silences.

A record is its head, which says for which ticks it stands and how long it is, with a CRC-32 of all of it, and a batch
as a file of safetensors, or nothing. It is given to the system before its ticks are said, so that no death of a process
loses one. The last may be torn; it is dropped. Files begin at cuts, and go when a later cut is whole.
"""

import logging
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

from hamdist.cluster.feed import Fed
from hamdist.engine.encoded_file import as_bytes, load_encoded
from hamdist.engine.encoding import decode, encode
from hamdist.errors import RunError

_HEAD = struct.Struct("<4sIQQQ")  # magic, CRC-32 of what follows it; first tick, ticks, bytes of the item
_MAGIC = b"HDMJ"
_log = logging.getLogger(__name__)


class Record(NamedTuple):
    """What was said in `ticks` ticks from `tick` on, as a file has it; nothing, where they were silent."""

    tick: int
    ticks: int
    item: bytes

    @property
    def end(self) -> int:
        return self.tick + self.ticks

    def since(self, tick: int) -> "Record":
        """What is left of it from this tick on; of a batch, which no cut divides, all."""
        return self if self.item or tick <= self.tick else Record(tick, self.end - tick, b"")

    @property
    def fed(self) -> Fed:
        """What entered in them."""
        if not self.item:
            return Fed(None, silent=self.ticks)
        return Fed(*decode(load_encoded(self.item)[0]))


class Journal:
    """folder: its own. What an older run left there is read by `since`, or goes with the first `add`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[int] | None = None  # the first tick of each; None: nothing is known of them yet
        self._to: BinaryIO | None = None
        self._end = -1  # the tick after all that there should be
        self._failed = False
        self._lock = Lock()

    def add(self, tick: int, ticks: int, fed: Fed) -> None:
        """It is to be said in these ticks. A disk that is full is told of once; there is a gap then."""
        self._end = tick + ticks
        if self._failed:
            return
        try:
            self._write(tick, _record(tick, ticks, fed))
        except OSError as error:
            self._failed = True
            _log.warning(
                "the stream's journal cannot be written: %s; until the next checkpoint the run cannot go on from a "
                "failure",
                error,
            )
            self.close()

    def close(self) -> None:
        """What follows, if anything does, goes into another file."""
        if self._to is not None:
            self._to.close()
            self._to = None

    def cut(self) -> None:
        """A cut is reached: what follows goes into another file, and may be written again."""
        self.close()
        self._failed = False

    def forget(self, tick: int) -> None:
        """Nothing before this tick is needed any more; from any thread."""
        with self._lock:
            files = self._files or []
            old = [first for first, following in pairwise(files) if following <= tick]
            if old:
                self._files = files[len(old) :]
        for first in old:
            self._path(first).unlink(missing_ok=True)

    def since(self, tick: int) -> Iterator[Record]:
        """All from this tick on, in order. Raises RunError where something is missing."""
        self.close()
        due = tick
        for record in self._records(tick):
            if record.tick != due:
                raise RunError(_gap(due, record.tick))
            due = record.end
            yield record
        if due < self._end:
            raise RunError(_gap(due, self._end))

    def _records(self, tick: int) -> Iterator[Record]:
        with self._lock:
            if self._files is None:
                self._files = sorted(int(path.stem) for path in self._folder.glob("*.journal"))
            files = list(self._files)
        for first, following in zip(files, [*files[1:], None], strict=True):
            if following is None or following > tick:
                for record in _read(self._path(first)):
                    if record.end > tick:
                        yield record.since(tick)

    def _write(self, tick: int, record: bytes) -> None:
        if self._to is None:
            self._to = self._opened(tick)
        self._to.write(record)

    def _opened(self, tick: int) -> BinaryIO:
        """A new file that begins with this tick."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            if self._files is None:
                for path in self._folder.glob("*.journal"):
                    path.unlink()
            self._files = [first for first in self._files or [] if first < tick] + [tick]
        return self._path(tick).open("wb", buffering=0)

    def _path(self, first: int) -> Path:
        return self._folder / f"{first:012d}.journal"


def _record(tick: int, ticks: int, fed: Fed) -> bytes:
    item = b"" if fed.batch is None else as_bytes(encode((fed.batch, fed.position)))
    rest = _HEAD.pack(_MAGIC, 0, tick, ticks, len(item))[8:] + item
    return _MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest


def _read(path: Path) -> Iterator[Record]:
    """The records of a file, as far as they are whole."""
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            magic, checksum, tick, ticks, size = _HEAD.unpack(head)
            item = file.read(size) if magic == _MAGIC and size <= path.stat().st_size else b""
            if len(item) != size or zlib.crc32(item, zlib.crc32(head[8:])) != checksum:
                return
            yield Record(tick, ticks, item)


def _gap(due: int, come: int) -> str:
    return (
        f"the stream's journal lacks what entered from tick {due} to {come - 1}, and the stream cannot be asked again: "
        "start the run again"
    )
