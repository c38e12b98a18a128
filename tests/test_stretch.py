"""Ticks in pieces: however a queue is filled and emptied, it gives what a plain list would."""

import random
from itertools import islice

import pytest
import torch
from torch import Tensor

from hamdist.errors import StreamError
from hamdist.runtime.aligned import BYTES
from hamdist.runtime.feed import Feed
from hamdist.runtime.stretch import Queue, Stretch
from hamdist.runtime.token import INVALID, NO_COSTATE, Costate, Signal, Token


def signal(tick: int, width: int = 5) -> Signal:
    return Signal(Token(tick, 2 * tick, 2), torch.full((2, width), float(tick)))


def stretch(items: list) -> Stretch:
    if len(items) == 1:
        return Stretch(items[0][:1], items[0][1:])
    tensors = tuple(
        None if values[0] is None else torch.stack(values)
        for values in zip(*(i[1:] for i in items), strict=True)
    )
    return Stretch(tuple(item.token for item in items), tensors)


def same(ours, theirs) -> bool:
    return ours.token == theirs.token and all(
        a is b or (torch.equal(a, b) and a.is_contiguous() and a.data_ptr() % BYTES == 0)
        for a, b in zip(ours[1:], theirs[1:], strict=True)
    )


@pytest.mark.parametrize("width", [5, 16])  # ticks of 40 bytes, and of 128
@pytest.mark.parametrize("seed", range(5))
def test_a_queue_gives_what_a_list_would(width, seed):
    chance, queue, plain, tick = random.Random(seed), Queue(Signal), [], 0
    for _ in range(200):
        count = chance.choice([1, 1, 2, 4, 9])
        coming = [signal(tick + k, width) for k in range(count)]
        tick += count
        plain += coming
        if count == 1 and chance.random() < 0.5:
            queue.append(coming[0])
        else:
            queue.add(stretch(coming))
        assert len(queue) == len(plain)
        assert all(map(same, queue, plain))
        most = chance.choice([1, 2, 4, 8])
        if most > len(plain):
            continue
        assert list(queue.tokens(most)) == [item.token for item in plain[:most]]
        match chance.randrange(3):
            case 0:
                assert same(queue.popleft(), plain.pop(0))
            case 1:
                ahead = queue.ahead(most)
                assert ahead.tokens == tuple(item.token for item in plain[:most])
                assert all(map(same, (Signal(s.tokens[0], *s.tensors) for s in ahead.single()), plain))
                assert all(map(same, queue, plain))  # it all stays
            case 2:
                queue.skip(most)
                del plain[:most]


def test_what_has_no_tensors_has_none_in_one_piece():
    queue = Queue(Costate, [NO_COSTATE] * 3)
    queue.add(Stretch((INVALID,) * 4, (None, None)))
    assert queue.ahead(6) == Stretch((INVALID,) * 6, (None, None))
    queue.skip(6)
    assert queue.popleft() == NO_COSTATE


def test_ticks_that_are_not_alike_are_no_piece():
    queue = Queue(Signal, [signal(0), Signal(INVALID)])
    with pytest.raises(AssertionError, match="alike"):
        queue.ahead(2)


def test_a_queue_that_keeps_nothing():
    queue = Queue(Costate, most=0)
    queue.append(NO_COSTATE)
    queue.add(Stretch((INVALID,) * 4, (None, None)))
    assert len(queue) == 0


# What the source says


def batch(rows: int, start: float) -> tuple[Tensor, Tensor]:
    return start + torch.arange(3.0 * rows).reshape(rows, 3), torch.arange(rows)


def test_batches_said_together_are_those_said_one_by_one():
    sizes = (4, 4, 3)
    together, alone = Feed(4, hold=2), Feed(4, hold=2)
    (said,) = together.present([batch(rows, 100.0 * k) for k, rows in enumerate(sizes)])
    singly = [s for k, rows in enumerate(sizes) for s in alone.present([batch(rows, 100.0 * k)])]
    pieces = list(said.pieces(1))
    expected = [piece for one in singly for piece in one.pieces(1)]
    assert (together.tick, together.samples) == (alone.tick, alone.samples) == (6, 11)
    for ours, theirs in zip(pieces, expected, strict=True):
        assert all(
            same(Signal(a.tokens[0], *a.tensors), Signal(b.tokens[0], *b.tensors))
            for a, b in zip(ours, theirs, strict=True)
        )
    assert [piece.inputs.ticks for piece in said.pieces(4)] == [4, 2]


def test_the_source_says_copies():
    feed, (inputs, targets) = Feed(4, hold=1), batch(4, 0.0)
    for count in (1, 2):
        (said,) = feed.present([(inputs, targets)] * count)
        before = said.inputs.tensors[0].clone()
        inputs.add_(1.0)
        assert torch.equal(said.inputs.tensors[0], before)


def test_batches_before_one_that_does_not_fit_are_said():
    feed, said = Feed(4, hold=1), []
    with pytest.raises(StreamError, match="a batch of 5 rows came at sample 8, but the first had 4"):
        said.extend(feed.present([batch(4, 0.0), batch(4, 1.0), batch(5, 2.0)]))
    feed = Feed(4, hold=1)
    speaking = feed.present([batch(4, 0.0), batch(4, 1.0), batch(5, 2.0)])
    (first,) = islice(speaking, 1)
    assert first.inputs.ticks == 2
    with pytest.raises(StreamError):
        next(speaking)
    assert feed.samples == 8
