"""A frame as bytes and back, never pickled: a header of fixed layout, then the raw bytes of its tensors.

A message has a first part, which is the header and the small tensors, and one more part for every larger tensor, in
order, which is not copied. All numbers are little-endian.
"""

import ctypes
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from hamdist.engine.device import moved
from hamdist.engine.message import Form, Token
from hamdist.transport.base import End, Frame, LinkError, RefusedError
from hamdist.transport.places import Place, describe, read_places
from hamdist.transport.spare import blank

APART_BYTES = 64 * 1024  # from here on a part of its own costs a socket less than a copy

_MAGIC, _VERSION = b"HDFR", 2
# magic, version, generation, edge, forward; tick; the token's first six fields; final; bytes that describe the tensors,
# and bytes of the token's restarts, which follow them
_FIXED = struct.Struct("<4sHqqBqqqqqBBqII")

Part = bytes | memoryview
Maker = Callable[[int, Place], Tensor]


class Head(NamedTuple):
    """All that a frame says but for the tensors' contents.  size: the bytes that it took."""

    tick: int
    token: Token
    final: int
    places: tuple[Place | None, ...]
    size: int

    def frame(self, tensors: Sequence[Tensor | None]) -> Frame:
        return Frame(self.tick, self.token, tuple(tensors), self.final)


def encode(frame: Frame, end: End, generation: int, apart_bytes: int = APART_BYTES) -> list[Part]:
    """The parts of the message that `end` sends; large tensors are not copied, and must not change until it has gone.

    apart_bytes: tensors of this size or more are parts of their own.

    Raises LinkError for a tensor that cannot travel.
    """
    first: list[bytes] = [encode_head(frame, end, generation)]
    apart: list[Part] = []
    for tensor in frame.tensors:
        if tensor is None:
            continue
        plain = _plain(tensor)
        size = plain.nbytes
        if size < apart_bytes:
            first.append(ctypes.string_at(plain.data_ptr(), size))
        else:
            apart.append(plain.detach().view(-1).view(torch.uint8).numpy().data)
    return [b"".join(first), *apart]


def decode(
    message: Sequence[Part], end: End, generation: int, make: Maker = blank, apart_bytes: int = APART_BYTES
) -> Frame:
    """The frame that `end` received, checked, its tensors aligned copies on its device. Raises RefusedError.

    make: gives a fresh tensor in host memory for a place, by its index.  apart_bytes: as it was encoded.
    """
    first = bytes(message[0])
    head = decode_head(first, end, generation)
    tensors: list[Tensor | None] = []
    at, apart = head.size, iter(message[1:])
    for index, place in enumerate(head.places):
        if place is None:
            tensors.append(None)
            continue
        if place.size < apart_bytes:
            body: Part = first[at : at + place.size]
            at += place.size
        else:
            body = next(apart, b"")
        if len(body) != place.size:
            _refuse(end, f"a tensor of {place.size} bytes came with {len(body)}")
        tensors.append(_filled(make(index, place), body, end))
    if at != len(first) or next(apart, None) is not None:
        _refuse(end, "it has more bytes than its header says")
    return head.frame(tensors)


def encode_head(frame: Frame, end: End, generation: int) -> bytes:
    """All but the tensors' contents. Raises LinkError for a tensor that cannot travel."""
    try:
        places = describe(tuple([t if t is None else (t.shape, t.dtype) for t in frame.tensors]))
    except ValueError as error:
        raise LinkError(f"edge {end.name}: {error}; cast what the layer gives") from None
    token = frame.token
    origin = _MAGIC, _VERSION, generation, end.edge, end.forward
    said = token.tick, token.first, token.rows, token.repeat, token.valid, token.learn
    restarts = token.restarts.to_bytes((token.restarts.bit_length() + 7) // 8, "little")
    return (
        _FIXED.pack(*origin, frame.tick, *said, frame.final, len(places), len(restarts)) + places + restarts
    )


def decode_head(data: bytes, end: End, generation: int) -> Head:
    """What `encode_head` wrote at the start of `data`, checked against the end. Raises RefusedError."""
    if len(data) < _FIXED.size:
        _refuse(end, f"it is cut off after {len(data)} bytes")
    fields = _FIXED.unpack_from(data)
    if fields[:5] != (_MAGIC, _VERSION, generation, end.edge, not end.forward):
        _refuse(end, _strange(fields, end, generation))
    tick, born, first, rows, repeat, valid, learn, final, length, flags = fields[5:]
    end_of_places = _FIXED.size + length
    size = end_of_places + flags
    if len(data) < size:
        _refuse(end, f"it is cut off after {len(data)} bytes")
    try:
        places = read_places(data[_FIXED.size : end_of_places])
    except ValueError as error:
        _refuse(end, str(error))
    if end.receives:
        _check(places, end)
    restarts = int.from_bytes(data[end_of_places:size], "little")
    token = Token(born, first, rows, repeat, valid != 0, learn != 0, restarts)
    return Head(tick, token, final, places, size)


def _plain(tensor: Tensor) -> Tensor:
    """The same numbers in plain order in host memory: the tensor itself where it is so already."""
    if tensor.is_cpu and tensor.is_contiguous() and not (tensor.is_conj() or tensor.is_neg()):
        return tensor
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()


def _check(places: tuple[Place | None, ...], end: End) -> None:
    """Whether the tensors have the forms that the end expects."""
    if len(places) != len(end.receives):
        _refuse(end, f"it has {len(places)} tensors, and {len(end.receives)} are expected")
    for index, (place, form) in enumerate(zip(places, end.receives, strict=True)):
        if place is not None and place.form != form and not (end.partial and form.holds(place.form)):
            _refuse(end, f"tensor {index} is {_words(place.form)}, and {_words(form)} is expected")
    if end.partial and len({place.form.shape[0] for place in places if place is not None}) > 1:
        _refuse(end, "its tensors have different numbers of rows")


def _filled(host: Tensor, body: Part, end: End) -> Tensor:
    """The tensor with these bytes, on the end's device."""
    if len(body):
        source = body if isinstance(body, bytes) else np.frombuffer(body, np.uint8).ctypes.data
        ctypes.memmove(host.data_ptr(), source, len(body))
    return moved(host, end.device)


def _strange(fields: Sequence[object], end: End, generation: int) -> str:
    """In what a header does not belong here."""
    magic, version, sent, edge, forward, *_ = fields
    if (magic, version) != (_MAGIC, _VERSION):
        return "it is not of this version of hamdist, or no frame at all"
    if sent != generation:
        return f"it is of generation {sent}, and this is {generation}"
    if edge != end.edge:
        return f"it is of edge number {edge}, and this is {end.edge}"
    return f"it goes {'forward' if forward else 'backward'}, as this end's own do"


def _words(form: Form) -> str:
    return f"{form.dtype} {list(form.shape)}"


def _refuse(end: End, why: str) -> NoReturn:
    raise RefusedError(
        f"edge {end.name}: a frame from {end.peer_name} is refused: {why}; every actor must run the same hamdist, of "
        "the same start of the run"
    )
