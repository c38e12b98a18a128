"""Processes that can be found again, by a mark in their environment that all that they start have, too."""

import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "HAMDIST_TEST_MARK"
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and that as an address of IPv6


@contextmanager
def marked_environment() -> Iterator[dict[str, str]]:
    """Ray finds in its folder the leftover of a driver that crashed."""
    with tempfile.TemporaryDirectory(prefix="hd-", dir="/tmp") as folder:
        leftover = Path(folder, "ray", "ray_current_cluster")
        leftover.parent.mkdir()
        leftover.write_text("127.0.0.1:1")
        yield os.environ | {MARK: uuid.uuid4().hex, "RAY_TMPDIR": folder, "TMPDIR": folder}


def marked(environment: Mapping[str, str]) -> dict[Path, str]:
    """The command lines of all living processes with the mark, by their folder in /proc."""
    wanted, found = f"{MARK}={environment[MARK]}".encode(), {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found[process] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def listening(processes: Iterable[Path]) -> set[str]:
    """The addresses at which these processes listen to TCP, as the kernel writes them."""
    sockets = set()
    for process in processes:
        with suppress(OSError):
            sockets |= {os.readlink(file) for file in (process / "fd").iterdir()}
    tables = [Path("/proc/net", table).read_text() for table in ("tcp", "tcp6")]
    lines = [line.split() for line in "".join(tables).splitlines()]
    return {
        line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets
    }
