"""`hamdist launch slurm CONFIG [KEY.PATH=VALUE …]`: as `hamdist run`, on a Ray cluster that a Slurm job starts."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Annotated

import typer

from hamdist.command import Config, Overrides, Profile, exit_status
from hamdist.errors import UserError
from hamdist.launch.cluster import on_cluster

_PACKAGE = Path(__file__).resolve().parents[1]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def slurm(
    config: Config,
    overrides: Overrides = None,
    profile: Profile = False,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPTION[=VALUE]",
            help="An option of Slurm's sbatch, without its dashes, as in nodes=4; any number of them.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Submit a Slurm job that starts a Ray cluster on its nodes and learns from a stream there."""
    with exit_status():
        check(config, overrides or ())
        arguments = [config, *(overrides or ()), *(["--profile"] if profile else [])]
        raise typer.Exit(submit(arguments, sbatch or ()))


def check(config: str, overrides: Sequence[str]) -> None:
    """Raises UserError for a config that is not sound, before the job waits for its nodes."""
    from hamdist.config.loader import load

    load(config, on_cluster(overrides, "auto"))


def submit(arguments: Sequence[str], options: Sequence[str] = ()) -> int:
    """Queue a job that calls `hamdist launch cluster` with the arguments; returns the exit status of sbatch.

    options: of sbatch, without their dashes.  Raises UserError where there is no sbatch.
    """
    if which("sbatch") is None:
        raise UserError("there is no sbatch here: submit from a machine of the Slurm cluster")
    return subprocess.run(
        ["sbatch", *(f"--{option}" for option in options), str(batch_script()), *arguments], check=False
    ).returncode


def batch_script() -> Path:
    """The script that Slurm runs: inside an installed package, beside the package in a source checkout."""
    installed = _PACKAGE / "launch" / "slurm.sbatch"
    return installed if installed.is_file() else _PACKAGE.parent / "launch" / "slurm.sbatch"
