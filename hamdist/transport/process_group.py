"""Two processes, or two threads of one, that exchange tensors: by gloo from host memory, by NCCL between two GPUs.

Each pair is a group of its own, made directly and never the process's default group, so that every start of a run has
fresh ones. Tensors travel unencrypted, and to whoever answers at the address that the store has: there two actors meet
before they exchange tensors, to compare their turns first.
"""

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import ProcessGroupGloo, Store, TCPStore, Work

from hamdist.transport.base import LinkError, Patience, RefusedError
from hamdist.transport.p2p_order import PeerGroup, Slot, Transfer


def listening_store(host: str, patience: Patience) -> tuple[Store, str]:
    """A store on a free port of this address alone, and where others find it: "host:port"."""
    try:
        listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise LinkError(f"cannot listen on {host}: {error}") from error
    port = listener.getsockname()[1]
    store = TCPStore(
        host,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=patience.progress_seconds),
        master_listen_fd=listener.detach(),
    )
    return store, f"{host}:{port}"


def store_at(address: str, patience: Patience) -> Store:
    """The store that another actor opened. Raises RuntimeError where it does not answer in time."""
    host, _, port = address.rpartition(":")
    limit = timedelta(seconds=patience.progress_seconds)
    return TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=limit)


def agree(store: Store, rank: int, generation: int, slots: Sequence[Slot]) -> None:
    """Both ends must expect the same transfers in the same order, or they would mistake one for another.

    Raises RefusedError with the first difference.
    """
    mine = [f"generation {generation}", *map(_words, slots)]
    store.set(str(rank), "\n".join(mine))
    theirs = store.get(str(1 - rank)).decode().split("\n")
    for ours, other in itertools.zip_longest(mine, theirs, fillvalue="nothing"):
        if ours != other:
            first = slots[0].endpoint
            raise RefusedError(
                f"edge {first.name}: {first.peer_name} expects {other} where this end has {ours}; "
                "every actor must run the same hamdist, of the same start of the run"
            )


def _words(slot: Slot) -> str:
    """The same at both ends."""
    end = slot.endpoint
    kind = "signal" if slot.sends == end.forward else "costate"
    found = (end.sends_in if slot.sends else end.receives_in)(end.ticks)
    forms = ", ".join(f"{dtype} {list(shape)}" for shape, dtype in found)
    return f"the {kind} of edge {end.edge} {end.name} on {end.device.type}: {forms}"


_TENSORS, _LAST = 0, 1  # gloo's tags
_LAST_SECONDS = 1.0
_POLL_SECONDS = 0.0005
_NCCL_ON_ERROR = "TORCH_NCCL_ASYNC_ERROR_HANDLING"
_NCCL_LAST_RESORT = 10  # times a link's own limit: what is posted early waits for more than one message


class GlooGroup:
    """rank: 0 or 1.  host: this end's own address.  seconds: to find the other end. Raises RuntimeError."""

    posts_ahead = True

    def __init__(self, store: Store, rank: int, host: str, seconds: float) -> None:
        options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._devices = [ProcessGroupGloo.create_device(hostname=host)]
        options._timeout = timedelta(seconds=seconds)
        self._other = 1 - rank
        group: Any = ProcessGroupGloo(store, rank, 2, options)
        self._group = group
        self._last: Work = group.recv([torch.empty(1)], self._other, _LAST)

    def send(self, tensors: tuple[Tensor, ...]) -> Transfer:
        group = self._open()
        return _GlooTransfer([group.send([tensor], self._other, _TENSORS) for tensor in tensors])

    def receive(self, tensors: tuple[Tensor, ...]) -> Transfer:
        try:
            group = self._open()
            return _GlooTransfer([group.recv([tensor], self._other, _TENSORS) for tensor in tensors])
        except RuntimeError as error:
            return _Failed(error)

    def close(self, seconds: float) -> None:
        """A connection that is closed while something comes is reset, and with it goes what this end sent last.

        So both ends send a last tensor, and wait for the other's. One that goes on working does not, but meanwhile
        everything has arrived there.
        """
        group, self._group = self._group, None
        if group is not None and seconds > 0:
            with contextlib.suppress(RuntimeError):  # the other end is gone, or goes on
                sent = group.send([torch.zeros(1)], self._other, _LAST)
                self._last.wait(timedelta(seconds=min(seconds, _LAST_SECONDS)))
                sent.wait(timedelta(seconds=_LAST_SECONDS))

    def _open(self) -> Any:
        if (group := self._group) is None:
            raise RuntimeError("the group is closed")
        return group


