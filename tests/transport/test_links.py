"""What every kind of link must do; the kinds are in link_kinds."""

import signal
import threading

import pytest
import torch
from support.link_kinds import (
    KINDS,
    Background,
    Kind,
    endpoints,
    forms,
    joined,
    message,
    same,
    together,
)
from support.link_processes import process
from support.patience import patient

from hamdist.engine.message import INVALID, Message
from hamdist.transport.base import (
    ClosedError,
    Form,
    Link,
    Patience,
    PeerLostError,
    StalledError,
)

SMALL = Form((4,), torch.float32)
DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)
COPYING = [kind for kind in KINDS.values() if kind.copies]
CROSSING = [kind for kind in KINDS.values() if kind.processes]


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# What travels


def test_messages_arrive_in_order_with_all_that_they_say(kind: Kind) -> None:
    sent = [message(tick, values(4, seed=tick)) for tick in range(5)]
    with joined(kind, endpoints([SMALL], [SMALL], capacity=5)) as pair:
        for one in sent:
            pair.a.send(one)
        for one in sent:
            got = pair.b.receive()
            assert (got.tick, got.tokens, got.final) == (one.tick, one.tokens, -1)
            assert same(got.tensors[0], one.tensors[0])


def test_the_final_tick_a_cut_and_an_invalid_token_travel(kind: Kind) -> None:
    with joined(kind, endpoints([SMALL])) as pair:
        pair.a.send(Message((INVALID,), (None,), 0, final=9, cut=4))
        assert pair.b.receive() == Message((INVALID,), (None,), 0, final=9, cut=4)


def test_every_dtype_travels(kind: Kind) -> None:
    sent = tuple((8 * values(3, 5)).to(dtype) for dtype in DTYPES)
    with joined(kind, endpoints(forms(*sent), forms(*sent))) as pair:
        for sender, receiver in ((pair.a, pair.b), (pair.b, pair.a)):
            sender.send(message(0, *sent))
            got = receiver.receive().tensors
            assert [tensor.dtype for tensor in got] == list(DTYPES)
            assert all(map(same, got, sent))


@pytest.mark.parametrize(
    "tensor",
    [
        values(),
        values(0),
        values(3, 0, 2),
        values(1, 2, 3, 4, 5, 6),
        values(128, 128),  # 64 KiB exactly
        values(127, 129),
        values(1024, 2048),  # 8 MiB
    ],
    ids=lambda tensor: "x".join(map(str, tensor.shape)) or "number",
)
def test_every_shape_travels(kind: Kind, tensor: torch.Tensor) -> None:
    with joined(kind, endpoints(forms(tensor), forms(tensor))) as pair:
        pair.a.send(message(0, tensor))
        assert same(pair.b.receive().tensors[0], tensor)
        pair.b.send(message(0, tensor))
        assert same(pair.a.receive().tensors[0], tensor)


def test_absent_small_and_large_tensors_mix_in_a_message(kind: Kind) -> None:
    small, large, other = values(4), values(300, 300), values(2, 2)
    with joined(kind, endpoints(forms(small, large, other), capacity=3)) as pair:
        mixed = ((small, large, other), (None, large, None), (small, None, other), (None, None, None))
        for tick, sent in enumerate(mixed):
            pair.a.send(message(tick, *sent))
            assert all(map(same, pair.b.receive().tensors, sent))


def test_tensors_travel_in_whatever_order_they_lie_in_memory(kind: Kind) -> None:
    matrix = values(6, 8)
    sent = (matrix.T, matrix[:, ::2], values(3, 1).expand(3, 5), torch.complex(matrix, matrix).conj())
    with joined(kind, endpoints(forms(*sent))) as pair:
        pair.a.send(message(0, *sent))
        assert all(map(same, pair.b.receive().tensors, sent))


