"""Who may speak over a ZeroMQ link: between hosts, whoever holds the neighbour's key; on one host, the same user."""

import contextlib
import gc
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import zmq
from support.link_kinds import EDGE, KINDS, endpoints, forms, joined, message
from support.patience import patient
from zmq.utils.monitor import recv_monitor_message

from hamdist.transport.base import (
    ClosedError,
    Form,
    Link,
    LinkError,
    Patience,
    PeerLostError,
    RefusedError,
    StalledError,
)
from hamdist.transport.codec import Codec
from hamdist.transport.security import KeyPair, Station, fresh_keys
from hamdist.transport.socket_folder import PREFIX, SocketFolder, remove_abandoned
from hamdist.transport.zeromq import ZeroMQLink, ZeroMQWiring

IPC, TCP, SHARED = KINDS["zeromq-ipc"], KINDS["zeromq-tcp"], KINDS["zeromq-shared"]
PATIENCE = Patience(heartbeat_seconds=patient(20), progress_seconds=patient(60))
BRIEF = Patience(heartbeat_seconds=patient(20), progress_seconds=patient(0.3))
TOO_LATE = f"actor a did not connect within {BRIEF.progress_seconds:g} s"
HOST_A, HOST_B = "127.0.0.1", "127.0.0.2"
A, B = endpoints()
B_FOR_C = replace(B, edge=EDGE + 1, name="c->b", peer=2, peer_name="actor c")
FAILED = (
    zmq.Event.HANDSHAKE_FAILED_AUTH,
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL,
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL,
    zmq.Event.DISCONNECTED,
)


class Neighbours:
    """Actor 0 (a) on one host and actor 1 (b), which listens, on another; b listens for an actor 2 (c) too."""

    def __init__(self, patience: Patience = PATIENCE, ports: tuple[int, int] | None = None) -> None:
        self.keys = [fresh_keys() for _ in range(3)]
        hosts = (HOST_A, HOST_B, HOST_A)
        self.stations = [Station(n, hosts[n], keys.public) for n, keys in enumerate(self.keys)]
        self.a = ZeroMQWiring(self.stations[0], {1: self.stations[1]}, self.keys[0], 1, patience)
        self.b = ZeroMQWiring(
            self.stations[1], {n: self.stations[n] for n in (0, 2)}, self.keys[1], 1, patience, ports
        )

    def listen(self) -> str:
        return self.b.listen([B, B_FOR_C])[EDGE]

    def link_b(self) -> Link:
        return self.b.connect({})[EDGE]

    def link_a(self, address: str) -> Link:
        self.a.listen([A])
        return self.a.connect({EDGE: address})[EDGE]


@contextmanager
def neighbours(patience: Patience = PATIENCE, ports: tuple[int, int] | None = None) -> Iterator[Neighbours]:
    both = Neighbours(patience, ports)
    try:
        yield both
    finally:
        both.a.close()
        both.b.close()


@pytest.fixture
def stranger() -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    pair = context.socket(zmq.PAIR)
    yield pair
    context.destroy(linger=0)


def show(stranger: zmq.Socket[bytes], server: str, keys: KeyPair) -> None:
    stranger.curve_serverkey = server.encode()
    stranger.curve_publickey, stranger.curve_secretkey = keys.public.encode(), keys.secret.encode()


def no_key(stranger: zmq.Socket[bytes], both: Neighbours) -> None:
    """Speaks plain ZeroMQ."""


def keys_of_its_own(stranger: zmq.Socket[bytes], both: Neighbours) -> None:
    show(stranger, fresh_keys().public, fresh_keys())


def the_right_server_key(stranger: zmq.Socket[bytes], both: Neighbours) -> None:
    show(stranger, both.keys[1].public, fresh_keys())


def another_actors_keys(stranger: zmq.Socket[bytes], both: Neighbours) -> None:
    show(stranger, both.keys[1].public, both.keys[2])


def the_neighbours_public_key(stranger: zmq.Socket[bytes], both: Neighbours) -> None:
    show(stranger, both.keys[1].public, KeyPair(both.keys[0].public, fresh_keys().secret))


def turned_away(events: zmq.Socket[bytes]) -> bool:
    while events.poll(10_000):
        if recv_monitor_message(events)["event"] in FAILED:
            return True
    return False


@pytest.mark.parametrize(
    "disguise",
    [no_key, keys_of_its_own, the_right_server_key, another_actors_keys, the_neighbours_public_key],
    ids=lambda disguise: disguise.__name__,
)
def test_a_stranger_neither_reads_nor_writes_nor_takes_the_neighbours_place(
    stranger: zmq.Socket[bytes], disguise: Callable[[zmq.Socket[bytes], Neighbours], None]
) -> None:
    with neighbours() as both:
        address = both.listen()
        disguise(stranger, both)
        events = stranger.get_monitor_socket()
        stranger.connect(address)
        with contextlib.suppress(zmq.Again):  # where it was turned away already
            stranger.send(Codec(A, 1).encode(message(0))[0], zmq.NOBLOCK)
        assert turned_away(events)
        link_b, link_a = both.link_b(), both.link_a(address)
        link_a.send(message(0))
        assert link_b.receive().tick == 0
        link_b.send(message(0))
        assert link_a.receive().tick == 0
        assert not stranger.poll(100)


