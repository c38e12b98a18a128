"""The workers of one run: those that host layers, and the one that says what enters; as threads of this process."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from hamdist.cluster.handle import Handle, ThreadHandle
from hamdist.cluster.layout import Layout
from hamdist.cluster.outcome import Progress
from hamdist.cluster.worker import Worker
from hamdist.transport.base import Wiring

STREAM = "the stream"


class Peer(Protocol):
    """What every worker of a run does, that of the stream included. `alive`, `progress` and `stop` may be asked at any
    time.
    """

    def listen(self, layout: Layout, make_wiring: Callable[[], Wiring]) -> dict[int, str]:
        """The addresses at which neighbours find it, by edge."""

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Joins the neighbours at their addresses."""

    def alive(self) -> bool:
        """It is, if it answers."""

    def progress(self) -> Progress:
        """How far it is; news come once."""

    def stop(self) -> None:
        """Ends what it does at once."""


class StreamPeer(Peer, Protocol):
    """What the stream's worker does besides."""

    def first_batch(self) -> tuple[Tensor, Tensor | None]:
        """The first batch, inputs and targets, from which shapes are learnt."""


AnyStream = TypeVar("AnyStream", bound=StreamPeer)


class WorkerGroup(ABC, Generic[AnyStream]):
    """workers: those that host layers, by number.  stream: the one that says what enters."""

    workers: Sequence[Handle[Worker]]
    stream: Handle[AnyStream]

    @property
    def everyone(self) -> tuple[Handle[Peer], ...]:
        """The stream's worker is the last one."""
        return (*self.workers, self.stream)

    @property
    def names(self) -> tuple[str, ...]:
        """What errors call everyone."""
        return tuple(handle.name for handle in self.everyone)

    @abstractmethod
    def close(self) -> None:
        """Stops every worker; nothing of the group is left."""


class ThreadWorkers(WorkerGroup[AnyStream]):
    """Workers that are threads of this process, one each."""

    def __init__(self, workers: Sequence[Worker], stream: AnyStream) -> None:
        self.workers = [ThreadHandle(worker.spec.name, worker) for worker in workers]
        self.stream = ThreadHandle(STREAM, stream)

    def close(self) -> None:
        for handle in self.everyone:
            handle.ask(Peer.stop)
        for each in (*self.workers, self.stream):
            if isinstance(each, ThreadHandle):
                each.close()