def test_received_tensors_are_contiguous_and_aligned(kind: Kind) -> None:
    buffer = values(1000)
    sent = (buffer[1:5], buffer[3:14], values(7, 9).T, values(200, 200)[1:])
    with joined(kind, endpoints(forms(*sent), capacity=10)) as pair:
        for tick in range(10):
            pair.a.send(message(tick, *sent))
        for _ in range(10):
            for got, tensor in zip(pair.b.receive().tensors, sent, strict=True):
                assert got.is_contiguous()
                assert got.data_ptr() % 64 == 0
                assert same(got, tensor)


@pytest.mark.parametrize("kind", COPYING, ids=lambda kind: kind.name)
def test_received_tensors_are_the_receivers_own(kind: Kind) -> None:
    sent = (values(4), values(200, 200))
    kept = tuple(tensor.clone() for tensor in sent)
    with joined(kind, endpoints(forms(*sent))) as pair:
        for tick in range(2):
            pair.a.send(message(tick, *sent))
        first, second = pair.b.receive(), pair.b.receive()
        for tensor in first.tensors:
            tensor.zero_()
    assert all(map(same, second.tensors, kept))
    assert all(map(same, sent, kept))


# Flow


def test_both_directions_at_once(kind: Kind) -> None:
    rounds = 100
    large = [values(150, 150, seed=tick) for tick in range(3)]

    def exchange(link: Link) -> bool:
        right = True
        for tick in range(rounds):
            link.send(message(tick, large[tick % 3]))
            got = link.receive()
            right &= got.tick == tick and same(got.tensors[0], large[tick % 3])
        return right

    with joined(kind, endpoints(forms(large[0]), forms(large[0]), capacity=1)) as pair:
        assert together(lambda: exchange(pair.a), lambda: exchange(pair.b)) == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [1, 3])
def test_one_direction_alone_goes_on_for_ever(kind: Kind, capacity: int) -> None:
    rounds = 200

    def send(link: Link) -> None:
        for tick in range(rounds):
            link.send(message(tick, values(4)))

    def receive(link: Link) -> list[int]:
        return [link.receive().tick for _ in range(rounds)]

    with joined(kind, endpoints([SMALL], [SMALL], capacity)) as pair:
        assert together(lambda: send(pair.a), lambda: receive(pair.b))[1] == list(range(rounds))
        assert together(lambda: send(pair.b), lambda: receive(pair.a))[1] == list(range(rounds))


def fill(link: Link, sample: torch.Tensor, most: int = 1000) -> int:
    """Sends until the link is full; how many messages were sent."""
    for tick in range(most):
        try:
            link.send(message(tick, sample))
        except StalledError:
            return tick
    return most


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 1 << 17], ids=["small", "large"])
def test_a_sender_that_is_not_read_stops_and_loses_nothing(kind: Kind, size: int) -> None:
    """Its wait is longer than the heartbeat's limit, and the other end's process lives: it has stalled, no more."""
    capacity, sample = 3, values(size)
    with joined(
        kind, endpoints(forms(sample), capacity=capacity), Patience(patient(1.0), patient(1.6))
    ) as pair:
        sent = fill(pair.a, sample)
        assert capacity <= sent <= 2 * capacity + 1
        assert [pair.b.receive().tick for _ in range(sent)] == list(range(sent))
        pair.a.send(message(sent, sample))
        assert pair.b.receive().tick == sent


@pytest.mark.slow
def test_a_receiver_that_hears_nothing_stalls_and_can_go_on(kind: Kind) -> None:
    limit = patient(0.5)
    with joined(kind, endpoints([SMALL], [SMALL]), Patience(patient(20), limit)) as pair:
        pair.a.send(message(0, values(4)))
        pair.b.receive()
        for link in (pair.a, pair.b):
            with pytest.raises(StalledError, match=rf"a->b.*actor [ab].* sent no message for {limit:g} s"):
                link.receive()
        pair.a.send(message(1, values(4)))
        assert pair.b.receive().tick == 1


# Ends


