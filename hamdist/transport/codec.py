"""A message as bytes and back, never pickled. All numbers are little-endian.

| section | what it says |
|---|---|
| origin | magic, version, generation, edge, direction; the forms of one tick's tensors, in words |
| numbers | the first tick, the final one, that of a cut, how many ticks; of each its token, and its tensors, as bits |
| restarts | of each tick the rows in which an episode begins, as bits |
| tensors | the raw bytes of those that are small |
| checksum | CRC-32 of the parts that follow, and then of all before it |

These are the first part of what goes over a connection; each larger tensor is a part of its own after it, in order, and
is not copied. The checksum covers every byte that a socket carries. It does not cover tensors in shared memory, which
are written and read in place by two processes of one user, with nothing between them that could change a bit but the
memory itself; nor those that torch.distributed carries from GPU to GPU, which would have to be fetched for it.
"""

import ctypes
import struct
import zlib
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from hamdist.engine.device import moved
from hamdist.engine.message import Form, Message, Token
from hamdist.transport.base import Endpoint, LinkError, RefusedError

APART_BYTES = 64 * 1024  # from here on a part of its own costs a socket less than a copy
SPARE_BYTES = 64 * 1024  # up to here a tensor is made ready before it is needed

_MAGIC, _VERSION = b"HDMS", 6
_ORIGIN = struct.Struct(
    "<4sHqqBH"
)  # magic, version, generation, edge, forward; bytes of the words of the forms
_SIGN = struct.pack("<4sH", _MAGIC, _VERSION)
_COUNTS = struct.Struct("<qqqII")  # tick, final, cut; ticks, bytes of the restarts of one tick
_FIELDS = 9  # of a tick: the token's first six, what of its rows lacks targets, and which tensors there are
_CHECK_BYTES = 4
_UNCHANGED = 0x2144DF1C  # CRC-32 of whatever is followed by its own CRC-32
_REMEMBERED = 1024

Partition = bytes | memoryview


