"""A message as bytes: what is written is read, and whatever else comes is refused by name."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from support.link_kinds import EDGE, endpoints, forms, message, same

from hamdist.engine.aligned import BYTES
from hamdist.engine.message import INVALID, Form, Message, Token, joined
from hamdist.transport.base import Endpoint, LinkError, RefusedError
from hamdist.transport.codec import APART_BYTES, Codec

TENSOR = torch.arange(6.0).reshape(2, 3)
LARGE = torch.arange(APART_BYTES // 4, dtype=torch.float32)
A, B = endpoints()


def pair(*tensors: torch.Tensor, shared: bool = False, **more: object) -> tuple[Codec, Codec]:
    """Of both ends of an edge that carries such tensors each way."""
    a, b = (replace(end, **more) for end in endpoints(forms(*tensors), forms(*tensors)))
    return Codec(a, 1, shared), Codec(b, 1, shared)


def resealed(first: bytes, apart: Sequence[bytes] = ()) -> list[bytes]:
    """The parts with a checksum that is right: CRC-32 of the parts that follow, and then of the first one."""
    value = 0
    for part in (*apart, first[:-4]):
        value = zlib.crc32(part, value)
    return [first[:-4] + value.to_bytes(4, "little"), *apart]


# What is right


@pytest.mark.parametrize(
    "token",
    [
        Token(5, 80, 16, 2, True, False),
        INVALID,
        Token(2**40, 2**41, 100, 0, restarts=1 << 99 | 5),
        Token(3, 6, 100, unlabelled=99),
    ],
)
@pytest.mark.parametrize(("final", "cut"), [(-1, 2**40), (2**40, -1), (2**41, 2**42)])
def test_every_field_is_read_as_it_was_written(token: Token, final: int, cut: int) -> None:
    sender, receiver = pair(rows=100)
    sent = Message((token,), (), 0, final, cut)
    assert receiver.decode(sender.encode(sent)) == sent


def test_costates_go_the_other_way() -> None:
    assert Codec(A, 3).decode(Codec(B, 3).encode(message(0))) == message(0)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.complex64, torch.bool, torch.uint8, torch.float8_e4m3fn]
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5, 7), (1,) * 20, (256, 256)])
@pytest.mark.parametrize("shared", [True, False])
def test_tensors_are_read_as_they_were_written(
    dtype: torch.dtype, shape: tuple[int, ...], shared: bool
) -> None:
    tensor = (4 * torch.randn(shape)).to(dtype)
    sender, receiver = pair(tensor, tensor, shared=shared)
    for tick in range(2):  # the second into memory made ready
        receiver.prepare()
        nothing, got = receiver.decode(sender.encode(message(tick, None, tensor))).tensors
        assert nothing is None
        assert same(got, tensor)
        assert got.data_ptr() % BYTES == 0


def test_large_tensors_are_not_copied_and_small_ones_go_with_the_header() -> None:
    small, large = torch.zeros(APART_BYTES // 4 - 1), LARGE.clone()
    sender, receiver = pair(small, large, large, shared=False)
    first, *apart = sender.encode(message(0, small, large, large))
    assert len(first) > small.nbytes
    assert [len(part) for part in apart] == [large.nbytes] * 2
    before = zlib.crc32(apart[0])
    large.fill_(1.0)
    assert zlib.crc32(apart[0]) != before
    with pytest.raises(RefusedError, match="the checksum is another"):
        receiver.decode([first, *apart])


TOKENS = (
    INVALID,
    Token(7, 40, 4, 2, True, False),
    Token(8, 44, 3, 0, restarts=9, unlabelled=2),
    Token(9, -1, 0),
)


def several(*present: tuple[bool, bool]) -> Message:
    """One tick each, with these of a float32 [2, 3] and an int64 [5]."""
    ticks = [
        Message((TOKENS[k % 4],), (TENSOR + k if one else None, torch.arange(5) + k if two else None))
        for k, (one, two) in enumerate(present)
    ]
    return joined(ticks)._replace(tick=0, final=11, cut=7)


@pytest.mark.parametrize(
    "sent",
    [
        several(*[(True, True)] * 4),
        several(*[(True, False)] * 3),
        several(*[(False, False)] * 2),
        several((True, False), (False, True), (True, True), (False, False)),
        several((False, True)),
    ],
    ids=["all", "one", "none", "mixed", "alone"],
)
def test_several_ticks_are_read_as_they_were_written(sent: Message) -> None:
    sender, receiver = pair(TENSOR, torch.arange(5), ticks=4)
    got = receiver.decode(sender.encode(sent))
    assert got[:1] + got[2:] == sent[:1] + sent[2:]
    assert all(map(same, got.tensors, sent.tensors))
    for one, other in zip(got.single(), sent.single(), strict=True):
        assert one.tokens == other.tokens
        assert all(map(same, one.tensors, other.tensors))


def test_the_head_alone_says_everything_but_the_contents() -> None:
    sender, receiver = pair(TENSOR, TENSOR)
    head = receiver.decode_head([sender.encode_head(message(0, None, TENSOR))])
    assert (head.tick, head.tokens, head.marks) == (0, message(0).tokens, (2,))
    assert head.filled([TENSOR, TENSOR])[:3] == ((head.tokens[0],), (None, TENSOR), 0)


# What is not sent


@pytest.mark.parametrize(
    "tensors", [(), (TENSOR, TENSOR), (TENSOR.T.contiguous(),), (TENSOR.double(),), (TENSOR[:1],)]
)
def test_tensors_that_an_edge_does_not_carry_are_not_sent(tensors: Sequence[torch.Tensor]) -> None:
    with pytest.raises(
        LinkError, match=r"edge a->b: tensors .* were to be sent, but it carries float32 \[2, 3\]"
    ):
        pair(TENSOR)[0].encode(message(0, *tensors))


def test_no_more_ticks_are_sent_than_an_edge_allows() -> None:
    sent = joined([message(tick, TENSOR) for tick in range(3)])
    with pytest.raises(LinkError, match=r"of 3 ticks were to be sent, but .* at most 2 ticks"):
        pair(TENSOR, ticks=2)[0].encode(sent)


# What is refused


@pytest.mark.parametrize(
    ("sender", "generation", "receiver", "what"),
    [
        (A, 2, B, "of generation 2, and this is 1"),
        (replace(A, edge=7), 1, B, f"of edge number 7, and this is {EDGE}"),
        (A, 1, A, "it goes forward, as this end's own do"),
        (B, 1, B, "it goes backward, as this end's own do"),
    ],
)
def test_messages_of_another_start_edge_or_direction_are_refused(
    sender: Endpoint, generation: int, receiver: Endpoint, what: str
) -> None:
    with pytest.raises(RefusedError, match=f"edge a->b: a message from actor .*{what}"):
        Codec(receiver, 1).decode(Codec(sender, generation).encode(message(0)))


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ([Form((2, 4), torch.float32)], r"float32 \[2, 3\], and float32 \[2, 4\] is expected"),
        ([Form((3, 2), torch.float32)], r"float32 \[2, 3\], and float32 \[3, 2\] is expected"),
        ([Form((2, 3), torch.float64)], r"float32 \[2, 3\], and float64 \[2, 3\] is expected"),
        (forms(TENSOR, TENSOR), r"float32 \[2, 3\], and float32 \[2, 3\], float32 \[2, 3\] is expected"),
        ([], r"float32 \[2, 3\], and no tensors is expected"),
    ],
)
def test_messages_of_another_form_are_refused(wanted: list[Form], what: str) -> None:
    sender, _ = pair(TENSOR)
    with pytest.raises(RefusedError, match=what):
        Codec(endpoints(wanted)[1], 1).decode(sender.encode(message(0, TENSOR)))


def test_messages_of_another_length_are_refused() -> None:
    sender, _ = pair(TENSOR, LARGE)
    first, large = sender.encode(message(0, TENSOR, LARGE))
    large = bytes(large)
    for parts, what in (
        (resealed(first[:-1], [large]), "more bytes than its header says, or less"),
        (resealed(first + b"\0", [large]), "more bytes"),
        (resealed(first), "came with 0"),
        (resealed(first, [large[:-1]]), "came with"),
        (resealed(first, [large, b""]), "more bytes"),
        (resealed(first[:88], [large]), "cut off after 88"),
        ([first[:20], large], "cut off after 20"),
        ([first[:-1], large], "the checksum is another"),
        ([first, large, large], "the checksum is another"),
        ([b""], "cut off after 0"),
    ):
        with pytest.raises(RefusedError, match=what):
            pair(TENSOR, LARGE)[1].decode(parts)


def test_another_version_or_no_message_at_all_is_refused() -> None:
    first = Codec(A, 1).encode(message(0))[0]
    for other in (b"HTTP" + first[4:], first[:4] + b"\1" + first[5:]):
        with pytest.raises(RefusedError, match="not of this version of hamdist, or no message at all"):
            Codec(B, 1).decode([other])


def test_ticks_are_taken_in_order() -> None:
    sender, receiver = pair(TENSOR, ticks=2)
    receiver.decode(sender.encode(joined([message(0, TENSOR)] * 2)._replace(tick=0)))
    for tick in (0, 1, 3):
        with pytest.raises(RefusedError, match=f"it begins with tick {tick} .* where tick 2 is due"):
            receiver.decode(sender.encode(message(tick, TENSOR)))
    receiver.decode(sender.encode(message(2, TENSOR)))


# Numbers that cannot be, under a checksum that is right

NUMBERS = [
    "tick",
    "final",
    "cut",
    "ticks",
    "width",
    "born",
    "first",
    "rows",
    "repeat",
    "valid",
    "learn",
    "partly",
    "unlabelled",
    "there",
]
LAYOUT = struct.Struct("<qqqII" + "qqqqBBBII")


def edited(data: bytes, **numbers: int) -> list[bytes]:
    """The first part of a message of one tick with other numbers in it."""
    at = 25 + int.from_bytes(data[23:25], "little")  # after the origin, and the words of the forms
    said = dict(zip(NUMBERS, LAYOUT.unpack_from(data, at), strict=True)) | numbers
    return resealed(data[:at] + LAYOUT.pack(*said.values()) + data[at + LAYOUT.size :])


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ({"tick": 1}, "begins with tick 1"),
        ({"tick": -(2**63)}, "begins with tick -9223372036854775808"),
        ({"final": -2}, "of up to -2"),
        ({"cut": -2}, "with a cut at -2"),
        ({"ticks": 0}, "it has 0 ticks, and 1 to 8 are expected"),
        ({"ticks": 9}, "it has 9 ticks, and 1 to 8 are expected"),
        ({"ticks": 2**32 - 1}, "it has 4294967295 ticks"),
        ({"ticks": 8}, "cut off"),
        ({"width": 2**32 - 1}, "less restarts than it says"),
        ({"width": 1}, "with episodes that begin in rows|more bytes"),
        ({"born": -2}, "of tick -2 on"),
        ({"first": -2}, "from sample -2"),
        ({"rows": -1}, "it speaks of -1 rows"),
        ({"rows": 5}, "it speaks of 5 rows .* where a batch has 4 rows"),
        ({"rows": 2**62}, "it speaks of 4611686018427387904 rows"),
        ({"repeat": -1}, "at repeat -1"),
        ({"valid": 2}, "valid by 2"),
        ({"learn": 255}, "to be learnt by 255"),
        ({"partly": 2}, "in part by 2"),
        ({"unlabelled": 5}, "of its \\d rows 5 have no target"),
        ({"there": 2}, "with tensors 10"),
        ({"there": 0}, "more bytes"),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_are_refused(numbers: dict[str, int], what: str) -> None:
    sender, receiver = pair(TENSOR, ticks=8)
    first = sender.encode(message(0, TENSOR))[0]
    with pytest.raises(RefusedError, match=f"edge a->b: a message from actor a is refused: .*({what})"):
        receiver.decode(edited(first, **numbers))
    assert receiver.decode(edited(first, rows=3)).tokens[0].rows == 3


def test_episodes_begin_in_rows_of_the_batch() -> None:
    sender, receiver = pair()
    with pytest.raises(RefusedError, match="begin in rows 10000, where a batch has 4 rows"):
        receiver.decode(sender.encode(Message((Token(restarts=1 << 4),), (), 0)))
    assert receiver.decode(sender.encode(Message((Token(restarts=15),), (), 0))).tokens[0].restarts == 15


# Noise


def flipped(draw: random.Random, parts: list[bytes]) -> None:
    """One bit or several, anywhere."""
    for _ in range(draw.choice([1, 1, 2, 3, 8])):
        place = draw.randrange(len(parts))
        data = bytearray(parts[place])
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        parts[place] = bytes(data)


def cut(draw: random.Random, parts: list[bytes]) -> None:
    place = draw.randrange(len(parts))
    parts[place] = parts[place][: draw.randrange(len(parts[place]))]


def extended(draw: random.Random, parts: list[bytes]) -> None:
    parts[draw.randrange(len(parts))] += draw.randbytes(draw.choice([1, 4, 8, 100]))


def overwritten(draw: random.Random, parts: list[bytes]) -> None:
    """Some bytes by those of another place."""
    place, other = draw.randrange(len(parts)), draw.choice(parts)
    length = draw.randint(1, 40)
    at, source = draw.randrange(len(parts[place])), draw.randrange(len(other))
    piece = other[source : source + length]
    parts[place] = parts[place][:at] + piece + parts[place][at + len(piece) :]


def shuffled(draw: random.Random, parts: list[bytes]) -> None:
    """Parts in another order, doubled or left out."""
    match draw.randrange(3):
        case 0:
            draw.shuffle(parts)
        case 1:
            parts.append(draw.choice(parts))
        case 2 if len(parts) > 1:
            parts.pop(draw.randrange(len(parts)))


MUTATIONS: list[Callable[[random.Random, list[bytes]], None]] = [
    flipped,
    cut,
    extended,
    overwritten,
    shuffled,
]
MIXED = [(True, True), (False, True), (True, False), (False, False)]


def messages() -> list[tuple[Message, tuple[torch.Tensor, ...], int]]:
    """With the tensors that their edge carries, and the most ticks."""
    return [
        (message(0, TENSOR), (TENSOR,), 1),
        (message(0), (), 1),
        (several((True, True)), (TENSOR, torch.arange(5)), 4),
        (several(*MIXED), (TENSOR, torch.arange(5)), 4),
        (message(0, LARGE, LARGE + 1, TENSOR), (LARGE, LARGE, TENSOR), 1),
        (joined([message(tick, LARGE + tick) for tick in range(3)])._replace(tick=0), (LARGE,), 3),
    ]


def test_whatever_is_changed_on_the_way_is_refused() -> None:
    """Over 6000 of them, by every kind of change."""
    draw, changed = random.Random(0), 0
    for sent, tensors, ticks in messages():
        sender, receiver = pair(*tensors, ticks=ticks)
        right = [bytes(part) for part in sender.encode(sent)]
        for mutate in MUTATIONS * 300:
            parts = list(right)
            mutate(draw, parts)
            if parts != right:
                changed += 1
                with pytest.raises(RefusedError, match="edge a->b: a message from actor a is refused: "):
                    receiver.decode(parts)
        got = receiver.decode(right)  # which is still due
        assert got[:1] + got[2:] == sent[:1] + sent[2:]
        assert all(map(same, got.tensors, sent.tensors))
    assert changed > 6000


def test_where_tensors_lie_in_shared_memory_their_header_is_covered() -> None:
    draw = random.Random(1)
    sender, receiver = pair(TENSOR, LARGE, shared=True)
    first, *apart = [bytes(part) for part in sender.encode(message(0, TENSOR, LARGE))]
    for mutate in [flipped, cut, extended, overwritten] * 200:
        parts = [first]
        mutate(draw, parts)
        if parts != [first]:
            with pytest.raises(RefusedError):
                receiver.decode(parts + apart)
    assert same(receiver.decode([first, *apart]).tensors[1], LARGE)


def test_noise_under_a_right_checksum_is_refused_or_makes_sense() -> None:
    """What a faulty sender could say: whatever is taken is a message of this edge, within its bounds."""
    draw, taken = random.Random(2), 0
    odd = [0, 1, 2, 3, 4, 5, 7, 255, -1, -2, 2**31, 2**32 - 1, 2**62, -(2**63)]
    sender, _ = pair(TENSOR, ticks=8)
    right = sender.encode(message(0, TENSOR))[0]
    for _ in range(3000):
        numbers = {name: draw.choice(odd) for name in draw.sample(NUMBERS, draw.choice([1, 1, 2, 4]))}
        receiver = pair(TENSOR, ticks=8)[1]
        try:
            parts = edited(right, **numbers)
        except struct.error:
            continue  # no number of that field
        try:
            (token,), tensors, tick, final, cut, _ = receiver.decode(parts)
        except RefusedError:
            continue
        taken += 1
        assert tick == 0
        assert min(final, cut) >= -1
        assert 0 <= token.rows <= 4
        assert not token.restarts >> 4
        assert min(token.tick, token.first) >= -1
        assert token.repeat >= 0
        assert same(tensors[0], TENSOR)
    assert taken > 300
