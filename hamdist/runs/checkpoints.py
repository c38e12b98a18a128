"""The checkpoints of one run over actors: parts come from many processes, and the driver makes them whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hamdist.cluster.cut_keeper import Write
from hamdist.cluster.source_part import SourcePart
from hamdist.engine.node_part import parts_of
from hamdist.engine.state import PartitionState
from hamdist.network.graph import Edge
from hamdist.runs.checkpoint import (
    Manifest,
    PartFile,
    commit,
    part_bytes,
    prune,
    read_parts,
    tick_folder,
    write_part,
)


@dataclass(frozen=True)
class PartWriter:
    """Writes an actor's parts where it lives, if that reaches the folder; else they go to the driver as bytes.

    folder: of all checkpoints.  host: of the driver.  everywhere: whether every machine reaches the folder.
    """

    folder: str
    edges: tuple[Edge, ...]
    host: str
    everywhere: bool

    def __call__(self, state: PartitionState) -> tuple[Any, ...]:
        import ray

        parts = parts_of(state, self.edges)
        if self.everywhere or ray.util.get_node_ip_address() == self.host:
            there = tick_folder(self.folder, state.tick)
            return tuple(write_part(there, node, part) for node, part in parts.items())
        return tuple((node, part_bytes(node, part)) for node, part in parts.items())


class Checkpoints:
    """folder: of all of them; "" where none are kept.  keep: how many stay.  writer: for actors.

    manifest: makes that of a tick from its parts, the source's part, and what else is told.
    """

    def __init__(
        self,
        folder: str,
        keep: int,
        writer: Write | None,
        manifest: Callable[[SourcePart, Sequence[PartFile], Mapping[str, Any]], Manifest],
    ) -> None:
        self.folder, self._keep, self.writer, self._manifest = folder, keep, writer, manifest

    @property
    def on(self) -> bool:
        """Whether any are kept."""
        return bool(self.folder)

    def commit(self, source: SourcePart, files: Sequence[Any], seconds: float, restarts: int) -> None:
        """Makes a cut whole, of which the layers' parts are written, or came as bytes. Raises OSError, RunError."""
        there = tick_folder(self.folder, source.tick)
        written = [each if isinstance(each, PartFile) else write_part(there, *each) for each in files]
        written.append(write_part(there, "source", source))
        told = {"seconds": seconds, "restarts": restarts}
        commit(there, self._manifest(source, written, told))
        prune(self.folder, self._keep)

    def read(self, tick: int, nodes: Sequence[str]) -> PartitionState:
        """What some nodes had at a cut. Raises UserError where it is not whole."""
        return read_parts(tick_folder(self.folder, tick), nodes)