class Codec:
    """Turns the messages of one endpoint into bytes, and back into messages that are what they should be.

    shared: whether tensors lie in shared memory: all of them are parts of their own then, outside of the checksum.
    """

    def __init__(self, endpoint: Endpoint, generation: int, shared: bool = False) -> None:
        self.endpoint, self._generation, self._shared = endpoint, generation, shared
        self._apart_bytes = 1 if shared else APART_BYTES
        self._ours = _origin(generation, endpoint.edge, endpoint.forward, endpoint.sends)
        self._theirs = _origin(generation, endpoint.edge, not endpoint.forward, endpoint.receives)
        self._rows, self._all_there = endpoint.rows, (1 << len(endpoint.receives)) - 1
        self._due = 0  # the tick of the next message
        self._sends = cache(endpoint.sends_in)
        self._receives = cache(lambda ticks: [(form, form.size) for form in endpoint.receives_in(ticks)])
        self._spare = Spare()

    def encode(self, message: Message) -> list[Partition]:
        """Its parts; large tensors are not copied, and must not change until they have gone.

        Raises LinkError where it is none that this endpoint sends.
        """
        first: list[Partition] = [self._header(message)]
        apart: list[Partition] = []
        for tensor in message.tensors:
            if tensor is None:
                continue
            plain = _plain(tensor)
            size = plain.nbytes
            if size < self._apart_bytes:
                first.append(ctypes.string_at(plain.data_ptr(), size))
            else:
                apart.append(plain.detach().view(-1).view(torch.uint8).numpy().data)
        first.append(_crc(first, self._covered(apart)).to_bytes(_CHECK_BYTES, "little"))
        return [b"".join(first), *apart]

    def encode_head(self, message: Message) -> bytes:
        """All but the tensors' contents. Raises LinkError as `encode`."""
        header = self._header(message)
        return header + _crc([header]).to_bytes(_CHECK_BYTES, "little")

    def prepare(self) -> None:
        """To be called before a wait for a message: makes tensors like the last one's."""
        self._spare.prepare()

    def decode(self, parts: Sequence[Partition]) -> Message:
        """The message that came next, its tensors aligned copies on the endpoint's device. Raises RefusedError."""
        first, apart = bytes(parts[0]), parts[1:]
        head, known, at = self._head(first, apart)
        tensors: list[Tensor | None] = []
        used = 0
        for place, (form, size) in enumerate(self._receives(len(head.tokens))):
            if not known >> place & 1:
                tensors.append(None)
                continue
            if size < self._apart_bytes:
                body: Partition = first[at : at + size]
                at += size
            else:
                body = apart[used] if used < len(apart) else b""
                used += 1
            if len(body) != size:
                self._refuse(f"a tensor of {size} bytes came with {len(body)}")
            tensors.append(self._filled(place, form, body))
        self._take(head, first, at, len(apart) - used)
        return head.filled(tensors)

    def decode_head(self, parts: Sequence[Partition]) -> Message:
        """What `encode_head` wrote, without tensors, to be `filled`. Raises RefusedError."""
        first = bytes(parts[0])
        head, _, at = self._head(first, ())
        self._take(head, first, at, len(parts) - 1)
        return head

    # Out

    def _header(self, message: Message) -> bytes:
        tokens, tensors, tick, final, cut, there = message
        present = self._present(len(tokens), tensors)
        if len(tokens) == 1 and not tokens[0].restarts:
            return self._ours + _numbers(1).pack(tick, final, cut, 1, 0, *_said(tokens[0]), present)
        marks = there or (present,) * len(tokens)
        width = (max([token.restarts for token in tokens]).bit_length() + 7) // 8
        fields = [n for token, mark in zip(tokens, marks, strict=True) for n in (*_said(token), mark)]
        numbers = _numbers(len(tokens)).pack(tick, final, cut, len(tokens), width, *fields)
        return b"".join(
            [self._ours, numbers, *(token.restarts.to_bytes(width, "little") for token in tokens)]
        )

    def _present(self, ticks: int, tensors: Sequence[Tensor | None]) -> int:
        """Which tensors there are, as bits. Raises LinkError for ticks or tensors that the edge does not carry."""
        forms, present = self._sends(ticks), 0
        right = len(tensors) == len(forms) and 0 < ticks <= self.endpoint.ticks
        for place, (tensor, (shape, dtype)) in enumerate(zip(tensors, forms, strict=False)):
            if tensor is not None:
                present |= 1 << place
                right = right and tensor.dtype is dtype and tensor.shape == shape
        if not right:
            found = [None if t is None else Form(tuple(t.shape), t.dtype) for t in tensors]
            raise LinkError(
                f"edge {self.endpoint.name}: tensors {_words(found)} of {ticks} ticks were to be sent, but it carries "
                f"{_words(self.endpoint.sends)} a tick, and at most {self.endpoint.ticks} ticks at once"
            )
        return present

    def _covered(self, apart: Sequence[Partition]) -> Sequence[Partition]:
        """Those of these parts whose bytes the checksum covers."""
        return () if self._shared else apart

    # In

    def _head(self, first: bytes, apart: Sequence[Partition]) -> tuple[Message, int, int]:
        """All but the tensors, with the marks of every tick; which of them any tick has, and where they begin."""
        if not first.startswith(self._theirs) or _crc([first], self._covered(apart)) != _UNCHANGED:
            self._refuse(self._strange(first, apart))
        at, end = len(self._theirs), len(first) - _CHECK_BYTES
        ticks = int.from_bytes(first[at + 24 : at + 28], "little")
        if not 0 < ticks <= self.endpoint.ticks:
            self._refuse(f"it has {ticks} ticks, and 1 to {self.endpoint.ticks} are expected")
        layout = _numbers(ticks)
        if end < at + layout.size:
            self._refuse(_cut_off(first))
        tick, final, cut, _, width, *fields = layout.unpack_from(first, at)
        at += layout.size
        if tick != self._due or final < -1 or cut < -1:
            self._refuse(
                f"it begins with tick {tick} of up to {final}, with a cut at {cut}, where tick {self._due} is due"
            )
        tokens, marks = self._tokens(fields, first[at : at + width * ticks], width)
        known = 0
        for mark in marks:
            known |= mark
        return Message(tokens, (), tick, final, cut, marks), known, at + ticks * width

    def _tokens(
        self, fields: Sequence[int], restarts: bytes, width: int
    ) -> tuple[tuple[Token, ...], tuple[int, ...]]:
        """With the marks of every tick."""
        if len(restarts) * _FIELDS != width * len(fields):
            self._refuse("it has less restarts than it says")
        each = [fields[k : k + _FIELDS] for k in range(0, len(fields), _FIELDS)]
        begins = (int.from_bytes(restarts[width * k : width * (k + 1)], "little") for k in range(len(each)))
        return tuple(map(self._token, each, begins)), tuple(numbers[-1] for numbers in each)

    def _token(self, numbers: Sequence[int], begins: int) -> Token:
        """That of a tick by its numbers.  begins: its restarts."""
        born, first, rows, repeat, valid, learn, partly, unlabelled, there = numbers
        if valid > 1 or learn > 1 or partly > 1 or there > self._all_there:
            self._refuse(
                f"a tick of it is valid by {valid}, to be learnt by {learn}, in part by {partly}, with tensors "
                f"{there:b}"
            )
        if not 0 <= rows <= self._rows or begins >> self._rows or born < -1 or first < -1 or repeat < 0:
            self._refuse(
                f"it speaks of {rows} rows from sample {first} of tick {born} on, at repeat {repeat}, with "
                f"episodes that begin in rows {begins:b}, where a batch has {self._rows} rows"
            )
        if unlabelled > rows:
            self._refuse(f"of its {rows} rows {unlabelled} have no target")
        return Token(born, first, rows, repeat, valid == 1, learn == 1, begins, unlabelled, partly == 1)

    def _strange(self, first: bytes, apart: Sequence[Partition]) -> str:
        """In what a message is not one of this edge, or not what was sent."""
        if len(first) < _ORIGIN.size + _CHECK_BYTES:
            return _cut_off(first)
        if not first.startswith(_SIGN):
            return "it is not of this version of hamdist, or no message at all"
        if _crc([first], self._covered(apart)) != _UNCHANGED:
            return "its bytes are not those that were sent: the checksum is another"
        _, _, generation, edge, forward, length = _ORIGIN.unpack_from(first)
        if generation != self._generation:
            return f"it is of generation {generation}, and this is {self._generation}"
        if edge != self.endpoint.edge:
            return f"it is of edge number {edge}, and this is {self.endpoint.edge}"
        if forward == self.endpoint.forward:
            return f"it goes {'forward' if forward else 'backward'}, as this end's own do"
        words = first[_ORIGIN.size : _ORIGIN.size + length].decode(errors="replace")
        return f"a tick of it has {words}, and {_words(self.endpoint.receives)} is expected"

    def _filled(self, place: int, form: Form, body: Partition) -> Tensor:
        """A tensor with these bytes, on the endpoint's device."""
        host = self._spare.take(place, form)
        if len(body):
            source = body if isinstance(body, bytes) else np.frombuffer(body, np.uint8).ctypes.data
            ctypes.memmove(host.data_ptr(), source, len(body))
        return moved(host, self.endpoint.device)

    def _take(self, head: Message, first: bytes, at: int, more: int) -> None:
        """Its ticks are no longer due. more: parts that nobody has read."""
        if more or at != len(first) - _CHECK_BYTES:
            self._refuse("it has more bytes than its header says, or less")
        self._due += len(head.tokens)

    def _refuse(self, why: str) -> NoReturn:
        raise RefusedError(
            f"edge {self.endpoint.name}: a message from {self.endpoint.peer_name} is refused: {why}; every actor must "
            "run the same hamdist, of the same start of the run"
        )


