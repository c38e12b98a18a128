"""What a submitted run does on the cluster: it runs the config that came with it, and prints its run directory.

The config is in a package of its own, beside hamdist and the submitter's Python, and placement.address is left to
RAY_ADDRESS, which Ray sets for its jobs.
"""

import logging
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import typer

from hamdist.cluster.session import handlers_kept, prepare_environment
from hamdist.command import INTERRUPTED, Profile, complain, exit_status, follow_run
from hamdist.config.document import parse
from hamdist.launch.job_environment import CONFIG_PACKAGE
from hamdist.launch.log_archive import LIMIT, lines_of, size_of
from hamdist.runs.interruption import interruptible
from hamdist.runs.record import CONFIG
from hamdist.signal_mask import ENDING, signals_wait

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def job(boundary: str, profile: Profile = False) -> None:
    """Run the config in the package; the run directory follows in the log, whatever became of the run.

    A job that is stopped hears SIGTERM: what has entered is learnt then, as after Ctrl-C elsewhere.
    """
    directory = Path(tempfile.mkdtemp(prefix="hamdist-run-"))
    try:
        with exit_status(), interruptible(ENDING), joined():
            config = parse(files(CONFIG_PACKAGE).joinpath(CONFIG).read_text(encoding="utf-8"), CONFIG).data
            if follow_run(config, (), directory, profile)["status"] == "interrupted":
                raise typer.Exit(INTERRUPTED)
    finally:
        send(directory, boundary)


@contextmanager
def joined() -> Iterator[None]:
    """Within it Ray is connected as the job is, so that the run's workers have the job's own code."""
    prepare_environment()
    import ray

    with signals_wait(), handlers_kept():
        ray.init(logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()


def send(directory: Path, boundary: str, limit: int = LIMIT) -> None:
    """Print what is in a directory, and remove it; one that is too large to be sent whole stays."""
    size = size_of(directory)
    for line in lines_of(directory, boundary, limit) if size else ():
        typer.echo(line, nl=False)
    if size <= limit:
        shutil.rmtree(directory)
        return
    complain(
        [
            f"the run directory has {size / 2**20:,.0f} MiB, more than the {limit / 2**20:,.0f} MiB that are sent: its "
            f"weights stay on {socket.gethostname()} in {directory}"
        ]
    )


if __name__ == "__main__":
    app()
