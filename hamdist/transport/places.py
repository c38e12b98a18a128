"""The forms of a frame's tensors as bytes and back: for each, a dtype's code, the number of dimensions, and these.

An edge says the same of nearly all its frames, so both ways are remembered.
"""

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from hamdist.engine.message import Form

_PLACE = struct.Struct("<BB")  # the dtype's code, or 0 for no tensor; the number of dimensions
_MOST_DIMENSIONS = 64
_MOST_ELEMENTS = 2**48
_REMEMBERED = 1024

_DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.complex128,
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)
_CODES = {dtype: code for code, dtype in enumerate(_DTYPES, start=1)}


class Place(NamedTuple):
    """A tensor's form, and its size in bytes."""

    form: Form
    size: int


@lru_cache(_REMEMBERED)
def describe(forms: tuple[tuple[tuple[int, ...], torch.dtype] | None, ...]) -> bytes:
    """The bytes that say it. Raises ValueError for a dtype that has no code."""
    return b"".join(_PLACE.pack(0, 0) if form is None else _description(*form) for form in forms)


@lru_cache(_REMEMBERED)
def read_places(data: bytes) -> tuple[Place | None, ...]:
    """What the bytes say. Raises ValueError where they make no sense."""
    places: list[Place | None] = []
    at = 0
    while at < len(data):
        try:
            code, dimensions = _PLACE.unpack_from(data, at)
            shape = struct.unpack_from(f"<{dimensions}q", data, at + _PLACE.size)
        except struct.error:
            raise ValueError("the forms of its tensors are cut off") from None
        at += _PLACE.size + 8 * dimensions
        places.append(_place(code, shape) if code else None)
    return tuple(places)


def _place(code: int, shape: Sequence[int]) -> Place:
    if code > len(_DTYPES) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"a tensor with {len(shape)} dimensions of a dtype numbered {code} is unknown")
    if any(size < 0 for size in shape) or math.prod(max(size, 1) for size in shape) > _MOST_ELEMENTS:
        raise ValueError(f"a tensor of shape {list(shape)} is impossible")
    dtype = _DTYPES[code - 1]
    form = Form(tuple(shape), dtype)
    return Place(form, form.size)


def _description(shape: tuple[int, ...], dtype: torch.dtype) -> bytes:
    if dtype not in _CODES:
        raise ValueError(f"tensors of {dtype} cannot travel")
    return _PLACE.pack(_CODES[dtype], len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
