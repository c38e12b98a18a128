"""Thousands of messages changed on their way, also under checksums that are right again, as a faulty end could send.

Each is refused by name, or is a message of its edge, within its bounds; none takes more memory than a message may.
"""

import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from support.link_kinds import endpoints, forms, message

from hamdist.engine.message import INVALID, Message, Token, joined
from hamdist.transport import codec
from hamdist.transport.base import RefusedError
from hamdist.transport.codec import APART_BYTES, Codec
from hamdist.transport.connection import FlowControl
from hamdist.transport.shared_memory import Pool, _note, _noted

TENSOR = torch.arange(6.0).reshape(2, 3)
LARGE = torch.arange(APART_BYTES // 4, dtype=torch.float32)
ROWS, TICKS = 4, 4
INTERESTING = [0, 1, 2, 3, 4, 5, 127, 128, 255]
NUMBERS = [0, 1, -1, 2, 4, 5, 8, 2**31, 2**32 - 1, 2**62, -(2**63), 2**63 - 1]


def sent(draw: random.Random) -> Message:
    """A message of one tick or several, each with some of its tensors."""
    tokens = [INVALID, Token(7, 40, 4, 2, True, False), Token(8, 44, 3, 0, restarts=9), Token(9, -1, 0)]
    ticks = []
    for _ in range(draw.randint(1, TICKS)):
        tensors = tuple(t if draw.random() < 0.7 else None for t in (TENSOR, LARGE))
        ticks.append(Message((draw.choice(tokens),), tensors))
    return joined(ticks)._replace(tick=0, final=draw.choice([-1, 11]), cut=draw.choice([-1, 7]))


def resealed(first: bytes, apart: Sequence[bytes]) -> list[bytes]:
    """The parts with a checksum that is right."""
    value = 0
    for part in (*apart, first[:-4]):
        value = zlib.crc32(part, value)
    return [first[:-4] + value.to_bytes(4, "little"), *apart]


def changed(draw: random.Random, data: bytes) -> bytes:
    """Numbers or bytes of it are others, or it is shorter or longer."""
    body = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 4])):
        at = draw.randrange(max(1, len(body)))
        match draw.randrange(5):
            case 0:
                body[at : at + 1] = bytes([draw.choice(INTERESTING)])
            case 1:
                body[at : at + 8] = struct.pack("<q", draw.choice(NUMBERS))
            case 2:
                body[at : at + 4] = struct.pack("<q", draw.choice(NUMBERS))[:4]
            case 3:
                del body[at : at + draw.choice([1, 4, 8, 60])]
            case _:
                body[at:at] = draw.randbytes(draw.choice([1, 4, 8]))
    return bytes(body)


def in_bounds(got: Message) -> bool:
    """Whether it is a message that this edge may carry next."""
    tokens_are = all(
        0 <= token.rows <= ROWS
        and not token.restarts >> ROWS
        and min(token.tick, token.first) >= -1
        and token.repeat >= 0
        for token in got.tokens
    )
    carried = [t is None or t.shape[-1] in (3, len(LARGE)) for t in got.tensors]
    return (
        tokens_are
        and all(carried)
        and got.tick == 0
        and min(got.final, got.cut) >= -1
        and 0 < got.ticks <= TICKS
    )


@pytest.mark.parametrize("sealed", [True, False], ids=["resealed", "as they are"])
def test_frames(sealed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand each; of those with right checksums some are taken."""
    draw, taken, most = random.Random(0), 0, TICKS * (TENSOR.nbytes + LARGE.nbytes)
    asked: list[int] = []
    blank = codec._blank
    monkeypatch.setattr(codec, "_blank", lambda form: asked.append(form.size) or blank(form))
    a, b = (replace(e, ticks=TICKS, rows=ROWS) for e in endpoints(forms(TENSOR, LARGE), forms(TENSOR, LARGE)))
    for _ in range(2000):
        right = [bytes(part) for part in Codec(a, 1).encode(sent(draw))]
        first, apart = changed(draw, right[0]), right[1:]
        if apart and draw.random() < 0.3:
            apart[0] = changed(draw, apart[0][:64]) + apart[0][64:]
        if draw.random() < 0.1:
            apart = draw.choice([[], apart * 2, [b""], [*apart, b"x"]])
        parts = resealed(first, apart) if sealed else [first, *apart]
        asked.clear()
        if parts == right:
            continue
        try:
            got = Codec(b, 1).decode(parts)
        except RefusedError as error:
            assert "edge a->b: a message from actor a is refused: " in str(error)  # noqa: PT017
        else:
            taken += 1
            assert in_bounds(got)
        assert sum(asked) <= most
    assert taken > 100 if sealed else taken == 0


def test_heads() -> None:
    """Those that go before tensors of torch.distributed."""
    draw, taken = random.Random(1), 0
    a, b = (replace(e, rows=ROWS) for e in endpoints(forms(TENSOR), forms(TENSOR)))
    for _ in range(1000):
        head = Codec(a, 1).encode_head(message(0, TENSOR))
        try:
            got = Codec(b, 1).decode_head(resealed(changed(draw, head), ()))
        except RefusedError:
            continue
        taken += 1
        assert in_bounds(got)
    assert taken > 10


def test_stamps() -> None:
    """What a connection reads before each message: how many were taken, and how many parts follow."""
    draw = random.Random(2)
    for _ in range(1000):
        flow = FlowControl(2)
        for _ in range(draw.randrange(4)):
            flow.sent(1)
        stamp = changed(draw, flow.stamp(1)[:10])
        stamp += zlib.crc32(stamp[:10]).to_bytes(4, "little")
        try:
            parts = flow.arrived(stamp)
        except ValueError as error:
            assert str(error)  # noqa: PT017
        else:
            assert 0 <= parts < 2**16
            assert flow.sent_and_taken <= 3


def test_places_in_shared_memory() -> None:
    """What says in which block the parts of a message lie: sizes that no block has do not fit."""
    draw, pool = random.Random(3), Pool(4096, 8192, 5)
    for _ in range(1000):
        note = changed(draw, _note(1, [4096, 64]))
        note = note[:6] + zlib.crc32(note[10:26], zlib.crc32(note[:6])).to_bytes(4, "little") + note[10:]
        try:
            _, sizes, _ = _noted(note)
        except ValueError as error:
            assert str(error)  # noqa: PT017
        else:
            starts = pool.fit(sizes)
            assert starts is None or sum(sizes) <= pool.size
