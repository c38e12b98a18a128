"""A Ray to run on: a local one, started and stopped here, or a cluster that is joined. Ray is imported here first.

To workers on other machines travels hamdist as it is here, and the Python of the current folder. It is copied first:
Ray's `excludes` cannot say "these files and no others"; it is asked of folders by their bare names, too, so that "*"
leaves out all there is.
"""

import logging
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import torch

from hamdist.cluster.ray_processes import RayProcesses, on_loopback
from hamdist.cluster.session_folders import mark_session
from hamdist.errors import ConfigError, Problem, first_line
from hamdist.signal_mask import signals_wait

LOCAL, AUTO = "local", "auto"
ADDRESS, AUTH_MODE = "RAY_ADDRESS", "RAY_AUTH_MODE"
KNOCK_SECONDS = 5.0
TOKEN = Path("~/.ray/auth_token")


@dataclass(frozen=True)
class Node:
    """A node of the cluster: its address, what it has in all, and its labels."""

    id: str
    host: str
    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)


def this_machine() -> Node:
    """What a local Ray would have."""
    has = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
    return Node("", "this machine", {name: amount for name, amount in has.items() if amount})


class Session:
    """A Ray that is connected.  processes: those that were started with it, none of a Ray that was there before."""

    def __init__(self, processes: RayProcesses | None = None) -> None:
        self._processes = processes or RayProcesses()

    def lost(self) -> str:
        """What of a Ray that was started here has ended though nobody wanted it to; "" where nothing has."""
        return self._processes.lost()

    def nodes(self) -> list[Node]:
        """The nodes alive."""
        import ray

        return [
            Node(node["NodeID"], node["NodeManagerAddress"], node["Resources"], node.get("Labels", {}))
            for node in ray.nodes()
            if node["Alive"]
        ]

    def own_node(self) -> str:
        """The id of the node that this process is on."""
        import ray

        return ray.get_runtime_context().get_node_id()


def own_host() -> str:
    """The address of this machine, as Ray knows it."""
    import ray

    return str(ray.util.get_node_ip_address())


@contextmanager
def ray_session(address: str = AUTO) -> Iterator[Session]:
    """Within it Ray is connected; a Ray that was connected before is used, and left as it is.

    address: as placement.address. Raises ConfigError where the cluster cannot be joined.
    """
    prepare_environment()
    import ray

    if ray.is_initialized():
        yield Session()
        return
    started, joined = RayProcesses(), cluster_address(address)
    try:
        with signals_wait(), handlers_kept():
            if joined is None:
                _start(started)
            else:
                _join(joined)
        yield Session(started)
    finally:
        with signals_wait():
            ray.shutdown()
            started.reap()


def prepare_environment() -> None:
    """What Ray reads when it is imported: connections need the token, unless the user has said otherwise."""
    os.environ.setdefault(AUTH_MODE, "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def cluster_address(address: str) -> str | None:
    """The cluster to join; None: a local Ray is to be started."""
    if address == AUTO:
        return os.environ.get(ADDRESS) or None
    return None if address == LOCAL else address


def _start(processes: RayProcesses) -> None:
    import ray

    with processes.apart(), on_loopback():
        ray.init(LOCAL, include_dashboard=False, logging_level=logging.WARNING)
    keep_private(TOKEN.expanduser())
    mark_session()


def keep_private(file: Path) -> None:
    """Ray makes its token as the umask says, which may let others read it."""
    with suppress(OSError):
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Ray puts its handlers of SIGTERM into the place of ours, one of them in C++, which prints its stack and dies. At
    the end those from before are back; where there was none, SIGTERM ends the program as `sys.exit` does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, _leave if before in (None, signal.SIG_DFL) else before)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _join(address: str) -> None:
    import ray

    try:
        _knock(address)
        with shipment() as code:
            ray.init(address, runtime_env=code, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        ray.shutdown()  # of what it may have begun
        raise ConfigError(Problem("placement.address", _cannot_join(address, error))) from error


def _knock(address: str) -> None:
    """Raises OSError at once where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()


def _cannot_join(address: str, error: Exception) -> str:
    first = first_line(error)
    remedy = "is it running, and is this machine one of its nodes (ray start --address=…)?"
    if "ersion" in first:
        remedy = "install the same versions of Ray and Python here and on the cluster"
    elif "auth" in str(error).lower() or "token" in str(error).lower():
        remedy = (
            f"the cluster and hamdist must agree on {AUTH_MODE} (token here unless set) and on the token: "
            "set RAY_AUTH_TOKEN_PATH to the cluster's"
        )
    return f"the cluster at {address} cannot be joined: {' '.join(str(error).split())[:400]}; {remedy}"


HAMDIST = Path(__file__).parents[1]
FILES = ("*.py", "*.json", "*.yaml", "*.yml", "*.toml")
OWN_FILES = (*FILES, "*.npz")  # the digits among them
NOT_FOLDERS = (".*", "venv", "site-packages", "node_modules", "__pycache__", "hamdist-code-*")
RUNS = "runs"  # of the current folder: what runs leave behind


@contextmanager
def shipment() -> Iterator[dict[str, Any]]:
    """A runtime environment for Ray, to be handed over within."""
    with TemporaryDirectory(prefix="hamdist-code-") as folder:
        code = Path(folder)
        copy_code(
            Path.cwd(), code / "here", without=(RUNS, HAMDIST.name)
        )  # a checkout's would hide what follows
        copy_code(HAMDIST, code / HAMDIST.name, OWN_FILES)
        yield {"working_dir": str(code / "here"), "py_modules": [str(code / HAMDIST.name)]}


def copy_code(
    source: Path, target: Path, patterns: Sequence[str] = FILES, without: Sequence[str] = ()
) -> None:
    """The files of a folder whose names fit, in the same places; the target is made.

    without: folders directly in it that stay.
    """
    target.mkdir()
    for folder, folders, names in os.walk(source):
        left = without if Path(folder) == source else ()
        folders[:] = [name for name in folders if name not in left and not _fits(name, NOT_FOLDERS)]
        wanted = [name for name in names if _fits(name, patterns) and not name.startswith(".")]
        if wanted:
            there = target / Path(folder).relative_to(source)
            there.mkdir(parents=True, exist_ok=True)
            for name in wanted:
                shutil.copyfile(Path(folder, name), there / name)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