@pytest.mark.parametrize("leaving", [0, 1], ids="ab")
def test_closing_ends_a_wait_for_a_message(kind: Kind, leaving: int) -> None:
    with joined(kind, endpoints([SMALL], [SMALL])) as pair:
        link, waiting = (pair.a, pair.b)[leaving], threading.Event()

        def wait() -> None:
            waiting.set()
            link.receive()

        waiter = Background(wait)
        assert waiting.wait(patient(60))
        link.close()
        with pytest.raises(ClosedError, match="a->b"):
            waiter.result()


def test_closing_ends_a_wait_to_send(kind: Kind) -> None:
    with joined(kind, endpoints([SMALL])) as pair:
        sent = threading.Semaphore(0)

        def send() -> None:
            for tick in range(1000):
                pair.a.send(message(tick, values(4)))
                sent.release()

        sender = Background(send)
        assert all(sent.acquire(timeout=patient(60)) for _ in range(3))
        pair.wirings[0].close()
        with pytest.raises(ClosedError, match="a->b"):
            sender.result()


def test_closing_twice_is_closing_once_and_nothing_works_afterwards(kind: Kind) -> None:
    with joined(kind, endpoints([SMALL])) as pair:
        for close in (pair.a.close, pair.a.close, pair.wirings[0].close, pair.wirings[0].close):
            close()
        with pytest.raises(ClosedError):
            pair.a.send(message(0, values(4)))
        with pytest.raises(ClosedError):
            pair.a.receive()


@pytest.mark.slow
@pytest.mark.parametrize("leaving", [0, 1], ids="ab")
def test_what_was_sent_before_closing_arrives_and_then_the_peer_is_lost(kind: Kind, leaving: int) -> None:
    """Also where the one that stays looked for messages before, in vain."""
    with joined(kind, endpoints([SMALL], [SMALL]), Patience(patient(20), patient(1.0))) as pair:
        links = pair.a, pair.b
        leaver, stayer = links[leaving], links[1 - leaving]
        with pytest.raises(StalledError):
            stayer.receive()
        for tick in range(3):
            leaver.send(message(tick, values(4)))
        pair.wirings[leaving].close()
        assert [stayer.receive().tick for _ in range(3)] == [0, 1, 2]
        with pytest.raises(PeerLostError, match=f"a->b.*actor {'ab'[leaving]}"):
            stayer.receive()
        with pytest.raises(PeerLostError):
            fill(stayer, values(4))


def test_what_was_sent_arrives_though_its_sender_leaves_messages_unread(kind: Kind) -> None:
    sent = [values(1024, 1024, seed=tick) for tick in range(3)]
    with joined(kind, endpoints(forms(sent[0]), forms(sent[0]))) as pair:
        pair.a.send(message(0, sent[0]))
        pair.b.receive()
        for tick in range(3):
            pair.b.send(message(tick, sent[tick]))
            pair.a.send(message(tick + 1, sent[tick]))
        leaving = Background(pair.wirings[1].close)
        assert all(same(pair.a.receive().tensors[0], sent[tick]) for tick in range(3))
        leaving.result()


# Processes


@pytest.mark.slow
@pytest.mark.parametrize("kind", CROSSING, ids=lambda kind: kind.name)
@pytest.mark.parametrize("actor", [0, 1], ids="ab")
def test_of_a_killed_peer_first_what_arrived_then_its_loss(kind: Kind, actor: int) -> None:
    with process(kind, actor, messages=3, patience=Patience(patient(20), patient(60))) as (peer, link):
        peer.kill()
        peer.wait()
        for tick in range(3):
            assert same(link.receive().tensors[0], torch.zeros(4) + tick)
        with pytest.raises(PeerLostError, match=rf"a->b.*actor {'ab'[actor]}"):
            link.receive()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CROSSING, ids=lambda kind: kind.name)
def test_a_frozen_peer_is_lost_by_its_heartbeat(kind: Kind) -> None:
    with process(kind, actor=1, messages=1, patience=Patience(patient(1.0), patient(60))) as (peer, link):
        peer.send_signal(signal.SIGSTOP)
        link.receive()
        with pytest.raises(PeerLostError, match=r"a->b.*actor b"):
            link.receive()
