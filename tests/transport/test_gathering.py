"""Several ticks in a message: nothing is lost in any company, whether it is given and taken one by one or not."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.link_kinds import KINDS, PATIENCE, endpoints, joined, same
from torch import Tensor

from hamdist.engine.aligned import BYTES
from hamdist.engine.message import INVALID, Costate, Form, Message, Token
from hamdist.engine.message import joined as gathered
from hamdist.network.graph import Edge
from hamdist.transport.base import StalledError
from hamdist.transport.remote_channel import ReceiveQueue, SendQueue, Traffic

COUNT = 3
FORWARD = (Form((4, 5), torch.float32), Form((2,), torch.int64))  # neither is a multiple of 64 bytes
ROWS = 100
TOKENS = (
    INVALID,
    Token(7, 40, 4, 2, True, False),
    Token(8, 44, 3, 0, True, True, 1 << 99 | 1 << 62 | 5),
    Token(9, -1, 0, 0, True, True),
)
EDGE = Edge("a", "b")


def values(tick: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tick)
    return torch.randn(4, 5, generator=generator), torch.randint(-9, 9, (2,), generator=generator)


def mixed(count: int) -> list[Costate]:
    """With some tensors, all or none."""
    given = []
    for tick in range(count):
        numbers, classes = values(tick)
        tensors = [(numbers, classes), (None, classes), (numbers, None), (None, None)][tick // 2 % 4]
        given.append(Costate(TOKENS[tick % 4], *tensors))
    return given


def alike(count: int) -> list[Costate]:
    return [Costate(Token(tick, 4 * tick, 4), values(tick)[0], None) for tick in range(count)]


def together(items: list[Costate]) -> Message:
    return gathered([Message.of(item) for item in items])


def at(**more: Any) -> tuple[Any, Any]:
    return endpoints(FORWARD, (), capacity=32, rows=ROWS, ticks=COUNT, **more)


def check(got: Costate, sent: Costate) -> None:
    assert got.token == sent.token
    assert all(map(same, got[1:], sent[1:]))
    assert all(t is None or (t.is_contiguous() and t.data_ptr() % BYTES == 0) for t in got[1:])


@pytest.mark.parametrize("kind", ["in-process", "zeromq-ipc", "zeromq-shared", "gloo-ipc"])
def test_what_is_gathered_arrives_as_it_was_each_way(kind: str) -> None:
    traffic = Traffic()
    with joined(KINDS[kind], at(), PATIENCE) as pair:
        out, back = SendQueue(pair.a, traffic), SendQueue(pair.b, traffic)
        into, heard = ReceiveQueue(pair.b, traffic, Costate, []), ReceiveQueue(pair.a, traffic, Costate, [])
        sent = mixed(4 * COUNT)
        for item in sent:
            out.append(item)
            back.append(item)
        for item in sent:
            check(into.popleft(), item)
            assert heard.popleft() == Costate(item.token)


def test_where_a_message_has_one_tick_several_go_one_by_one() -> None:
    with joined(KINDS["zeromq-ipc"], endpoints(FORWARD, (), capacity=4, rows=ROWS), PATIENCE) as pair:
        into = ReceiveQueue(pair.b, Traffic(), Costate, [])
        SendQueue(pair.a, Traffic()).add(together(alike(COUNT)))
        for item in alike(COUNT):
            check(into.popleft(), item)


@pytest.mark.parametrize("gathers", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_given_together_arrives_so_or_one_by_one(gathers: bool, whole: bool) -> None:
    """In messages of one length, and of any: given alone or not, taken alone or not."""
    sent, lengths = alike(18), [3, 1, 1, 2, 2, 3, 1, 1, 1, 3]
    with joined(KINDS["zeromq-ipc"], at(gathers=gathers), PATIENCE) as pair:
        out = SendQueue(pair.a, Traffic())
        into = ReceiveQueue(pair.b, Traffic(), Costate, [])
        given = iter(sent)
        for length in lengths:
            items = [next(given) for _ in range(length)]
            out.append(items[0]) if length == 1 else out.add(together(items))
        if whole:
            for start in range(0, 18, 6):
                six, got = sent[start : start + 6], into.ahead(6)
                assert got.tokens == tuple(item.token for item in six)
                assert same(got.tensors[0], torch.stack([item.value for item in six]))
                into.skip(6)
        else:
            for item in sent:
                check(into.popleft(), item)


def test_a_message_goes_when_it_is_whole_and_stays_whole() -> None:
    traffic = Traffic()
    with joined(KINDS["in-process"], at(), replace(PATIENCE, progress_seconds=0.0)) as pair:
        out = SendQueue(pair.a, traffic)
        for item in alike(COUNT - 1):
            out.append(item)
        with pytest.raises(StalledError, match="sent no message"):
            pair.b.receive()
        traffic.final = 11
        out.append(alike(COUNT)[-1])
        got = pair.b.receive()
        assert (got.tick, got.ticks, got.final, got.there) == (0, COUNT, 11, ())
        assert same(got.tensors[0], torch.stack([values(tick)[0] for tick in range(COUNT)]))
        assert got.tensors[1] is None
        out.add(together(alike(COUNT)))
        assert pair.b.receive().tick == COUNT


@pytest.mark.parametrize("delay", [1, 2, 5])
@pytest.mark.parametrize("gathers", [True, False])
def test_the_sender_knows_what_the_other_end_has_not_met(delay: int, gathers: bool) -> None:
    """At every tick what it said in the last d, the initial items among it, whether it has gone or is gathered."""
    initial, sent = [Costate(INVALID)] * delay, alike(12)
    with joined(KINDS["in-process"], at(gathers=gathers), PATIENCE) as pair:
        out = SendQueue(pair.a, Traffic(), initial)
        told = [*initial]
        for item in sent[:6]:
            out.append(item)
            told.append(item)
            check_all(out.said(delay), told[-delay:])
        for start in (6, 9):
            out.add(together(sent[start : start + 3]))
            told += sent[start : start + 3]
            check_all(out.said(delay), told[-delay:])
        assert len(out._said) <= delay


def test_both_ends_go_on_from_what_was_under_way() -> None:
    initial, sent = [Costate(INVALID)] * 2, alike(8)
    said = (together(sent[:1]), together(sent[1:3]))
    with joined(KINDS["in-process"], at(gathers=False), PATIENCE) as pair:
        out, into = SendQueue(pair.a, Traffic(), initial), ReceiveQueue(pair.b, Traffic(), Costate, initial)
        out.resume(said)
        into.refill(said)
        check_all(out.said(2), sent[1:3])
        for item in sent[3:]:
            out.append(item)
        for item in sent:
            check(into.popleft(), item)


def check_all(got: tuple[Message, ...], sent: list[Costate]) -> None:
    each = [Costate(tick.tokens[0], *tick.tensors) for message in got for tick in message.single()]
    assert len(each) == len(sent)
    for one, other in zip(each, sent, strict=True):
        check(one, other)


def test_the_final_tick_and_that_of_a_cut_are_heard_by_whoever_shares_the_traffic() -> None:
    with joined(KINDS["in-process"], at(), PATIENCE) as pair:
        far, near = Traffic(final=11, cut=7), Traffic(cut=4)
        into = ReceiveQueue(pair.b, near, Costate, [])
        SendQueue(pair.a, far).add(together(alike(COUNT)))
        into.popleft()
        assert (near.final, near.cut) == (11, 7)
