"""Ticks in pieces: however a queue is filled and emptied, it gives what a plain list would."""

import random
from itertools import islice

import pytest
import torch
from support.seeds import over_seeds
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


@pytest.mark.slow
@pytest.mark.parametrize("width", [5, 16])  # ticks of 40 bytes, and of 128
@over_seeds(5)
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
    queue = Queue(Costate, keeps=False)
    queue.append(NO_COSTATE)
    queue.add(Stretch((INVALID,) * 4, (None, None)))
    assert len(queue) == 0


# What the source says


def batch(rows: int, start: float) -> tuple[Tensor, Tensor]:
    return start + torch.arange(3.0 * rows).reshape(rows, 3), torch.arange(rows)


def apart(said: list) -> list:
    """Inputs and targets of every tick."""
    pairs = [
        (x, y) for each in said for x, y in zip(each.inputs.single(), each.targets.single(), strict=True)
    ]
    return [(Signal(x.tokens[0], *x.tensors), Signal(y.tokens[0], *y.tensors)) for x, y in pairs]


@pytest.mark.parametrize("hold", [1, 2, 5])
@pytest.mark.parametrize("most", [2, 4, 64])
def test_batches_said_together_are_those_said_one_by_one(hold, most):
    batches = [batch(rows, 100.0 * k) for k, rows in enumerate((4, 4, 3))]
    together, alone = Feed(4, hold, most), Feed(4, hold)
    said = list(together.present(batches))
    singly = [each for pair in batches for each in alone.present([pair])]
    assert (together.tick, together.samples) == (alone.tick, alone.samples) == (3 * hold, 11)
    assert all(
        same(a, b)
        for ours, theirs in zip(apart(said), apart(singly), strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    ends = [sum(each.inputs.ticks for each in said[: k + 1]) for k in range(len(said))]
    assert ends == [*range(most, 3 * hold, most), 3 * hold]
    assert all(each.inputs.ticks == 1 for each in singly)


def test_the_feed_stands_where_it_has_spoken():
    feed, ticks, samples = Feed(4, hold=3), [], []
    for _ in feed.present([batch(4, 0.0), batch(2, 1.0)]):
        ticks.append(feed.tick)
        samples.append(feed.samples)
    assert ticks == [1, 2, 3, 4, 5, 6]
    assert samples == [0, 0, 4, 4, 4, 6]


@pytest.mark.parametrize("most", [1, 8])
def test_the_source_says_copies_in_plain_order(most):
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2):
        feed = Feed(4, 1, most)
        inputs = torch.randn(4, 3, 5, 5, generator=generator).to(memory_format=torch.channels_last)
        (*_, said) = list(feed.present([(inputs, torch.zeros(4))] * count))
        (before,) = said.inputs.tensors
        assert before.is_contiguous()
        kept = before.clone()
        inputs.add_(1.0)
        assert torch.equal(before, kept)


def test_ticks_of_a_hold_share_what_is_said():
    said = list(Feed(4, hold=5).present([batch(4, 0.0)]))
    assert len({each.inputs.tensors[0].data_ptr() for each in said}) == 1


def test_batches_before_one_that_does_not_fit_are_said():
    feed, said = Feed(4, 1, most=8), []
    with pytest.raises(StreamError, match="a batch of 5 rows came at sample 8, but the first had 4"):
        said.extend(feed.present([batch(4, 0.0), batch(4, 1.0), batch(5, 2.0)]))
    feed = Feed(4, 1, most=8)
    speaking = feed.present([batch(4, 0.0), batch(4, 1.0), batch(5, 2.0)])
    (first,) = islice(speaking, 1)
    assert first.inputs.ticks == 2
    with pytest.raises(StreamError):
        next(speaking)
    assert feed.samples == 8
