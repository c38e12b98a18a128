"""Several frames in a message: nothing that a frame says is lost, in any company."""

from dataclasses import replace

import pytest
import torch
from support.link_kinds import KINDS, PATIENCE, ends, forms, joined, same
from torch import Tensor

from hamdist.engine.aligned import BYTES
from hamdist.engine.message import INVALID, Stretch, Token
from hamdist.transport.base import Form, Frame, Frames, Link, StalledError
from hamdist.transport.bundled import Bundled, bundled_forms

COUNT = 3
FORWARD = (Form((4, 5), torch.float32), Form((2,), torch.int64))  # neither is a multiple of 64 bytes
ROWS = 100  # two words of restarts
TOKENS = (
    INVALID,
    Token(7, 40, 4, 2, True, False),
    Token(8, 44, 3, 0, True, True, 1 << 99 | 1 << 62 | 5),
    Token(9, -1, 0, 0, True, True),
)


def values(tick: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tick)
    return torch.randn(4, 5, generator=generator), torch.randint(-9, 9, (2,), generator=generator)


def frames(count: int) -> list[Frame]:
    """With some tensors, all or none, and the last knows the final tick."""
    told = []
    for tick in range(count):
        numbers, classes = values(tick)
        tensors = [(numbers, classes), (None, classes), (numbers, None), (None, None)][tick // 2 % 4]
        told.append(Frame(tick, TOKENS[tick % 4], tensors, 11 if tick == count - 1 else -1))
    return told


def bundles(a: Link, b: Link) -> tuple[Bundled, Bundled]:
    return Bundled(a, COUNT, FORWARD, ROWS), Bundled(b, COUNT, (), ROWS)


def check(got: Frame, sent: Frame, final: int) -> None:
    assert (got.tick, got.token, got.final) == (sent.tick, sent.token, final)
    assert all(map(same, got.tensors, sent.tensors))
    assert all(t is None or (t.is_contiguous() and t.data_ptr() % BYTES == 0) for t in got.tensors)


def test_frames_arrive_as_they_were_each_way():
    at = ends(bundled_forms(FORWARD, COUNT, ROWS), bundled_forms((), COUNT, ROWS), capacity=8)
    for kind in ("in-process", "zeromq-ipc"):
        with joined(KINDS[kind], at, PATIENCE) as pair:
            a, b = bundles(pair.a, pair.b)
            sent = frames(4 * COUNT)
            for frame in sent:
                a.send(frame)
                b.send(Frame(frame.tick, frame.token, ()))
            for frame in sent:
                check(b.receive(), frame, frame.final)
                assert a.receive() == Frame(frame.tick, frame.token, ())


def stretch(told: list[Frame]) -> Frames:
    """Several frames that are alike, as one piece."""
    places = zip(*(frame.tensors for frame in told), strict=True)
    tensors = tuple(None if values[0] is None else torch.stack(values) for values in places)
    return Frames(told[0].tick, Stretch(tuple(frame.token for frame in told), tensors), told[-1].final)


def alike(count: int) -> list[Frame]:
    return [Frame(tick, Token(tick, 4 * tick, 4), (values(tick)[0], None)) for tick in range(count)]


@pytest.mark.parametrize("gathers", [1, COUNT])
@pytest.mark.parametrize("whole", [True, False])
def test_frames_sent_together_arrive_so_or_one_by_one(gathers, whole):
    """In messages of one length, and of any: sent alone or not, received alone or not."""
    at = ends(bundled_forms(FORWARD, COUNT, ROWS), bundled_forms((), COUNT, ROWS), capacity=32)
    at = [replace(end, partial=gathers == 1) for end in at]
    sent, got = alike(24), []
    with joined(KINDS["zeromq-ipc"], at, PATIENCE) as pair:
        a, b = Bundled(pair.a, gathers, FORWARD, ROWS), Bundled(pair.b, COUNT, (), ROWS)
        for start, stop in (
            (0, 3),
            (3, 4),
            (4, 5),
            (5, 7),
            (7, 9),
            (9, 12),
            (12, 13),
            (13, 14),
            (14, 15),
            (15, 18),
        ):
            if stop - start == 1:
                a.send(sent[start])
            else:
                a.send_all(stretch(sent[start:stop]))
        while len(got) < 18:
            got += [each.frame() for each in b.receive_all().single()] if whole else [b.receive()]
    for frame, expected in zip(got, sent, strict=False):
        check(frame, expected, -1)


def test_pieces_stay_pieces():
    at = ends(bundled_forms(FORWARD, COUNT, ROWS), bundled_forms((), COUNT, ROWS), capacity=8)
    with joined(KINDS["in-process"], at, PATIENCE) as pair:
        a, b = bundles(pair.a, pair.b)
        a.send_all(stretch(alike(COUNT)))
        got = b.receive_all()
        assert (got.tick, got.stretch.ticks, got.final) == (0, COUNT, -1)
        assert got.stretch.tensors[1] is None
        assert torch.equal(got.stretch.tensors[0], torch.stack([values(k)[0] for k in range(COUNT)]))


def test_a_message_goes_when_it_is_whole():
    at = ends(bundled_forms(FORWARD, COUNT, ROWS), capacity=8)
    with joined(KINDS["in-process"], at, replace(PATIENCE, progress_seconds=0.0)) as pair:
        a, _ = bundles(pair.a, pair.b)
        for frame in frames(COUNT - 1):
            a.send(frame)
        with pytest.raises(StalledError, match="sent no frame"):
            pair.b.receive()
        a.send(frames(COUNT)[-1])
        message = pair.b.receive()
        assert forms(*message.tensors) == bundled_forms(FORWARD, COUNT, ROWS)
        assert message.final == 11
