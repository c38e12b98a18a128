"""A frame as bytes: what is written is read, and whatever else comes is refused by name."""

import random
from dataclasses import replace

import pytest
import torch
from support.link_kinds import ends, forms, frame, same

from hamdist.engine.message import INVALID, Form, Token
from hamdist.transport.base import End, Frame, LinkError, RefusedError
from hamdist.transport.codec import APART_BYTES, decode, decode_head, encode, encode_head

A, B = ends()
TENSOR = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "token", [Token(5, 80, 16, 2, True, False), INVALID, Token(2**40, 2**41, 1, 0, restarts=1 << 99 | 5)]
)
@pytest.mark.parametrize("final", [-1, 2**40])
def test_every_field_is_read_as_it_was_written(token: Token, final: int) -> None:
    got = decode(encode(Frame(2**42, token, (), final), A, 3), B, 3)
    assert got == Frame(2**42, token, (), final)


def test_costates_go_the_other_way() -> None:
    assert decode(encode(frame(1), B, 3), A, 3) == frame(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64, torch.bool, torch.uint8])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5, 7), (1,) * 20, (256, 256)])
def test_tensors_are_read_as_they_were_written(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (4 * torch.randn(shape)).to(dtype)
    for sender, receiver in ((A, B), ends(forms(tensor, tensor))):
        nothing, got = decode(encode(frame(0, None, tensor), sender, 1), receiver, 1).tensors
        assert nothing is None
        assert same(got, tensor)
        assert got.data_ptr() % 64 == 0


def test_large_tensors_are_not_copied_and_small_ones_go_with_the_header() -> None:
    small, large = torch.zeros(APART_BYTES // 4 - 1), torch.zeros(APART_BYTES // 4)
    first, *apart = encode(frame(0, small, large, large), A, 1)
    assert len(first) > small.nbytes
    assert [len(part) for part in apart] == [large.nbytes] * 2
    large.fill_(1.0)
    assert same(decode([first, *apart], B, 1).tensors[2], torch.ones_like(large))


def test_an_end_may_take_tensors_of_fewer_rows() -> None:
    whole = forms(torch.zeros(4, 3))
    sender, receiver = (replace(end, partial=True) for end in ends(whole))
    for rows in (1, 4):
        (got,) = decode(encode(frame(0, torch.ones(rows, 3)), sender, 1), receiver, 1).tensors
        assert same(got, torch.ones(rows, 3))
    for odd in (
        torch.ones(0, 3),
        torch.ones(5, 3),
        torch.ones(4, 2),
        torch.ones(3),
        torch.ones(4, 3, 1),
        torch.ones(4, 3).double(),
    ):
        with pytest.raises(RefusedError, match=r"is torch.float.* and torch.float32 \[4, 3\] is expected"):
            decode(encode(frame(0, odd), sender, 1), receiver, 1)
    with pytest.raises(RefusedError):
        decode(encode(frame(0, torch.ones(3, 3)), sender, 1), replace(receiver, partial=False), 1)


def test_tensors_of_one_message_have_as_many_rows() -> None:
    sender, receiver = (replace(end, partial=True) for end in ends(forms(torch.zeros(4, 3), torch.zeros(4))))
    with pytest.raises(RefusedError, match="different numbers of rows"):
        decode(encode(frame(0, torch.ones(3, 3), torch.ones(2)), sender, 1), receiver, 1)


def test_a_dtype_without_a_code_cannot_travel() -> None:
    with pytest.raises(LinkError, match=r"a->b.*float8_e4m3fn cannot travel"):
        encode(frame(0, torch.zeros(2).to(torch.float8_e4m3fn)), A, 1)


def test_the_head_alone_says_everything_but_the_contents() -> None:
    data = encode_head(frame(4, None, TENSOR), A, 1)
    head = decode_head(data, B, 1)
    assert (head.tick, head.token, head.size) == (4, frame(4).token, len(data))
    assert [place and place.form for place in head.places] == [None, *forms(TENSOR)]


@pytest.mark.parametrize(
    ("sender", "generation", "receiver", "what"),
    [
        (A, 2, B, "of generation 2, and this is 1"),
        (replace(A, edge=7), 1, B, "of edge number 7, and this is 0"),
        (A, 1, A, "it goes forward, as this end's own do"),
        (B, 1, B, "it goes backward, as this end's own do"),
    ],
)
def test_frames_of_another_start_edge_or_direction_are_refused(
    sender: End, generation: int, receiver: End, what: str
) -> None:
    with pytest.raises(RefusedError, match=f"edge a->b: a frame from actor .*{what}"):
        decode(encode(frame(0), sender, generation), receiver, 1)


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ([Form((2, 4), torch.float32)], r"float32 \[2, 3\], and torch.float32 \[2, 4\] is expected"),
        ([Form((3, 2), torch.float32)], r"float32 \[2, 3\], and torch.float32 \[3, 2\] is expected"),
        ([Form((2, 3), torch.float64)], r"float32 \[2, 3\], and torch.float64 \[2, 3\] is expected"),
        ([*forms(TENSOR), *forms(TENSOR)], "it has 1 tensors, and 2 are expected"),
    ],
)
def test_frames_of_another_form_are_refused(wanted: list[Form], what: str) -> None:
    _, b = ends(wanted)
    with pytest.raises(RefusedError, match=what):
        decode(encode(frame(0, TENSOR), A, 1), b, 1)


def test_messages_of_another_length_are_refused() -> None:
    first, large = encode(frame(0, TENSOR, torch.zeros(APART_BYTES)), A, 1)
    for message, what in (
        ([first[:-1], large], "came with 23"),
        ([first + b"\0", large], "more bytes"),
        ([first], "came with 0"),
        ([first, large[:-1]], "came with"),
        ([first, large, b""], "more bytes"),
        ([first[:40], large], "cut off after 40"),
    ):
        with pytest.raises(RefusedError, match=what):
            decode(message, B, 1)


def test_another_version_or_no_frame_at_all_is_refused() -> None:
    first = encode(frame(0), A, 1)[0]
    for other in (b"HTTP" + first[4:], first[:4] + b"\3" + first[5:]):
        with pytest.raises(RefusedError, match="not of this version of hamdist, or no frame at all"):
            decode([other], B, 1)


def test_noise_is_refused_and_never_more() -> None:
    """Random bytes, and frames with one byte changed, cut or added: a frame of the expected forms, or RefusedError."""
    draw = random.Random(0)
    known, free = ends(forms(TENSOR, TENSOR))[1], B
    whole = encode(frame(1, TENSOR, TENSOR), A, 1)[0]
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        data = data[: draw.choice([len(data), draw.randrange(len(data))])]
        for end in (known, free):
            try:
                got = decode([bytes(data)], end, 1)
            except RefusedError:
                refused += 1
            else:
                assert end is free or all(tensor is None or tensor.shape == (2, 3) for tensor in got.tensors)
        with pytest.raises(RefusedError):
            decode([draw.randbytes(draw.randrange(300))], free, 1)
    assert refused > 2000
