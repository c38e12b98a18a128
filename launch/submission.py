"""A run as a Ray job: sent to a cluster through its dashboard, followed, stopped, and its run directory brought back.

What travels is the config with all overrides and defaults in it, hamdist, and the Python of the current folder. The run
directory comes back within the job's log, up to 256 MiB; of a larger one the weights stay on the node that drove the
run, and the log says where.
"""

import asyncio
import json
import logging
import os
import secrets
import signal
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import launch
from hamdist.cluster.session import ADDRESS, AUTH_MODE, prepare_environment, shipment
from hamdist.command import INTERRUPTED, complain, show_summary
from hamdist.config.loader import Loaded, load, resolved_yaml
from hamdist.errors import ConfigError, MissingExtraError, Problem, RunError, UserError
from hamdist.runs.record import CONFIG, SUMMARY, fresh_directory
from launch.job import PACKAGE
from launch.parcel import Inbox

STOPPED_SECONDS = 120  # for a run that is stopped to drain and to send what it has
RECONNECTIONS = 5
SECONDS_BEFORE_RECONNECTING = 3.0
TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


def run_submitted(
    config: str, overrides: Sequence[str], address: str, out: Path | None, profile: bool = False
) -> int:
    """Run a config as a job, with its log on stderr and its summary on stdout; returns the job's exit status.

    Raises UserError for a config that is not sound, a cluster out of reach or a directory that cannot be used, RunError
    for a job that cannot be run or followed, and for a run directory that comes back damaged.
    """
    loaded = load(config, ["placement.runtime=ray", *overrides, "placement.address=auto"])
    check_submittable(loaded)
    client = connected(address)
    directory = reserved(fresh_directory(loaded.config.name) if out is None else out)
    job = Job(client, Inbox(f"hamdist-{secrets.token_hex(8)}"), ("--profile",) if profile else ())
    try:
        asyncio.run(job.run(resolved_yaml(loaded.config)))
        return job.finish(directory)
    finally:
        if not any(directory.iterdir()):
            directory.rmdir()


def check_submittable(loaded: Loaded) -> None:
    """Raises UserError for a run that only this process could drive, or whose directory could not be unpacked here."""
    if loaded.config.stream.source == "stdin":
        error = ConfigError(
            Problem(
                "stream.source",
                "'stdin' is this process's own and cannot be submitted: join the cluster instead",
            )
        )
        error.restate(*loaded.explain(error))
        raise error
    if not hasattr(tarfile, "data_filter"):
        raise UserError("--submit needs Python 3.11.4 or later, whose tarfile unpacks safely")


def connected(address: str) -> Any:
    """A client of the dashboard. Raises MissingExtraError, or UserError where it does not answer or admit us."""
    if not (find_spec("aiohttp") and find_spec("requests")):
        raise MissingExtraError("--submit", "jobs")
    prepare_environment()
    for name in (ADDRESS, "RAY_API_SERVER_ADDRESS"):  # Ray would prefer them to the address given
        os.environ.pop(name, None)
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise UserError(
            f"nothing can be submitted to {address}: {in_a_line(error)}; is the cluster's dashboard there, is "
            f"{AUTH_MODE} (token here unless set) the same on both sides, and is the token the cluster's?"
        ) from error


def in_a_line(error: Exception) -> str:
    """The beginning of what an error says."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def reserved(directory: Path) -> Path:
    """The directory, made now, so that one that cannot be used is known before the run. Raises UserError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / CONFIG).exists():
            raise UserError(f"{directory} holds a run already: name another directory, or remove it")
    except OSError as error:
        raise UserError(f"{directory} cannot be the run directory: {error}") from error
    return directory