class NcclGroup:
    """rank: 0 or 1.  device: this end's GPU, another one than the other end's.  seconds: of a link's own patience.

    The transfers of a pair share one stream and one communicator, which is why all are batches, even those of one.
    """

    posts_ahead = False

    def __init__(self, store: Store, rank: int, device: torch.device, seconds: float) -> None:
        # Losing the other end must raise in this one, which NCCL's watchdog would by default end.
        os.environ.setdefault(_NCCL_ON_ERROR, "2")
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = timedelta(seconds=_NCCL_LAST_RESORT * seconds)
        self._other, self._device = 1 - rank, device
        self._group: Any = dist.ProcessGroupNCCL(store, rank, 2, options)

    def send(self, tensors: tuple[Tensor, ...]) -> Transfer:
        return self._batch(tensors, sends=True)

    def receive(self, tensors: tuple[Tensor, ...]) -> Transfer:
        try:
            return self._batch(tensors, sends=False)
        except RuntimeError as error:
            return _Failed(error)

    def close(self, seconds: float) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.abort()  # receives that were posted early may never end otherwise

    def _batch(self, tensors: tuple[Tensor, ...], sends: bool) -> Transfer:
        if (group := self._group) is None:
            raise RuntimeError("the group is closed")
        post = group.send if sends else group.recv
        with torch.cuda.device(self._device):
            group._start_coalescing()
            for tensor in tensors:
                post([_as_bytes(tensor)], self._other, 0)
            return _NcclTransfer(group._end_coalescing(), tensors)


class _GlooTransfer:
    """A work of gloo's keeps its tensor, and has ended once it was waited for."""

    def __init__(self, works: list[Work]) -> None:
        self._works = works

    def wait(self, seconds: float) -> None:
        limit = timedelta(seconds=max(seconds, 0.001))  # 0 would mean for ever
        for work in self._works:
            work.wait(limit)

    finish = wait


class _NcclTransfer:
    """Waiting holds up the current stream, and not the thread."""

    def __init__(self, work: Work, tensors: tuple[Tensor, ...]) -> None:
        self._work, self._tensors = work, tensors

    def wait(self, seconds: float) -> None:
        self._work.wait()

    def finish(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._work.is_completed():
            if time.monotonic() > deadline:
                raise TimeoutError(f"a transfer has not ended within {seconds:g} s")
            time.sleep(_POLL_SECONDS)
        self._work.wait()


class _Failed:
    """A transfer that could not even be posted."""

    def __init__(self, error: RuntimeError) -> None:
        self._error = error

    def wait(self, seconds: float) -> None:
        raise self._error

    finish = wait


def greet(group: PeerGroup, rank: int, device: torch.device, seconds: float) -> None:
    """A number each way. NCCL connects two ends at their first transfer, and holds up both threads meanwhile.

    Raises RuntimeError, TimeoutError.
    """
    sent, received = torch.zeros(1, device=device), torch.empty(1, device=device)
    if rank == 0:
        transfers = [group.send((sent,)), group.receive((received,))]
    else:
        transfers = [group.receive((received,)), group.send((sent,))]
    for transfer in transfers:
        transfer.finish(seconds)


@dataclass(frozen=True)
class NcclSupport:
    """What decides whether an actor can use NCCL; found in its own process.

    gpu: the unique name of its GPU, "" where it computes on the CPU.  nccl: whether its torch has NCCL.
    """

    gpu: str
    nccl: bool


def nccl_support(device: torch.device) -> NcclSupport:
    """That of an actor of this process that computes on this device."""
    on_gpu = device.type == "cuda"
    return NcclSupport(
        str(torch.cuda.get_device_properties(device).uuid) if on_gpu else "", dist.is_nccl_available()
    )


def nccl_obstacle(one: NcclSupport, other: NcclSupport) -> str:
    """Why NCCL cannot carry tensors between two actors; "" where it can."""
    if not (one.gpu and other.gpu):
        return "one of them computes on the CPU"
    if one.gpu == other.gpu:
        return "both share one GPU, and NCCL needs two"
    if not (one.nccl and other.nccl):
        return "a torch without NCCL is installed"
    return ""


def _as_bytes(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)
