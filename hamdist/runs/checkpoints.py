"""The checkpoints of a run: a folder a cut, which counts once its manifest is there, and the newest of them again."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hamdist.cluster.source_part import SourcePart
from hamdist.config.schema import RunConfig
from hamdist.engine.node_part import NodePart, joined_parts
from hamdist.engine.state import PartitionState
from hamdist.errors import Problem
from hamdist.network.graph import SOURCE, Edge
from hamdist.runs.checkpoint_part import (
    CheckpointError,
    PartBytes,
    PartFile,
    PartWriter,
    folder_of,
    kept,
    named,
    read_part,
    read_source,
    read_whole,
    tick_of,
    write_source,
)
from hamdist.runs.folder import Folder
from hamdist.runs.manifest import MANIFEST, Manifest, manifest_of
from hamdist.runs.resumable import differences, fixed

CHECKPOINTS = "checkpoints"
_log = logging.getLogger(__name__)


class Checkpoints:
    """Those that a run writes.

    folder: where to; None: none are written.  keep: how many stay.  config: what of it must not change, as `fixed` has
    it.
    """

    def __init__(self, folder: Folder | None, keep: int, config: Mapping[str, Any]) -> None:
        self._folder, self._keep, self._config = folder, keep, config

    @classmethod
    def none(cls) -> "Checkpoints":
        """None are written."""
        return cls(None, 1, {})

    @property
    def on(self) -> bool:
        """Whether any are written."""
        return self._folder is not None

    def writer(self, edges: Iterable[Edge], host: str = "") -> PartWriter | None:
        """Writes the parts of a cut, wherever they are; None where none are written.

        edges: of the network.  host: of this machine, in Ray's words; "" where all parts are on it.
        """
        return None if self._folder is None else PartWriter(self._folder, tuple(edges), host)

    def commit(
        self, source: SourcePart, files: Sequence[PartFile | PartBytes], record: Mapping[str, Any]
    ) -> None:
        """The cut whose parts have been written, or came as bytes, becomes a checkpoint, and the oldest ones go.

        record: what the run has told until then. Raises OSError, and TypeError for what cannot be written.
        """
        if self._folder is None:
            return
        checkpoint = self._folder / folder_of(source.tick)
        parts = (*(kept(checkpoint, file) for file in files), write_source(checkpoint, source))
        manifest = Manifest(source.tick, source.state.samples, parts, self._config, record)
        checkpoint.write(MANIFEST, manifest.as_bytes())
        prune(self._folder, self._keep)

    def end_at(self, tick: int) -> None:
        """The newest that is whole is that of this tick: what was begun after it is not left behind."""
        if self._folder is not None:
            with suppress(OSError):
                forget_after(self._folder, tick)

    def abandon(self, tick: int) -> None:
        """Nothing is left of a cut that could not be written."""
        if self._folder is not None:
            remove(self._folder, tick)

    def newest(self) -> "Found | None":
        """The newest that is whole. Raises CheckpointError where there are some, and none is."""
        return None if self._folder is None else newest_whole(self._folder, self._config)

    def read(self, tick: int, nodes: Iterable[str]) -> PartitionState:
        """What some nodes had at a cut. Raises CheckpointError."""
        if self._folder is None:
            raise CheckpointError(f"there is no checkpoint of tick {tick}: none are written")
        return read_nodes(self._folder, manifest_at(self._folder, tick), nodes)


@dataclass(frozen=True)
class Found:
    """A checkpoint that is whole.  spoilt: why newer ones are not, the newest first.  directory: of its run."""

    folder: Folder
    manifest: Manifest
    spoilt: tuple[str, ...] = ()
    directory: Path = Path()

    @property
    def tick(self) -> int:
        """That of the cut."""
        return self.manifest.tick

    def partition(self) -> PartitionState:
        """All layers and losses. Raises CheckpointError."""
        return read_nodes(self.folder, self.manifest, named(self.manifest.parts).keys() - {SOURCE})

    def source(self) -> SourcePart:
        """Raises CheckpointError."""
        return read_source(self.folder / folder_of(self.tick), self.tick, _part(self.manifest, SOURCE))


def newest_whole(folder: Folder, config: Mapping[str, Any]) -> Found | None:
    """The newest checkpoint of which everything is there as it was written; None where there is none at all.

    What was never ended is passed over without a word. Raises CheckpointError where something is there and nothing is
    whole, or where it is of another config.
    """
    spoilt: list[str] = []
    for tick in ticks_in(folder):
        try:
            manifest = checked(folder, tick)
        except CheckpointError as error:
            spoilt.append(str(error))
            continue
        _check_config(manifest, config)
        if manifest.versions["torch"] != torch.__version__:
            _log.warning("torch %s wrote the checkpoint: bits may differ", manifest.versions["torch"])
        return Found(folder, manifest, tuple(spoilt))
    if spoilt:
        raise CheckpointError(f"{folder} holds no checkpoint that is whole: {'; '.join(spoilt)}")
    return None


def ticks_in(folder: Folder) -> list[int]:
    """Those of which a manifest was written, the newest first."""
    return [tick for tick in _all_ticks(folder) if MANIFEST in (folder / folder_of(tick)).names()]


def checked(folder: Folder, tick: int) -> Manifest:
    """A manifest all of whose parts are there as they were written. Raises CheckpointError."""
    manifest = manifest_at(folder, tick)
    for part in manifest.parts:
        read_whole(folder / folder_of(tick), tick, part)
    return manifest


def manifest_at(folder: Folder, tick: int) -> Manifest:
    """That of a tick. Raises CheckpointError."""
    try:
        return manifest_of((folder / folder_of(tick)).read(MANIFEST), tick)
    except OSError as error:
        raise CheckpointError(f"{MANIFEST} of tick {tick} cannot be read: {error}") from error


def read_nodes(folder: Folder, manifest: Manifest, nodes: Iterable[str]) -> PartitionState:
    """What some nodes had at a cut. Raises CheckpointError."""
    tick, parts = manifest.tick, {}
    for node in nodes:
        file = _part(manifest, node)
        part = read_part(folder / folder_of(tick), tick, file)
        if not isinstance(part, NodePart):
            raise CheckpointError(f"part {file.file} of tick {tick} is not that of a layer or a loss")
        parts[node] = part
    return joined_parts(tick, parts)


def prune(folder: Folder, keep: int) -> None:
    """Leaves so many, the newest, and what is in work after these."""
    whole = ticks_in(folder)
    stay = set(whole[: max(1, keep)])
    for tick in _all_ticks(folder):
        if whole and tick < whole[0] and tick not in stay:
            remove(folder, tick)


def forget_after(folder: Folder, tick: int) -> None:
    """What came after a tick never was."""
    for later in _all_ticks(folder):
        if later > tick:
            remove(folder, later)


def _all_ticks(folder: Folder) -> list[int]:
    """Those of which there is anything, the newest first."""
    return sorted((tick for name in folder.names() if (tick := tick_of(name)) is not None), reverse=True)


def remove(folder: Folder, tick: int) -> None:
    """The manifest first, so that none is ever there without its parts; what cannot be removed stays, with a word."""
    try:
        (folder / folder_of(tick)).remove(MANIFEST)
        folder.remove(folder_of(tick))
    except OSError as error:
        _log.warning("the checkpoint of tick %d could not be removed: %s", tick, error)


def _part(manifest: Manifest, node: str) -> PartFile:
    found = named(manifest.parts).get(node)
    if found is None:
        raise CheckpointError(f"{MANIFEST} of tick {manifest.tick} knows no part of {node!r}")
    return found


def _check_config(manifest: Manifest, config: Mapping[str, Any]) -> None:
    found = differences(manifest.config, config)
    if found:
        raise CheckpointError(
            *(Problem(key, f"{why} (in the checkpoint of tick {manifest.tick})") for key, why in found)
        )


def checkpoints_of(config: RunConfig, directory: Path) -> Checkpoints:
    """Where a config wants them, in its run directory if nowhere else. Raises UserError."""
    folder: Folder | None = None
    if config.checkpoints:
        folder = Folder(config.checkpoint.to or directory / CHECKPOINTS)
        folder.make()
    return Checkpoints(folder, config.checkpoint.keep, fixed(config))