class Job:
    """One job: Ctrl-C and SIGTERM stop it, so that its run drains; a second one leaves it to itself.

    options: of launch.job.
    """

    def __init__(self, client: Any, inbox: Inbox, options: Sequence[str] = ()) -> None:
        self.id = ""
        self._client, self._inbox, self._options = client, inbox, options
        self._ending: Any = None
        self._seen = 0  # characters of the log
        self._stopping = False

    async def run(self, config: str) -> None:
        """Submit it, and show its log to the end. Raises RunError where it cannot be submitted or followed."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop)
        with packed(config) as environment:
            try:
                self.id = self._client.submit_job(
                    entrypoint=" ".join(["python -m launch.job", self._inbox.boundary, *self._options]),
                    runtime_env=environment,
                )
            except (OSError, RuntimeError, ValueError) as error:
                raise RunError(f"the job was not accepted: {in_a_line(error)}") from error
        complain([f"job {self.id}"])
        await self._follow()

    async def _follow(self) -> None:
        """A connection that breaks off is made again, but not for ever in vain."""
        from aiohttp import ClientError

        lost = 0
        while self._ending is None:
            seen = self._seen
            try:
                await self._tail()
                info = self._client.get_job_info(self.id)
                self._ending = info if info.status.is_terminal() else None
                reason = "it ended before the job did"
            except (OSError, RuntimeError, ClientError) as error:
                reason = in_a_line(error)
            lost = 1 if self._seen > seen else lost + 1
            if self._ending is None:
                await self._wait_for(lost, reason)
        show(self._inbox.rest())

    async def _wait_for(self, lost: int, reason: str) -> None:
        """Before the next connection. Raises RunError where that is hopeless."""
        if lost > RECONNECTIONS:
            raise RunError(
                f"the log of job {self.id} was lost: {reason}; the job goes on: see `ray job status {self.id}` and "
                f"`ray job stop {self.id}`"
            )
        await asyncio.sleep(SECONDS_BEFORE_RECONNECTING)

    async def _tail(self) -> None:
        """Every connection tells the log from its start."""
        skip = self._seen
        async for text in self._client.tail_job_logs(self.id):
            new, skip = text[skip:], max(0, skip - len(text))
            self._seen += len(new)
            show(self._inbox.feed(new))

    def _stop(self) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True
        complain([f"stopping job {self.id}; once more leaves it to end by itself"])
        try:
            self._client.stop_job(self.id)
        except (OSError, RuntimeError) as error:
            complain([f"it could not be told to stop: {in_a_line(error)}"])

    def finish(self, directory: Path) -> int:
        """Its run directory unpacked, its summary shown; returns its exit status. Raises RunError."""
        info = self._ending
        status = INTERRUPTED if info.status == "STOPPED" else info.driver_exit_code
        if status is None:
            raise RunError(f"job {self.id} could not run: {info.message}")
        there = self._inbox.unpack(directory)
        if status == 0 and not there:
            raise RunError(f"job {self.id} ended well, but its run directory did not come back")
        if status in (0, INTERRUPTED) and (directory / SUMMARY).exists():
            summary = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
            show_summary({**summary, "directory": str(directory)})
        elif there:
            complain([f"what it left is in {directory}"])
        return status


def show(text: str) -> None:
    """A piece of the log, as it is."""
    if text:
        complain([text.removesuffix("\n")])


@contextmanager
def packed(config: str) -> Iterator[dict[str, Any]]:
    """The runtime environment of a job that runs the config, to be handed over within.

    Beside the code there are a package with the config in it, and what an installed hamdist knows of its version.
    """
    installed = f"hamdist-{version('hamdist')}.dist-info"
    with TemporaryDirectory() as folder, shipment(Path(launch.__file__).parent) as code:
        config_package = folder_of(Path(folder, PACKAGE), {"__init__.py": "", CONFIG: config})
        metadata = folder_of(
            Path(folder, installed), {"METADATA": f"Name: hamdist\nVersion: {version('hamdist')}\n"}
        )
        yield {
            **code,
            "py_modules": [*code["py_modules"], config_package, metadata],
            "env_vars": {
                AUTH_MODE: os.environ[AUTH_MODE],
                "RAY_JOB_STOP_WAIT_TIME_S": str(STOPPED_SECONDS),
            },
        }


def folder_of(folder: Path, files: Mapping[str, str]) -> str:
    """A new folder with these texts in files of these names."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return str(folder)
