"""Tensors in shared memory: what is under way is never overwritten, nothing outlives its processes, none is needed."""

import errno
import gc
import logging
import os
import random
import resource
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from support.link_kinds import (
    EDGE,
    KINDS,
    PATIENCE,
    Background,
    Pair,
    endpoints,
    forms,
    joined,
    message,
    same,
)
from support.link_processes import process
from support.patience import patient

from hamdist.engine.message import Form
from hamdist.transport.base import Patience, PeerLostError, RefusedError, StalledError
from hamdist.transport.connection import Connection
from hamdist.transport.segment import HEAD_BYTES, Segment
from hamdist.transport.shared_memory import Blocks, SharedConnection, pools

SHARED = KINDS["zeromq-shared"]
SAMPLE = torch.zeros(1 << 15)  # 128 KiB
FORMS = forms(SAMPLE)


def filled(tick: int) -> torch.Tensor:
    return torch.full_like(SAMPLE, tick)


def connection_of(pair: Pair, actor: int) -> SharedConnection:
    return pair.wirings[actor].connections({})[EDGE]


@pytest.fixture
def by_socket(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each message that any connection gives to its socket."""
    sizes: list[int] = []
    put = Connection._put

    def measured(connection: Connection, parts: list[bytes]) -> bool:
        if parts:
            sizes.append(sum(map(len, parts)))
        return put(connection, parts)

    monkeypatch.setattr(Connection, "_put", measured)
    return sizes


# What lies in a block


def test_tensors_do_not_go_over_the_socket(by_socket: list[int]) -> None:
    with joined(SHARED, endpoints(FORMS * 2, FORMS)) as pair:
        for tick in range(20):
            pair.a.send(message(tick, filled(tick), None if tick % 3 else filled(-tick)))
            pair.b.send(message(tick, filled(tick + 100)))
            first, second = pair.b.receive().tensors
            assert same(first, filled(tick))
            assert second is None if tick % 3 else same(second, filled(-tick))
            assert same(pair.a.receive().tensors[0], filled(tick + 100))
    assert len(by_socket) == 40
    assert max(by_socket) < 1000


@pytest.mark.parametrize("capacity", [1, 3])
def test_what_was_handed_out_is_not_overwritten_before_the_next(capacity: int, by_socket: list[int]) -> None:
    """The worst case: before the receiver copies a message, its sender hears that it was taken, and sends all it may.

    And for all of that there are blocks.
    """
    with joined(SHARED, endpoints(FORMS, FORMS, capacity), Patience(patient(20), patient(0.3))) as pair:
        connection, sent = connection_of(pair, 1), 0
        for tick in range(4):
            while True:
                try:
                    pair.a.send(message(sent, filled(sent)))
                except StalledError:
                    break
                sent += 1
            _, part = connection.receive()
            pair.b.send(message(tick, filled(tick)))
            pair.a.receive()
            pair.a.send(message(sent, filled(sent)))
            sent += 1
            assert same(torch.frombuffer(part, dtype=torch.float32), filled(tick))
    assert max(by_socket) < 1000


def test_many_messages_arrive_whole_at_a_receiver_that_is_slower(by_socket: list[int]) -> None:
    """Its sender has written the next one whenever it has to wait, and for that too there is a block."""
    rounds = 300

    def send(pair: Pair) -> None:
        for tick in range(rounds):
            pair.a.send(message(tick, filled(tick)))

    with joined(SHARED, endpoints(FORMS)) as pair:
        sender = Background(lambda: send(pair))
        for tick in range(rounds):
            got = pair.b.receive().tensors[0]
            assert got.min() == got.max() == tick
            assert got.double().sum() == tick * SAMPLE.numel()
        sender.result()
    assert max(by_socket) < 1000


def test_whatever_the_order_of_sending_and_receiving_messages_arrive_whole() -> None:
    draw, capacity = random.Random(0), 2
    with joined(SHARED, endpoints(FORMS, FORMS, capacity)) as pair:
        sent, got = [0, 0], [0, 0]
        for _ in range(400):
            actor = draw.randrange(2)
            sender, receiver = (pair.a, pair.b) if actor == 0 else (pair.b, pair.a)
            if sent[actor] - got[actor] <= capacity and draw.random() < 0.6:
                sender.send(message(sent[actor], filled(sent[actor] + 1000 * actor)))
                sent[actor] += 1
            elif got[actor] < sent[actor]:
                assert same(receiver.receive().tensors[0], filled(got[actor] + 1000 * actor))
                got[actor] += 1
        assert min(got) > 50


def placed(block: int, *sizes: int) -> bytes:
    """What goes before a message whose tensors lie in a block, with the right checksum."""
    place, each = struct.pack("<iH", block, len(sizes)), struct.pack(f"<{len(sizes)}Q", *sizes)
    return place + struct.pack("<I", zlib.crc32(place + each)) + each


def test_a_message_of_a_block_that_cannot_be_is_refused() -> None:
    a, b = endpoints(FORMS, FORMS)
    right = placed(0, SAMPLE.nbytes)
    for head, what in (
        (b"x", "it is cut off"),
        (right[:-1], "it is cut off"),
        (right[:-1] + b"x", "the checksum is another"),
        (b"\1" + right[1:], "the checksum is another"),
        (placed(pools(a)[0].blocks, 4), "4] bytes cannot lie in block 9"),
        (placed(0, SAMPLE.nbytes + 1), "cannot lie in block 0"),
        (placed(0, 2**64 - 1), "cannot lie in block 0"),
        (placed(-2), "cannot lie in block -2"),
        (placed(-1, 4), "cannot lie in block -1"),
    ):
        with joined(SHARED, (a, b)) as pair:
            Connection.send(connection_of(pair, 0), [head])
            with pytest.raises(RefusedError, match=rf"edge a->b: actor a sent a message .*refused: .*{what}"):
                pair.b.receive()


# Where it is, and how it ends


def mapped(process: int | str = "self") -> int:
    """How many segments a process has mapped."""
    return Path(f"/proc/{process}/maps").read_text().count("/memfd:hamdist")


@pytest.mark.slow
@pytest.mark.parametrize("actor", [0, 1], ids="ab")
def test_nothing_is_left_of_it_after_a_kill(actor: int) -> None:
    gc.collect()
    assert mapped() == 0
    with process(SHARED, actor, messages=1, patience=Patience(patient(20), patient(60))) as (peer, link):
        assert mapped(peer.pid) == mapped() == 1
        peer.kill()
        peer.wait()
        assert same(link.receive().tensors[0], torch.zeros(4))
        with pytest.raises(PeerLostError):
            link.receive()
    assert mapped() == 0
    assert not any("hamdist" in name for name in os.listdir("/dev/shm"))


def test_it_has_no_name_and_is_open_to_its_user_alone() -> None:
    segment = Segment.made(HEAD_BYTES)
    process, descriptor, *_ = segment.note.split(":")
    status = os.stat(f"/proc/{process}/fd/{descriptor}")
    assert (status.st_mode & 0o777, status.st_uid, status.st_nlink) == (0o600, os.getuid(), 0)
    assert not os.get_inheritable(int(descriptor))
    with pytest.raises(PermissionError):  # the other end would be killed where it reads
        os.ftruncate(int(descriptor), 0)
    segment.close()
    segment.close()


def test_what_both_ends_have_is_the_same_memory_and_only_what_is_used_is_taken() -> None:
    size = HEAD_BYTES + 2**30
    one = Segment.made(size)
    assert not one.shared
    other = Segment.found(one.note, size)
    assert one.shared
    assert other.shared
    one.reserve(HEAD_BYTES + 2**20, 4096)
    one.write(HEAD_BYTES + 2**20, b"said")
    assert bytes(other.read(HEAD_BYTES + 2**20, 5)) == b"said\0"
    blocks = os.stat(f"/proc/self/fd/{one.note.split(':')[1]}").st_blocks
    assert 512 * blocks < 2**20
    one.close()
    with pytest.raises(OSError, match="closed"):
        one.reserve(HEAD_BYTES, 4096)
    assert bytes(other.read(HEAD_BYTES + 2**20, 4)) == b"said"
    other.close()


@pytest.mark.parametrize("wrong", ["gone", "another file", "another size"])
def test_what_is_not_found_where_it_should_be_is_filled(wrong: str) -> None:
    segment = Segment.made(HEAD_BYTES)
    process, descriptor, device, inode = segment.note.split(":")
    if wrong == "gone":
        segment.close()
    if wrong == "another file":
        inode = str(int(inode) + 1)
    size = 2 * HEAD_BYTES if wrong == "another size" else HEAD_BYTES
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        Segment.found(":".join((process, descriptor, device, inode)), size)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not segment.shared
    segment.close()


# Without it


def exchange(pair: Pair, ticks: range = range(12)) -> None:
    for tick in ticks:
        pair.a.send(message(tick, filled(tick)))
        pair.b.send(message(tick, filled(-tick)))
        assert same(pair.b.receive().tensors[0], filled(tick))
        assert same(pair.a.receive().tensors[0], filled(-tick))


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_there_is_none_tensors_go_over_the_socket(
    by_socket: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with no_file_larger_than(2**20), joined(SHARED, endpoints(FORMS, FORMS)) as pair:
        exchange(pair)
    assert min(by_socket) > SAMPLE.nbytes
    (said_once,) = warned(caplog)
    assert said_once.startswith("edge a->b: no shared memory with actor a ([Errno 27]")
    assert said_once.endswith("tensors go over the socket, which is slower")


def test_where_the_other_end_cannot_find_it_both_use_the_socket(
    by_socket: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    note = SHARED.prepare()
    a, b = (SHARED.make(actor, note, 1, PATIENCE) for actor in (0, 1))
    at_a, at_b = endpoints(FORMS, FORMS)
    a.listen([at_a])
    address, _, _ = b.listen([at_b])[EDGE].partition(" ")
    links = b.connect({})[EDGE], a.connect({EDGE: f"{address} {os.getpid()}:999999:0:0"})[EDGE]
    exchange(Pair(links[1], links[0], (a, b)))
    a.close()
    b.close()
    assert min(by_socket) > SAMPLE.nbytes
    assert [text.partition(" (")[0] for text in warned(caplog)] == [
        "edge a->b: no shared memory with actor b"
    ]


def test_where_it_runs_short_what_there_is_stays_in_use(
    by_socket: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three blocks each way, and no more: enough to go on one by one, not for three at a time."""
    reserve, left = os.posix_fallocate, [7]  # the head, and the blocks

    def short(descriptor: int, at: int, size: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reserve(descriptor, at, size)

    monkeypatch.setattr(os, "posix_fallocate", short)
    with joined(SHARED, endpoints(FORMS, FORMS)) as pair:
        exchange(pair)
        assert max(by_socket) < 1000
        for tick in range(12, 15):
            pair.a.send(message(tick, filled(tick)))
        assert [size > 1000 for size in by_socket[-3:]] == [False, True, True]
        assert all(same(pair.b.receive().tensors[0], filled(tick)) for tick in range(12, 15))
        for tick in range(12, 15):
            pair.b.send(message(tick, None))
            pair.a.receive()
        exchange(pair, range(15, 16))  # a hears that these were taken
        by_socket.clear()
        exchange(pair, range(16, 28))
        assert max(by_socket) < 1000
    assert [text.partition(" (")[0] for text in warned(caplog)] == [
        "edge a->b: no shared memory with actor b"
    ]


# How it is divided


def test_both_ends_see_the_same_pools_and_these_do_not_overlap() -> None:
    one, two = Form((3, 5), torch.float32), Form((4097,), torch.uint8)
    a, b = endpoints([one, two], [two], capacity=2)
    (forward, backward), (also_backward, also_forward) = pools(a), pools(b)
    assert (forward, backward) == (also_forward, also_backward)
    assert forward.start == HEAD_BYTES
    assert backward.start == forward.end
    assert (forward.size, forward.blocks) == (8192, 7)  # 64 + 4160 bytes, in pages
    assert forward.fit([60, 4097]) == [0, 64]
    assert forward.fit([4097, 4096]) is None
    assert backward.end - backward.start == 7 * 8192


def test_a_block_is_taken_again_once_its_message_and_the_next_were_taken() -> None:
    reserved: list[int] = []
    blocks = Blocks(3, lambda block: not reserved.append(block))
    for number in range(2):
        blocks.sent(blocks.find(0))
        assert reserved == list(range(number + 1))
    assert blocks.find(1) == 2  # the first may still be copied
    assert blocks.find(2) == 0  # used last, and so taken first
    blocks.sent(None)
    blocks.sent(blocks.find(3))
    assert blocks.find(3) == 0
    assert blocks.find(5) == 1
    assert reserved == [0, 1, 2]


def test_a_block_that_cannot_be_reserved_is_asked_for_once() -> None:
    asked: list[int] = []
    blocks = Blocks(3, lambda block: asked.append(block) or block == 0)
    blocks.sent(blocks.find(0))
    assert blocks.find(0) is blocks.find(0) is None
    assert asked == [0, 1]
    blocks.sent(None)
    assert blocks.find(2) == 0
