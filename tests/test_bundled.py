"""Several frames in a message: nothing that a frame says is lost, in any company."""

import torch
from link_kinds import KINDS, PATIENCE, ends, forms, joined, same
from torch import Tensor

from hamdist.runtime.aligned import BYTES
from hamdist.runtime.links.bundled import Bundled, bundled_forms
from hamdist.runtime.links.contract import Form, Frame, Link
from hamdist.runtime.token import INVALID, Token

COUNT = 3
FORWARD = (Form((4, 5), torch.float32), Form((2,), torch.int64))  # neither is a multiple of 64 bytes
TOKENS = (
    INVALID,
    Token(7, 40, 4, 2, True, False),
    Token(8, 44, 3, 0, True, True),
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
    return Bundled(a, COUNT, FORWARD), Bundled(b, COUNT, ())


def check(got: Frame, sent: Frame, final: int) -> None:
    assert (got.tick, got.token, got.final) == (sent.tick, sent.token, final)
    assert all(map(same, got.tensors, sent.tensors))
    assert all(t is None or (t.is_contiguous() and t.data_ptr() % BYTES == 0) for t in got.tensors)


def test_frames_arrive_as_they_were_each_way():
    at = ends(bundled_forms(FORWARD, COUNT), bundled_forms((), COUNT), capacity=8)
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


def test_a_message_goes_when_it_is_whole():
    at = ends(bundled_forms(FORWARD, COUNT), capacity=8)
    with joined(KINDS["in-process"], at, PATIENCE) as pair:
        a, _ = bundles(pair.a, pair.b)
        waiting = pair.b._into.frames
        for frame in frames(COUNT - 1):
            a.send(frame)
        assert waiting.empty()
        a.send(frames(COUNT)[-1])
        assert waiting.qsize() == 1
        message = waiting.get()
        assert forms(*message.tensors) == bundled_forms(FORWARD, COUNT)
        assert message.final == 11