class Spare:
    """For each place of a message an unused tensor of the form that the last one had there, if that is small.

    After a wait, an allocation takes longer than all else that a small message needs.
    """

    def __init__(self) -> None:
        self._forms: dict[int, Form] = {}
        self._ready: dict[int, Tensor] = {}

    def prepare(self) -> None:
        for place, form in self._forms.items():
            if place not in self._ready:
                self._ready[place] = _blank(form)

    def take(self, place: int, form: Form) -> Tensor:
        """A tensor of the form in host memory, 64-byte aligned, its contents arbitrary; the caller's own."""
        ready = self._ready.pop(place, None)
        if ready is not None and self._forms[place] == form:
            return ready
        if form.size <= SPARE_BYTES:
            self._forms[place] = form
        return _blank(form)


def _blank(form: Form) -> Tensor:
    return torch.empty(form.shape, dtype=form.dtype)


def _origin(generation: int, edge: int, forward: bool, forms: Sequence[Form]) -> bytes:
    words = _words(forms).encode()
    return _ORIGIN.pack(_MAGIC, _VERSION, generation, edge, forward, len(words)) + words


def _words(forms: Sequence[Form | None]) -> str:
    """Forms in words: "float32 [4, 3], none"."""
    each = ("none" if form is None else f"{form.dtype} {list(form.shape)}" for form in forms)
    return ", ".join(each).replace("torch.", "") or "no tensors"


def _said(token: Token) -> tuple[int, ...]:
    """All of a token but its restarts."""
    return *token[:6], token.partly, token.unlabelled


@lru_cache(_REMEMBERED)
def _numbers(ticks: int) -> struct.Struct:
    """The counts of a message of so many ticks, and the fields of each."""
    return struct.Struct(_COUNTS.format + ticks * "qqqqBBBII")


def _crc(parts: Sequence[Partition], before: Sequence[Partition] = ()) -> int:
    """Of the bytes of the parts before, and then of these."""
    value = 0
    for part in (*before, *parts):
        value = zlib.crc32(part, value)
    return value


def _cut_off(first: bytes) -> str:
    return f"it is cut off after {len(first)} bytes"


def _plain(tensor: Tensor) -> Tensor:
    """The same numbers in plain order in host memory: the tensor itself where it is so already."""
    if tensor.is_cpu and tensor.is_contiguous() and not (tensor.is_conj() or tensor.is_neg()):
        return tensor
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