def test_a_stranger_that_says_nothing_does_not_take_the_neighbours_place() -> None:
    with neighbours() as both:
        address = both.listen()
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        with socket.create_connection((host, int(port))):
            link_b, link_a = both.link_b(), both.link_a(address)
            link_a.send(message(0))
            assert link_b.receive().tick == 0


def test_strangers_that_come_and_go_are_not_taken_for_the_neighbour(stranger: zmq.Socket[bytes]) -> None:
    with neighbours(Patience(heartbeat_seconds=patient(20), progress_seconds=patient(1.0))) as both:
        address = both.listen()
        link_b, link_a = both.link_b(), both.link_a(address)
        link_a.send(message(0))
        assert link_b.receive().tick == 0
        events = stranger.get_monitor_socket()
        stranger.connect(address)
        assert turned_away(events)
        stranger.close(linger=0)
        with pytest.raises(StalledError, match="lives"):
            link_b.receive()
        link_a.send(message(1))
        assert link_b.receive().tick == 1
        both.a.close()
        with pytest.raises(PeerLostError, match=r"a->b.*actor a"):
            link_b.receive()


def test_an_actor_does_not_talk_to_an_impostor(stranger: zmq.Socket[bytes]) -> None:
    own = fresh_keys()
    stranger.curve_server, stranger.curve_secretkey = True, own.secret.encode()
    port = stranger.bind_to_random_port(f"tcp://{HOST_B}")
    with neighbours() as both:
        link = both.link_a(f"tcp://{HOST_B}:{port}")
        link.send(message(0))
        with pytest.raises(PeerLostError, match=r"a->b.*actor b"):
            link.receive()
        assert not stranger.poll(100)


def test_a_neighbour_that_does_not_know_this_key_is_named() -> None:
    with neighbours() as both:
        both.stations[0] = Station(0, HOST_A, fresh_keys().public)
        misled = ZeroMQWiring(both.stations[1], {0: both.stations[0]}, both.keys[1], 1, BRIEF)
        link = both.link_a(misled.listen([B])[EDGE])
        with pytest.raises(PeerLostError, match=r"a->b.*actor b.*does not accept this end's key"):
            link.receive()
        with pytest.raises(
            PeerLostError,
            match=rf"{TOO_LATE} \(somebody tried",
        ):
            misled.connect({})[EDGE].receive()
        misled.close()


def test_a_neighbour_that_never_comes_is_named() -> None:
    with neighbours(BRIEF) as both:
        both.listen()
        with pytest.raises(PeerLostError, match=f"edge a->b: {TOO_LATE}"):
            both.link_b().receive()
        with pytest.raises(PeerLostError, match=f"edge a->b: {TOO_LATE}"):
            both.link_b().send(message(0))


def test_an_address_where_nobody_listens_is_named() -> None:
    with neighbours() as both, pytest.raises(PeerLostError, match=r"a->b: actor b does not listen"):
        both.link_a(f"tcp://{HOST_B}:{free_ports(1)}").receive()


# Messages of the right neighbour that do not belong


THREE = torch.zeros(3)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([b"nonsense"], "cut off"),
        ([os.urandom(500)], "no message at all"),
        (Codec(A, 2).encode(message(0)), "of generation 2"),
        (Codec(B, 1).encode(message(0)), "backward"),
        (
            Codec(endpoints(forms(THREE))[0], 1).encode(message(0, THREE)),
            r"float32 \[3\], and float32 \[4\] is expected",
        ),
    ],
)
@pytest.mark.parametrize("kind", [IPC, TCP], ids=lambda kind: kind.name)
def test_what_does_not_belong_is_refused(kind: object, parts: list[bytes], what: str) -> None:
    with joined(kind, endpoints([Form((4,), torch.float32)])) as pair:
        assert isinstance(pair.a, ZeroMQLink)
        pair.wirings[0].connections({})[EDGE].send(parts)
        with pytest.raises(RefusedError, match=f"edge a->b: a message from actor a is refused: .*{what}"):
            pair.b.receive()


def stamp(taken: int, parts: int) -> bytes:
    """As a connection puts it before a message."""
    counts = struct.pack("<QH", taken, parts)
    return counts + struct.pack("<I", zlib.crc32(counts))


def test_bytes_that_no_connection_wrote_are_refused() -> None:
    """Over ipc, where the same user could connect."""
    for data, what in (
        (b"short", "cut off"),
        (os.urandom(40), "the checksum is another"),
        (stamp(7, 0), "7 of 0 messages were taken"),
        (stamp(0, 3) + b"one of three", "parts of it are missing"),
    ):
        note = IPC.prepare()
        wiring = IPC.make(1, note, 1, PATIENCE)
        with zmq.Context() as context, context.socket(zmq.PAIR) as pair:
            pair.linger = 0
            pair.connect(wiring.listen([B])[EDGE])
            pair.send(data)
            with pytest.raises(
                RefusedError, match=f"edge a->b: actor a sent a message that is refused: .*{what}"
            ):
                wiring.connect({})[EDGE].receive()
        wiring.close()


