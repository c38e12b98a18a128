"""Faults on order: at a named node and tick something happens to the process that hosts it, once in a run.

A config orders one by a layer, `type: "faults:Faulty"`, or by a stream, `factory: "faults:digits"`, both of which are
what they are without it. The fault strikes before the first tick at or after the one that is named:

kill, freeze     the process ends, or stands still, like one whose machine died, or hangs
cut              its links are shut, as by a network that fails
corrupt, drop    of the next message that it sends one bit is changed, or it is lost
delay            it does nothing for a second
disk             there is no room for the next two files that it writes
kill_writing     it ends in the midst of writing its next file of a checkpoint
"""

import errno
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hamdist.cluster.source_worker import SourceWorker
from hamdist.engine.partition import Partition
from hamdist.runs import whole_file
from hamdist.streams.digits import Digits
from hamdist.transport.codec import Codec
from hamdist.transport.connection import Connection
from hamdist.transport.zeromq import ZeroMQWiring

SOURCE = "source"
DELAY_SECONDS = 1.0


class Order:
    """kind: of fault.  node: at which it strikes, or SOURCE.  tick: from which on.  marker: a file that is there once
    it has struck.  driver: the process in which it never strikes.
    """

    def __init__(self, kind: str, node: str, tick: int, marker: str, driver: int) -> None:
        self.kind, self.node, self.tick, self.marker, self.driver = kind, node, tick, Path(marker), driver

    def strikes(self) -> bool:
        """Whether it is to strike here and now; it does then."""
        if os.getpid() == self.driver:
            return False
        with suppress(FileExistsError):
            self.marker.touch(exist_ok=False)
            return True
        return False


class Faulty(nn.Linear):
    """A linear layer of a process to which something will happen."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kind: str,
        node: str,
        tick: int,
        marker: str,
        driver: int,
    ) -> None:
        super().__init__(in_features, out_features)
        order(Order(kind, node, tick, marker, driver))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def digits(**fault: Any) -> list[tuple[Tensor, int]]:
    """The digits as a dataset, from a process to which something will happen, if anything.  fault: as of a layer."""
    if fault:
        order(Order(**fault, node=SOURCE))
    batches = list(Digits(batch_size=1, samples=1500, shuffle=False))
    return [(batch.inputs[0], int(batch.targets[0])) for batch in batches if batch.targets is not None]


_orders: list[Order] = []
_links: list[ZeroMQWiring] = []


def order(fault: Order) -> None:
    """It strikes in this process when it is due."""
    if not _orders:
        _watch(Partition, "go", lambda self: (self.tick, self._nodes))
        _watch(SourceWorker, "_give", lambda self: (self._ticks, (SOURCE,)))
        _note_links()
    _orders.append(fault)


def _watch(kind: type, method: str, where: Callable[[Any], tuple[int, Any]]) -> None:
    """Looks for a due fault before each call of a method."""
    original = getattr(kind, method)

    def watched(self: Any, *arguments: Any, **named: Any) -> Any:
        tick, nodes = where(self)
        for fault in _orders:
            if fault.node in nodes and tick >= fault.tick and fault.strikes():
                FAULTS[fault.kind]()
        return original(self, *arguments, **named)

    setattr(kind, method, watched)


def _note_links() -> None:
    original = ZeroMQWiring.listen

    def listen(self: ZeroMQWiring, *arguments: Any) -> Any:
        _links.append(self)
        return original(self, *arguments)

    ZeroMQWiring.listen = listen  # type: ignore[method-assign]


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _delay() -> None:
    time.sleep(DELAY_SECONDS)


def _cut() -> None:
    for connection in _links[-1]._connections.values():
        connection._liveness.gone()  # which hears of new ones
        for descriptor in connection._liveness.connections():
            with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
                line.shutdown(socket.SHUT_RDWR)


def _corrupt() -> None:
    def spoilt(original: Callable[..., Any], *arguments: Any) -> Any:
        first, *rest = original(*arguments)
        changed = bytearray(first)
        changed[len(changed) // 2] ^= 1
        return [bytes(changed), *rest]

    _once(Codec, "encode", spoilt)


def _drop() -> None:
    _once(Connection, "send", lambda original, *arguments: None)


def _disk() -> None:
    def full(original: Callable[..., Any], *arguments: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(2):
        _once(whole_file, "_on_disk", full)


def _kill_writing() -> None:
    _once(whole_file, "_on_disk", lambda original, *arguments: _kill())


def _once(owner: Any, name: str, instead: Callable[..., Any]) -> None:
    """The next call of a function does something else."""
    original = getattr(owner, name)

    def replaced(*arguments: Any) -> Any:
        setattr(owner, name, original)
        return instead(original, *arguments)

    setattr(owner, name, replaced)


FAULTS: dict[str, Callable[[], None]] = {
    "kill": _kill,
    "freeze": _freeze,
    "cut": _cut,
    "corrupt": _corrupt,
    "drop": _drop,
    "delay": _delay,
    "disk": _disk,
    "kill_writing": _kill_writing,
}
