"""The processes of a Ray that is started here: in sessions of their own, on the loopback interface, none of them left.

What a terminal or `timeout` sends goes to a whole group of processes. Ray's are not in ours, so that actors live until
their weights have been fetched.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from hamdist.signal_mask import ENDING

ENDED_SECONDS = 5.0  # for processes to end by themselves
GLANCE_SECONDS = 0.02
NEEDED = {"gcs_server": "Ray's control service", "raylet": "Ray's daemon of this node"}
_apart = False  # whether processes that are forked now are to be apart


class RayProcesses:
    """daemons: those that Ray's `init` has started in this process, each the leader of a session, with their names."""

    def __init__(self) -> None:
        self.daemons: dict[int, str] = {}

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Processes forked within it lead sessions of their own, and hear signals though their parent is deaf."""
        global _apart
        before = _leading_children().keys()
        _apart = True
        try:
            yield
        finally:
            _apart = False
            self.daemons |= {pid: name for pid, name in _leading_children().items() if pid not in before}

    def lost(self) -> str:
        """The name of one that has ended without which Ray does not go on, "" where all live."""
        needed = {pid: NEEDED[name] for pid, name in self.daemons.items() if name in NEEDED}
        return next((name for pid, name in needed.items() if _ended(pid)), "")

    def reap(self) -> None:
        """Waits until all in these sessions have ended; kills those that have not."""
        deadline = time.monotonic() + ENDED_SECONDS
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(GLANCE_SECONDS)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _left(self) -> list[int]:
        return [each.pid for each in processes() if each.session in self.daemons and each.state != "Z"]


class Process(NamedTuple):
    """What the kernel says of a process."""

    pid: int
    name: str
    state: str
    parent: int
    session: int


def processes() -> list[Process]:
    """All of this machine; none where there is no /proc."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            head, _, tail = file.read_text().rpartition(")")
            state, parent, _, session, *_ = tail.split()
            found.append(
                Process(int(file.parent.name), head.partition("(")[2], state, int(parent), int(session))
            )
    return found


def _leading_children() -> dict[int, str]:
    own = os.getpid()
    return {each.pid: each.name for each in processes() if each.parent == own and each.session == each.pid}


def _ended(pid: int) -> bool:
    """Of a child, which stays a child that Ray may wait for."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _after_fork() -> None:
    if _apart:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def on_loopback() -> Iterator[None]:
    """A Ray that is started within it listens at 127.0.0.1 only: it takes this machine's address for that one, as it
    does where it knows no clusters. An address that is given as 127.0.0.1 it replaces by one of the network's.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
