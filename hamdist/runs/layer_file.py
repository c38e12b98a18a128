"""The file of one layer's state_dict: its tensors as safetensors, and what is no tensor as JSON in the metadata."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hamdist.engine.kept import Kept
from hamdist.errors import UserError
from hamdist.runs.whole_file import whole_file

TOLD, COMPLEX = "hamdist.told", "hamdist.complex"


def write_layer(path: Path, kept: Kept) -> None:
    """All of it or nothing. Complex numbers are written as pairs [..., 2]. Raises OSError, SafetensorError."""
    tensors = {n: torch.view_as_real(t) if t.is_complex() else t for n, t in kept.tensors.items()}
    pairs = [name for name, tensor in kept.tensors.items() if tensor.is_complex()]
    more = {TOLD: kept.told, COMPLEX: pairs}
    metadata = {key: json.dumps(value) for key, value in more.items() if value}
    with whole_file(path) as beside:
        save_file(tensors, beside, metadata or None)


def read_layer(path: Path) -> dict[str, Any]:
    """The state_dict in it. Raises UserError for what is no such file: a pickle would run code, so there is no other
    format.
    """
    try:
        return _read(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
        message = f"{path} holds no weights: it was cut off, changed, or is no file of safetensors ({error})"
        raise UserError(message) from error


def _read(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        metadata = file.metadata() or {}
    for name in json.loads(metadata.get(COMPLEX, "[]")):
        found[name] = torch.view_as_complex(found[name])
    told = json.loads(metadata.get(TOLD, "{}"))
    return found | {name: json.loads(text) for name, text in told.items()}
