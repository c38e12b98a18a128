"""Faults on order: at a named node and tick something happens to the process that hosts it, once in a run.

A config orders one by a layer, `type: "faults:Faulty"`, or by a stream, `factory: "faults:digits"`, both of which are
what they are without it. The fault is due before the first tick at or after the one that is named:

kill, freeze     the process ends, or stands still, like one whose machine died, or hangs
raylet           Ray's daemon of its node ends, and all processes under it, like a machine that died
cut              its links are shut, as by a network that fails
corrupt, drop    of the next message that it sends one bit is changed, or it is lost
delay            it does nothing for a second
disk             there is no room for the next two files that it writes
kill_writing     it ends in the midst of writing its next file of a checkpoint

The last two need a cut that follows, and a node that writes a file of it: not the stream, whose part the driver writes.
"""

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hamdist.cluster.ray_processes import processes
from hamdist.cluster.source_worker import SourceWorker
from hamdist.engine.partition import Partition
from hamdist.runs import whole_file
from hamdist.streams.digits import Digits
from hamdist.transport.codec import Codec
from hamdist.transport.connection import Connection
from hamdist.transport.zeromq import ZeroMQWiring

SOURCE = "source"
WRITING = ("disk", "kill_writing")
DELAY_SECONDS = 1.0
ROWS = 1600
STRUCK = "struck"


class Order:
    """kind: of fault.  node: at which it strikes, or SOURCE.  tick: from which on it is due.  marker: a file that is
    there from then on, and says so once it has struck.  driver: the process in which it never strikes.
    """

    def __init__(self, kind: str, node: str, tick: int, marker: str, driver: int) -> None:
        self.kind, self.node, self.tick, self.marker, self.driver = kind, node, tick, Path(marker), driver

    def begin(self) -> None:
        """It is due; here, unless it was so in another process."""
        if os.getpid() == self.driver:
            return
        with suppress(FileExistsError):
            self.marker.touch(exist_ok=False)
            FAULTS[self.kind](self)

    def note(self) -> None:
        """It strikes now."""
        self.marker.write_text(STRUCK)


def has_struck(marker: Path) -> bool:
    """Whether a fault has not only been due."""
    return marker.exists() and marker.read_text() == STRUCK


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


def digits(count: int = ROWS, **fault: Any) -> list[tuple[Tensor, int]]:
    """The digits as a dataset, from a process to which something will happen, if anything.  fault: as of a layer."""
    if fault:
        order(Order(**fault, node=SOURCE))
    return list(digits_once(count))


def digits_once(count: int = ROWS) -> Iterator[tuple[Tensor, int]]:
    """The same, one after another, from one who cannot go back."""
    for batch in Digits(batch_size=1, samples=count, shuffle=False):
        if batch.targets is not None:
            yield batch.inputs[0], int(batch.targets[0])


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
            if fault.node in nodes and tick >= fault.tick:
                fault.begin()
        return original(self, *arguments, **named)

    setattr(kind, method, watched)


def _note_links() -> None:
    original = ZeroMQWiring.listen

    def listen(self: ZeroMQWiring, *arguments: Any) -> Any:
        _links.append(self)
        return original(self, *arguments)

    ZeroMQWiring.listen = listen  # type: ignore[method-assign]


def _kill(fault: Order) -> None:
    fault.note()
    os.kill(os.getpid(), signal.SIGKILL)


def _raylet(fault: Order) -> None:
    fault.note()
    daemon = os.getppid()
    workers = [each.pid for each in processes() if each.parent == daemon and each.pid != os.getpid()]
    for pid in (daemon, *workers, os.getpid()):
        os.kill(pid, signal.SIGKILL)


def _freeze(fault: Order) -> None:
    fault.note()
    os.kill(os.getpid(), signal.SIGSTOP)


def _delay(fault: Order) -> None:
    fault.note()
    time.sleep(DELAY_SECONDS)


def _cut(fault: Order) -> None:
    fault.note()
    for connection in _links[-1]._connections.values():
        connection._liveness.gone()  # which hears of new ones
        for descriptor in connection._liveness.connections():
            with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
                line.shutdown(socket.SHUT_RDWR)


def _corrupt(fault: Order) -> None:
    def spoilt(original: Callable[..., Any], *arguments: Any) -> Any:
        fault.note()
        first, *rest = original(*arguments)
        changed = bytearray(first)
        changed[len(changed) // 2] ^= 1
        return [bytes(changed), *rest]

    _once(Codec, "encode", spoilt)


def _drop(fault: Order) -> None:
    _once(Connection, "send", lambda original, *arguments: fault.note())


def _disk(fault: Order) -> None:
    def full(original: Callable[..., Any], *arguments: Any) -> Any:
        fault.note()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(2):
        _once(whole_file, "_on_disk", full)


def _kill_writing(fault: Order) -> None:
    _once(whole_file, "_on_disk", lambda original, *arguments: _kill(fault))


def _once(owner: Any, name: str, instead: Callable[..., Any]) -> None:
    """The next call of a function does something else."""
    original = getattr(owner, name)

    def replaced(*arguments: Any) -> Any:
        setattr(owner, name, original)
        return instead(original, *arguments)

    setattr(owner, name, replaced)


FAULTS: dict[str, Callable[[Order], None]] = {
    "kill": _kill,
    "raylet": _raylet,
    "freeze": _freeze,
    "cut": _cut,
    "corrupt": _corrupt,
    "drop": _drop,
    "delay": _delay,
    "disk": _disk,
    "kill_writing": _kill_writing,
}
