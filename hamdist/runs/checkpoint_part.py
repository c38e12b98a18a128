"""One file of a checkpoint: a node's part of a cut, or the source's. Actors write theirs where they are."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hamdist.cluster.session import own_host
from hamdist.cluster.source_part import SourcePart
from hamdist.engine.encoded_file import as_bytes, load_encoded, stream_encoded
from hamdist.engine.encoding import Encoded, decode, encode
from hamdist.engine.node_part import parts_of
from hamdist.engine.state import PartitionState, SourceState
from hamdist.errors import UserError
from hamdist.network.graph import SOURCE, Edge
from hamdist.runs.folder import Folder
from hamdist.runs.whole_file import whole_file

NODE, TICK = "hamdist.node", "hamdist.tick"
READ_BYTES = 1 << 20  # at a time


class CheckpointError(UserError):
    """A checkpoint that cannot be gone on from; the message names the part, and why."""


class PartFile(NamedTuple):
    """What a manifest knows of a part: whose it is, its file, and what that holds."""

    node: str
    file: str
    bytes: int
    crc32: int


class PartBytes(NamedTuple):
    """A part that is still to be written: whose it is, and its file."""

    node: str
    data: bytes


def folder_of(tick: int) -> str:
    """The folder of a cut's checkpoint, within that of all."""
    return f"tick-{tick:012d}"


def tick_of(folder: str) -> int | None:
    """Of the cut whose checkpoint is in a folder of this name; None for another folder."""
    digits = folder.removeprefix("tick-")
    return int(digits) if digits.isdecimal() and folder == folder_of(int(digits)) else None


def part_bytes(tick: int, node: str, part: Any) -> PartBytes:
    """The file of a part. Raises TypeError for what cannot be written."""
    return PartBytes(node, as_bytes(_encoded(node, part), _metadata(tick, node)))


def kept(checkpoint: Folder, part: PartFile | PartBytes) -> PartFile:
    """The part as it is written, or else now. Raises OSError."""
    if isinstance(part, PartFile):
        return part
    file, data = _file_of(part.node), part.data
    checkpoint.write(file, data)
    return PartFile(part.node, file, len(data), zlib.crc32(data))


def write_part(checkpoint: Folder, tick: int, node: str, part: Any) -> PartFile:
    """Raises OSError, and TypeError for what cannot be written."""
    if not checkpoint.local:
        return kept(checkpoint, part_bytes(tick, node, part))
    file = _file_of(node)
    with whole_file(checkpoint.path / file) as beside:
        stream_encoded(beside, _encoded(node, part), _metadata(tick, node))
        size, crc32 = _measured(beside)
    return PartFile(node, file, size, crc32)


def _file_of(node: str) -> str:
    return f"{node}.safetensors"


def _metadata(tick: int, node: str) -> dict[str, str]:
    return {NODE: node, TICK: str(tick)}


def _encoded(node: str, part: Any) -> Encoded:
    try:
        return encode(part)
    except TypeError as error:
        raise TypeError(f"{node!r} cannot be written: {error}") from error


def _measured(path: Path) -> tuple[int, int]:
    """Bytes and CRC-32 of a file that was just written, as it is read."""
    size, crc32 = 0, 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(READ_BYTES):
            size, crc32 = size + len(data), zlib.crc32(data, crc32)
    return size, crc32


def read_part(checkpoint: Folder, tick: int, part: PartFile) -> Any:
    """What was written, if it is what the manifest says. Raises CheckpointError."""
    data = read_whole(checkpoint, tick, part)
    try:
        return decode(load_encoded(data)[0])
    except ValueError as error:
        raise CheckpointError(f"part {part.file} of tick {tick}: {error}") from error


def read_whole(checkpoint: Folder, tick: int, part: PartFile) -> bytes:
    """The file of a part. Raises CheckpointError where it is not the one that was written."""
    where = f"part {part.file} of tick {tick}"
    try:
        data = checkpoint.read(part.file)
    except FileNotFoundError as error:
        raise CheckpointError(f"{where} is missing") from error
    except OSError as error:
        raise CheckpointError(f"{where} cannot be read: {error}") from error
    if len(data) == part.bytes and zlib.crc32(data) == part.crc32:
        return data
    raise CheckpointError(f"{where} {_why(data, tick, part)}")


def _why(data: bytes, tick: int, part: PartFile) -> str:
    """What is wrong with a file that is not the one that was written."""
    try:
        metadata = load_encoded(data)[1]
    except ValueError:
        metadata = {}
    node, of = metadata.get(NODE, part.node), metadata.get(TICK, str(tick))
    if of != str(tick):
        return f"belongs to another checkpoint, that of tick {of}, or was changed after it was written"
    if node != part.node:
        return f"is the part of {node!r}, or was changed after it was written"
    if len(data) < part.bytes:
        return f"was cut short: {len(data)} of {part.bytes} bytes are there"
    return "was changed after it was written"


@dataclass(frozen=True)
class PartWriter:
    """Writes the parts of a cut, a file a node, in any process, or leaves them to the driver on another machine.

    edges: of the network.  host: of the driver, in Ray's words; "" where all are on its machine.
    """

    checkpoints: Folder
    edges: tuple[Edge, ...]
    host: str = ""

    def __call__(self, state: PartitionState) -> tuple[PartFile | PartBytes, ...]:
        """Raises OSError, and TypeError for what cannot be written."""
        parts, tick = parts_of(state, self.edges), state.tick
        if not self._reached:
            return tuple(part_bytes(tick, node, part) for node, part in parts.items())
        checkpoint = self.checkpoints / folder_of(tick)
        return tuple(write_part(checkpoint, tick, node, part) for node, part in parts.items())

    @property
    def _reached(self) -> bool:
        """Whether the folder is where this process sees it, too."""
        if not (self.host and self.checkpoints.local):
            return True
        return own_host() == self.host


def write_source(checkpoint: Folder, source: SourcePart) -> PartFile:
    """As `write_part`."""
    told = {"state": source.state, "stream": dict(source.stream), "first": source.first}
    return write_part(checkpoint, source.tick, SOURCE, told)


def read_source(checkpoint: Folder, tick: int, part: PartFile) -> SourcePart:
    """As `read_part`."""
    told = read_part(checkpoint, tick, part)
    if not isinstance(told, dict) or not isinstance(told.get("state"), SourceState):
        raise CheckpointError(f"part {part.file} of tick {tick} is not what a source says")
    return SourcePart(told["state"], told["stream"], told["first"])


def named(parts: Sequence[PartFile]) -> dict[str, PartFile]:
    """By node."""
    return {part.node: part for part in parts}
