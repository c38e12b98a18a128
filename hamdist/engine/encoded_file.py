"""An encoded state as a file of safetensors: its tensors, and all else as JSON in the metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError
from safetensors.torch import load, save, save_file

from hamdist.engine.encoding import Encoded

TOLD = "hamdist.state"


def as_bytes(encoded: Encoded, metadata: Mapping[str, str] | None = None) -> bytes:
    """The file.  metadata: more of it, in words of whoever writes."""
    return save(encoded.tensors, _told(encoded, metadata))


def save_encoded(to: Path | BinaryIO, encoded: Encoded, metadata: Mapping[str, str] | None = None) -> None:
    """Writes it as it is, also over what was there: `runs/whole_file.py` does so as a whole. Raises OSError."""
    data = as_bytes(encoded, metadata)
    if isinstance(to, Path):
        to.write_bytes(data)
    else:
        to.write(data)


def stream_encoded(path: Path, encoded: Encoded, metadata: Mapping[str, str] | None = None) -> None:
    """As `save_encoded`, with tensors from where they are, in a fourth of the time, and other threads go on meanwhile.
    A process that dies in it leaves a file of another name in the folder. Raises OSError.
    """
    try:
        save_file(encoded.tensors, path, _told(encoded, metadata))
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _told(encoded: Encoded, metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The metadata of the file."""
    return {**(metadata or {}), TOLD: json.dumps(encoded.told, allow_nan=False, separators=(",", ":"))}


def load_encoded(of: bytes | Path) -> tuple[Encoded, dict[str, str]]:
    """What was saved, and the metadata. Raises ValueError for anything else, OSError for what cannot be read."""
    data = of.read_bytes() if isinstance(of, Path) else of
    try:
        metadata = _metadata(data)
        tensors = load(data)
        told = json.loads(metadata.pop(TOLD))
    except (SafetensorError, ValueError, RecursionError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"cut off, changed, or no file of a state ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(told, dict):
        raise ValueError("no file of a state")
    return Encoded(tensors, told), metadata


def _metadata(data: bytes) -> dict[str, str]:
    """Raises ValueError, KeyError, TypeError where there is none."""
    length = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + length])["__metadata__"]
    if not all(isinstance(text, str) for text in found.values()):
        raise ValueError("its metadata is not text")
    return dict(found)
