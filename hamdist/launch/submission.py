"""A run as a Ray job: sent to a cluster through its dashboard, followed, stopped, and its run directory brought back.

What travels is the config with all overrides and defaults in it, hamdist, and the Python of the current folder. The run
directory comes back within the job's log, up to 256 MiB; of a larger one the weights stay on the node that drove the
run, and the log says where.
"""

import asyncio
import logging
import os
import secrets
import tarfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hamdist.cluster.session import ADDRESS, AUTH_MODE, prepare_environment
from hamdist.config.loader import Loaded, load, resolved_yaml
from hamdist.errors import ConfigError, MissingExtraError, Problem, UserError
from hamdist.launch.log_archive import ArchiveReader
from hamdist.launch.submitted_job import SubmittedJob, in_a_line
from hamdist.runs.record import CONFIG, fresh_directory

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
    archive = ArchiveReader(f"hamdist-{secrets.token_hex(8)}")
    job = SubmittedJob(client, archive, ("--profile",) if profile else ())
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


def reserved(directory: Path) -> Path:
    """The directory, made now, so that one that cannot be used is known before the run. Raises UserError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / CONFIG).exists():
            raise UserError(f"{directory} holds a run already: name another directory, or remove it")
    except OSError as error:
        raise UserError(f"{directory} cannot be the run directory: {error}") from error
    return directory
