"""Ticks in messages: however a queue is filled and emptied, it gives what a plain list would."""

import random
from itertools import islice

import pytest
import torch
from support.seeds import over_seeds
from torch import Tensor

from hamdist.engine.aligned import BYTES
from hamdist.engine.channel import Queue
from hamdist.engine.message import INVALID, NO_COSTATE, Costate, Message, Signal, Token, joined
from hamdist.engine.source import Source
from hamdist.errors import RunError, StreamError


def signal(tick: int, width: int = 5) -> Signal:
    return Signal(Token(tick, 2 * tick, 2), torch.full((2, width), float(tick)))


def together(items: list) -> Message:
    if len(items) == 1:
        return Message(items[0][:1], items[0][1:])
    tensors = tuple(
        None if values[0] is None else torch.stack(values)
        for values in zip(*(i[1:] for i in items), strict=True)
    )
    return Message(tuple(item.token for item in items), tensors)


def same(ours, theirs) -> bool:
    return ours.token == theirs.token and all(
        a is b or (torch.equal(a, b) and a.is_contiguous() and a.data_ptr() % BYTES == 0)
        for a, b in zip(ours[1:], theirs[1:], strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("width", [5, 16])  # ticks of 40 bytes, and of 128
@over_seeds(5)
def test_a_queue_gives_what_a_list_would(width, seed):
    chance, queue, plain, tick = random.Random(seed), Queue(Signal, "a->b"), [], 0
    for _ in range(200):
        count = chance.choice([1, 1, 2, 4, 9])
        coming = [signal(tick + k, width) for k in range(count)]
        tick += count
        plain += coming
        if count == 1 and chance.random() < 0.5:
            queue.append(coming[0])
        else:
            queue.add(together(coming))
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


def test_what_has_no_tensors_has_none_in_one_message():
    queue = Queue(Costate, "a->b", [NO_COSTATE] * 3)
    queue.add(Message((INVALID,) * 4, (None, None)))
    assert queue.ahead(6) == Message((INVALID,) * 6, (None, None))
    queue.skip(6)
    assert queue.popleft() == NO_COSTATE


MIXED = [signal(0), Signal(INVALID), signal(2), signal(3)]


def test_ticks_that_differ_are_not_met_in_one_go():
    queue = Queue(Signal, "a->b", MIXED)
    with pytest.raises(RunError, match=r"edge a->b: .* some of it has tensors that the rest has not"):
        queue.ahead(2)


def test_ticks_that_differ_travel_together_and_are_taken_apart():
    message = joined([*map(Message.of, MIXED[:2]), together(MIXED[2:])])
    assert message.there == message.marks == (1, 0, 1, 1)
    assert message.tensors[0].shape == (4, 2, 5)
    queue = Queue(Signal, "a->b")
    queue.add(message)
    assert all(map(same, queue, MIXED))
    assert queue.popleft().value is not queue.popleft().value is None


def test_a_queue_can_be_emptied_into_another():
    one, other = Queue(Signal, "a->b", MIXED), Queue(Signal, "a->b", [signal(9)])
    one.add(together([signal(tick) for tick in range(4, 8)]))
    one.popleft()
    other.refill(one.said(len(one)))
    assert len(one) == len(other) == 7
    assert all(map(same, one, other))


@pytest.mark.parametrize("ticks", range(8))
def test_a_queue_tells_what_was_said_last(ticks):
    queue = Queue(Signal, "a->b", MIXED)
    queue.add(together([signal(tick) for tick in range(4, 8)]))
    other = Queue(Signal, "a->b")
    other.refill(queue.said(ticks))
    assert len(other) == ticks
    assert all(map(same, other, [*queue][len(queue) - ticks :]))


def test_a_queue_that_keeps_nothing():
    queue = Queue(Costate, "a->b", keeps=False)
    queue.append(NO_COSTATE)
    queue.add(Message((INVALID,) * 4, (None, None)))
    assert len(queue) == 0


# What the source gives


def batch(rows: int, start: float) -> tuple[Tensor, Tensor]:
    return start + torch.arange(3.0 * rows).reshape(rows, 3), torch.arange(rows)


def apart(given: list[Message]) -> list[Signal]:
    """Inputs, and then targets, of every tick."""
    return [
        Signal(tick.tokens[0], *tick.only(place).tensors)
        for message in given
        for tick in message.single()
        for place in (0, 1)
    ]


@pytest.mark.parametrize("hold", [1, 2, 5])
@pytest.mark.parametrize("most", [2, 4, 64])
def test_batches_given_together_are_those_given_one_by_one(hold, most):
    batches = [batch(rows, 100.0 * k) for k, rows in enumerate((4, 4, 3))]
    several, alone = Source(4, hold, most), Source(4, hold)
    given = list(several.present(batches))
    singly = [each for pair in batches for each in alone.present([pair])]
    assert (several.tick, several.samples) == (alone.tick, alone.samples) == (3 * hold, 11)
    assert all(map(same, apart(given), apart(singly)))
    assert len(apart(given)) == len(apart(singly)) == 6 * hold
    ends = [sum(each.ticks for each in given[: k + 1]) for k in range(len(given))]
    assert ends == [*range(most, 3 * hold, most), 3 * hold]
    assert all(each.ticks == 1 for each in singly)


def test_the_source_stands_where_it_has_given():
    source, ticks, samples = Source(4, hold=3), [], []
    for _ in source.present([batch(4, 0.0), batch(2, 1.0)]):
        ticks.append(source.tick)
        samples.append(source.samples)
    assert ticks == [1, 2, 3, 4, 5, 6]
    assert samples == [0, 0, 4, 4, 4, 6]


@pytest.mark.parametrize("most", [1, 8])
def test_the_source_gives_copies_in_plain_order(most):
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2):
        source = Source(4, 1, most)
        inputs = torch.randn(4, 3, 5, 5, generator=generator).to(memory_format=torch.channels_last)
        (*_, given) = list(source.present([(inputs, torch.zeros(4))] * count))
        before, _ = given.tensors
        assert before.is_contiguous()
        kept = before.clone()
        inputs.add_(1.0)
        assert torch.equal(before, kept)


def test_after_a_cut_messages_end_where_so_many_ticks_went_since():
    source, other = Source(4, 1, most=4), Source(4, 1, most=4)
    for number in range(3):
        list(source.present([batch(4, float(number))]))
    other.state = source.state
    assert (other.tick, other.samples, other.origin) == (3, 12, 3)
    given = list(other.present([batch(4, float(k)) for k in range(6)]))
    assert [each.ticks for each in given] == [4, 2]
    assert given[0].tokens[0].tick == 3


def test_the_source_tells_what_entered_last():
    source = Source(4, hold=2, recalls=5)
    given = [*source.present([batch(4, 0.0)]), *source.silence(1), *source.present([batch(3, 1.0)])]
    told = [token for each in given for token in each.tokens]
    assert source.state.recent == tuple(told)
    assert source.state.recent[2] == INVALID
    list(source.silence(2))
    assert source.state.recent == (INVALID, *told[3:], INVALID, INVALID)
    other = Source(4, hold=2, recalls=5)
    other.state = source.state
    assert other.state == source.state


def test_ticks_of_a_hold_share_what_is_given():
    given = list(Source(4, hold=5).present([batch(4, 0.0)]))
    assert len({each.tensors[0].data_ptr() for each in given}) == 1


def test_batches_before_one_that_does_not_fit_are_given():
    source, given = Source(4, 1, most=8), []
    with pytest.raises(StreamError, match="a batch of 5 rows came at sample 8, but the first had 4"):
        given.extend(source.present([batch(4, 0.0), batch(4, 1.0), batch(5, 2.0)]))
    source = Source(4, 1, most=8)
    giving = source.present([batch(4, 0.0), batch(4, 1.0), batch(5, 2.0)])
    (first,) = islice(giving, 1)
    assert first.ticks == 2
    with pytest.raises(StreamError):
        next(giving)
    assert source.samples == 8
