"""Every kind of link, for one suite of tests: an actor "a" and an actor "b", joined by the edge a->b."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from support.patience import patient
from torch import Tensor

from hamdist.engine.message import Form, Message, Token
from hamdist.network.tick_order import Crossing
from hamdist.transport.base import Endpoint, Link, Patience, Wiring
from hamdist.transport.local import Exchange, InProcessWiring
from hamdist.transport.security import KeyPair, Station, fresh_keys
from hamdist.transport.torch_distributed import TorchWiring
from hamdist.transport.zeromq import ZeroMQWiring

EDGE = 0
PATIENCE = Patience(heartbeat_seconds=patient(20), progress_seconds=patient(60))
LIMIT_SECONDS = patient(120)  # for whatever must end: more than any patience


@dataclass(frozen=True)
class Kind:
    """prepare: what both actors must know beforehand, of plain numbers and strings where `processes`.

    make: the wiring of actor 0 (a) or 1 (b) for the edge's end, from that, with a generation and a patience.
    processes: whether the actors may be two processes.  copies: whether a received tensor shares nothing with the sent
    one.
    """

    name: str
    prepare: Callable[[], Any]
    make: Callable[[int, Any, int, Patience], Wiring]
    processes: bool = True
    copies: bool = True


def _zeromq(hosts: Sequence[str], shared: Sequence[int] = ()) -> Kind:
    def prepare() -> list[list[str]]:
        return [[host, keys.public, keys.secret] for host in hosts for keys in [fresh_keys()]]

    def make(actor: int, note: list[list[str]], generation: int, patience: Patience) -> Wiring:
        stations = [Station(number, host, public) for number, (host, public, _) in enumerate(note)]
        keys = KeyPair(note[actor][1], note[actor][2])
        peers = {1 - actor: stations[1 - actor]}
        return ZeroMQWiring(stations[actor], peers, keys, generation, patience, shared=shared)

    way = "shared" if shared else "ipc" if len(set(hosts)) == 1 else "tcp"
    return Kind(f"zeromq-{way}", prepare, make)


def _gloo(hosts: Sequence[str]) -> Kind:
    heads = _zeromq(hosts)
    crossings = (Crossing(EDGE, True), Crossing(EDGE, False))

    def make(actor: int, note: list[list[str]], generation: int, patience: Patience) -> Wiring:
        me, peer = (Station(number, note[number][0]) for number in (actor, 1 - actor))
        connections = heads.make(actor, note, generation, patience)
        return TorchWiring(connections, me, {1 - actor: peer}, crossings, generation, patience)

    return Kind(heads.name.replace("zeromq", "gloo"), heads.prepare, make)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "in-process",
            Exchange,
            lambda actor, exchange, generation, patience: InProcessWiring(exchange, patience),
            processes=False,
            copies=False,
        ),
        _zeromq(["127.0.0.1", "127.0.0.1"]),
        _zeromq(["127.0.0.1", "127.0.0.1"], shared=[EDGE]),
        _zeromq(["127.0.0.1", "127.0.0.2"]),
        _gloo(["127.0.0.1", "127.0.0.1"]),
    )
}


ROWS = 4  # of a batch


def endpoints(
    forward: Sequence[Form] = (), backward: Sequence[Form] = (), capacity: int = 3, **more: Any
) -> tuple[Endpoint, Endpoint]:
    """Those at a and at b; forward, backward: the forms of a tick's tensors each way."""
    rows = more.pop("rows", ROWS)
    at_a = Endpoint(EDGE, "a->b", True, 1, "actor b", capacity, rows, tuple(forward), tuple(backward), **more)
    at_b = replace(at_a, forward=False, peer=0, peer_name="actor a", sends=at_a.receives, receives=at_a.sends)
    return at_a, at_b


@dataclass(frozen=True)
class Pair:
    """Both ends at work in this process."""

    a: Link
    b: Link
    wirings: tuple[Wiring, Wiring]


@contextmanager
def joined(
    kind: Kind,
    at: tuple[Endpoint, Endpoint],
    patience: Patience = PATIENCE,
    generations: tuple[int, int] = (1, 1),
) -> Iterator[Pair]:
    note = kind.prepare()
    wirings = [kind.make(actor, note, generations[actor], patience) for actor in (0, 1)]
    try:
        addresses = [wiring.listen([end]) for wiring, end in zip(wirings, at, strict=True)]
        a, b = together(lambda: wirings[0].connect(addresses[1]), lambda: wirings[1].connect(addresses[0]))
        yield Pair(a[EDGE], b[EDGE], (wirings[0], wirings[1]))
    finally:
        together(*(wiring.close for wiring in wirings))


def together(*calls: Callable[[], Any]) -> list[Any]:
    """The results of calls made at the same time, each in a thread; raises the first error."""
    workers = [Background(call) for call in calls]
    return [worker.result() for worker in workers]


class Background:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call, self._result, self._error = call, None, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> Any:
        """What the call returned, or its error, raised here."""
        self._thread.join(LIMIT_SECONDS)
        assert not self._thread.is_alive(), "a wait without an end"
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._call()
        except Exception as error:
            self._error = error


def message(tick: int, *tensors: Tensor | None) -> Message:
    """Of one tick."""
    return Message((Token(tick, 10 * tick, ROWS, 0, True, tick % 2 == 0),), tensors, tick)


def forms(*tensors: Tensor) -> tuple[Form, ...]:
    return tuple(Form(tuple(tensor.shape), tensor.dtype) for tensor in tensors)


def same(one: Tensor | None, other: Tensor | None) -> bool:
    """Equal shape, dtype and bits."""
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.resolve_conj().contiguous().view(-1).view(torch.uint8)