# Where sockets are


def test_an_actor_listens_on_its_own_address_alone() -> None:
    with neighbours() as both:
        host, _, port = both.listen().removeprefix("tcp://").rpartition(":")
        assert host == HOST_B
        for other in (HOST_A, "127.0.0.3"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((other, int(port)))


def test_an_address_that_is_not_this_hosts_is_named() -> None:
    me, peer = Station(1, "192.0.2.1", fresh_keys().public), Station(0, HOST_A, fresh_keys().public)
    wiring = ZeroMQWiring(me, {0: peer}, fresh_keys(), 1)
    with pytest.raises(LinkError, match=r"edge a->b: cannot listen on tcp://192.0.2.1:0"):
        wiring.listen([B])
    wiring.close()


def free_ports(number: int) -> int:
    """The first of so many ports in a row that are free on HOST_B."""
    for first in range(20000, 30000, 7):
        try:
            for port in range(first, first + number):
                with socket.socket() as probe:
                    probe.bind((HOST_B, port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def test_of_a_range_the_next_free_port_is_taken_and_its_end_is_an_error() -> None:
    first = free_ports(3)
    with socket.socket() as other, neighbours(ports=(first, first + 2)) as both:
        other.bind((HOST_B, first))
        other.listen()
        addresses = both.b.listen([B, B_FOR_C])
        assert list(addresses.values()) == [f"tcp://{HOST_B}:{first + 1}", f"tcp://{HOST_B}:{first + 2}"]
        with (
            neighbours(ports=(first, first + 2)) as more,
            pytest.raises(LinkError, match=rf"a->b: no port of {first}-{first + 2} is free on {HOST_B}"),
        ):
            more.listen()


@pytest.mark.parametrize("temporary", ["usual", "long"])
def test_sockets_of_one_host_lie_in_a_private_folder(
    temporary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if temporary == "long":
        (tmp_path / ("x" * 90)).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 90)))
    wiring = IPC.make(1, IPC.prepare(), 1, PATIENCE)
    path = Path(wiring.listen([B])[EDGE].removeprefix("ipc://"))
    assert path.is_socket()
    assert len(str(path)) < 100
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.parent.stat().st_uid == os.getuid()
    wiring.close()
    assert not path.parent.exists()


LEFT = """
import sys
from hamdist.transport.socket_folder import SocketFolder
print(SocketFolder().path, flush=True)
sys.stdin.read()
"""


def test_folders_of_processes_that_were_killed_go_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="hd-", dir="/tmp") as name:  # a short path
        folder = Path(name)
        monkeypatch.setattr(tempfile, "tempdir", name)
        own, others, link = SocketFolder(), folder / "hamdist-run-1", folder / f"{PREFIX}link"
        others.mkdir()
        link.symlink_to(others)
        with subprocess.Popen(
            [sys.executable, "-c", LEFT],
            env={**os.environ, "TMPDIR": name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            left = Path(process.stdout.readline().strip())
            assert left.parent == folder
            remove_abandoned(folder)
            assert left.is_dir()
            process.kill()
        remove_abandoned(folder)
        assert sorted(folder.iterdir()) == sorted([own.path, others, link])
        own.remove()
        assert not own.path.exists()


@pytest.mark.parametrize("missing", ["own keys", "the peer's key"])
def test_between_hosts_keys_are_needed(missing: str) -> None:
    keys = None if missing == "own keys" else fresh_keys()
    peer = Station(0, HOST_A, "" if missing == "the peer's key" else fresh_keys().public)
    listening = ZeroMQWiring(Station(1, HOST_B), {0: peer}, keys, 1)
    with pytest.raises(LinkError, match=r"a->b: actor a is on another host, and .* key"):
        listening.listen([B])
    connecting = ZeroMQWiring(Station(1, HOST_B), {1: peer}, keys, 1)
    connecting.listen([A])
    with pytest.raises(LinkError, match=r"a->b: actor b is on another host, and .* key"):
        connecting.connect({EDGE: f"tcp://{HOST_A}:1"})
    listening.close()
    connecting.close()


def test_a_secret_key_does_not_show() -> None:
    keys = fresh_keys()
    assert keys.public in repr(keys)
    assert keys.secret not in repr(keys)
    assert fresh_keys() != keys


# What is left


@pytest.mark.slow
@pytest.mark.parametrize("kind", [IPC, SHARED, TCP], ids=lambda kind: kind.name)
def test_nothing_is_left_after_closing(kind: object) -> None:
    def counts() -> tuple[int, int]:
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    def use() -> None:
        with joined(kind, endpoints()) as pair:
            pair.a.send(message(0))
            pair.b.receive()

    use()
    before = counts()
    use()
    assert counts() == before


def test_a_closed_wiring_says_so() -> None:
    wiring = IPC.make(1, IPC.prepare(), 1, PATIENCE)
    wiring.close()
    with pytest.raises(ClosedError):
        wiring.listen([B])
    with pytest.raises(ClosedError):
        wiring.connect({})
