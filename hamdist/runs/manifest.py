"""What makes a checkpoint whole: the file that names all its parts, written last."""

import json
import platform
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from hamdist.runs.checkpoint_part import CheckpointError, PartFile

MANIFEST = "manifest.json"
FORMAT = 1


def versions() -> dict[str, str]:
    """Of what decides what is in a checkpoint, and what becomes of it."""
    return {
        "hamdist": version("hamdist"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class Manifest:
    """tick: of the cut.  samples: that had entered.  parts: a file each.  config: what of it must stay as it is.
    record: what the run had told until then: seconds, lines of metrics, predictions, restarts.  format: of all files.
    """

    tick: int
    samples: int
    parts: tuple[PartFile, ...]
    config: Mapping[str, Any]
    record: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    format: int = FORMAT

    def as_bytes(self) -> bytes:
        """The file: JSON that begins with the checksum of what follows."""
        told = {**asdict(self), "parts": [part._asdict() for part in self.parts]}
        return _text({"crc32": _checksum(told), **told}).encode()


def manifest_of(data: bytes, tick: int) -> Manifest:
    """That of a file in the folder of a tick. Raises CheckpointError for one that was changed, or is of another tick or
    version.
    """
    told = _told(data, tick)
    if told.get("format") != FORMAT:
        raise CheckpointError(
            f"{MANIFEST} of tick {tick} is of format {told.get('format')!r}, which another version of hamdist has "
            f"written; this one, {version('hamdist')}, reads format {FORMAT}"
        )
    try:
        manifest = Manifest(**{**told, "parts": tuple(PartFile(**part) for part in told["parts"])})
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{MANIFEST} of tick {tick} is no manifest: {error}") from error
    if manifest.tick != tick:
        raise CheckpointError(
            f"{MANIFEST} of tick {tick} belongs to another checkpoint, that of tick {manifest.tick}"
        )
    written, here = manifest.versions.get("hamdist"), version("hamdist")
    if written != here:
        raise CheckpointError(f"{MANIFEST} of tick {tick}: hamdist {written} wrote it, and this is {here}")
    return manifest


def _told(data: bytes, tick: int) -> dict[str, Any]:
    """What it says, where that is just what was written."""
    try:
        told = json.loads(data)
        checksum = told.pop("crc32")
        if _checksum(told) == checksum and _text({"crc32": checksum, **told}).encode() == data:
            return dict(told)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        pass
    raise CheckpointError(f"{MANIFEST} of tick {tick} was cut short or changed after it was written")


def _checksum(told: Mapping[str, Any]) -> int:
    return zlib.crc32(_text(told).encode())


def _text(told: Mapping[str, Any]) -> str:
    return json.dumps(told, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
