"""One file of tensors and JSON, whole or not there, that says what it is, of which version, and whether it changed."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from hamdist.engine.encoded_file import load_encoded, save_encoded
from hamdist.engine.encoding import Encoded
from hamdist.errors import UserError
from hamdist.runs.whole_file import whole_file

KIND, VERSION, ABOUT, SUM = "hamdist.kind", "hamdist.version", "hamdist.about", "hamdist.crc32"


def write_state_file(
    path: str | Path, kind: str, version: int, about: Mapping[str, Any], encoded: Encoded
) -> None:
    """about: JSON. Raises UserError where it cannot be written; what stood there stands there still then."""
    metadata = {KIND: kind, VERSION: str(version), ABOUT: json.dumps(about)}
    metadata[SUM] = _sum(metadata, encoded)
    try:
        with whole_file(Path(path)) as beside:
            save_encoded(beside, encoded, metadata)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be written: {error}") from error


def read_state_file(path: str | Path, kind: str, version: int) -> tuple[dict[str, Any], Encoded]:
    """What `about` was, and what was encoded. Raises UserError naming the file."""
    try:
        encoded, metadata = load_encoded(Path(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if metadata.get(KIND) != kind:
        raise UserError(f"{path} is no file of a {kind}" + _other(metadata.get(KIND)))
    if metadata.get(VERSION) != str(version):
        raise UserError(newer(str(path), metadata.get(VERSION), version))
    if metadata.pop(SUM, None) != _sum(metadata, encoded):
        raise UserError(f"{path} was changed after it was written: its checksum is another")
    return json.loads(metadata[ABOUT]), encoded


def newer(what: str, version: Any, known: int) -> str:
    """Why another version is refused."""
    return f"{what} is of version {version}, and this hamdist knows version {known}: use the hamdist that wrote it"


def _other(kind: str | None) -> str:
    return "" if kind is None else f", but of a {kind}"


def _sum(metadata: Mapping[str, str], encoded: Encoded) -> str:
    """Over all that is said, and over all tensors with their names and forms."""
    total = zlib.crc32(json.dumps([dict(metadata), encoded.told], sort_keys=True).encode())
    for name, tensor in sorted(encoded.tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
