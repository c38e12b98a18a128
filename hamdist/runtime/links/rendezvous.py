"""Where two actors meet before they exchange tensors: at a store of one of them, to compare their turns first."""

import itertools
import socket
from collections.abc import Sequence
from datetime import timedelta

from torch._C._distributed_c10d import Store, TCPStore

from hamdist.runtime.links.contract import LinkError, Patience, RefusedError
from hamdist.runtime.links.lane import Slot


def listening_store(host: str, patience: Patience) -> tuple[Store, str]:
    """A store on a free port of this address alone, and where others find it: "host:port"."""
    try:
        door = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise LinkError(f"cannot listen on {host}: {error}") from error
    port = door.getsockname()[1]
    store = TCPStore(
        host,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=patience.progress_seconds),
        master_listen_fd=door.detach(),
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
            raise RefusedError(
                f"edge {slots[0].end.name}: {slots[0].end.peer_name} expects {other} where this end has {ours}; "
                "every actor must run the same hamdist, of the same start of the run"
            )


def _words(slot: Slot) -> str:
    """The same at both ends."""
    end = slot.end
    kind = "signal" if slot.sends == end.forward else "costate"
    forms = ", ".join(
        f"{dtype} {list(shape)}" for shape, dtype in (end.sends if slot.sends else end.receives)
    )
    return f"the {kind} of edge {end.edge} {end.name} on {end.device.type}: {forms}"
