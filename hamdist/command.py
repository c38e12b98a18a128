"""What the commands share: their arguments, their exit status, and how they show a run.

Exit status: 0 done, 1 failed on the way, 2 bad input, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM). PyTorch is
imported inside the functions only.
"""

import json
import logging
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from hamdist.errors import RunError, UserError, with_place
from hamdist.leaving import leave_on_signals
from hamdist.runs.interruption import BrokenOff

_log = logging.getLogger(__name__)
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

_CONFIG = "A YAML file, or the name of an example that comes with hamdist, such as 'digits'."
Config = Annotated[
    str,
    typer.Argument(metavar="CONFIG", help=_CONFIG),
]
ConfigOrNone = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG", help=f"{_CONFIG} Of a run that goes on, left out: its own.", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY.PATH=VALUE",
        help="Changes to the config; values are YAML, as in learning.beta=0.05 or locality.mode=nonlocal.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="The run directory: config, metrics, summary and weights go there.")
]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|auto",
        help="Go on with the run in DIR from its newest checkpoint; 'auto': with that in --out if there is one, else "
        "begin.",
    ),
]
Profile = Annotated[
    bool,
    typer.Option(
        "--profile",
        help="Record where the time goes: shares in the summary, and trace.json for Perfetto in the run directory.",
    ),
]


Predictions = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write a line of JSON a sample as its prediction leaves: into a file, or '-' for stdout, where samples "
        "from stdin are answered anyway; all else goes to stderr then.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="No progress and no summary: only predictions and errors.")
]


Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Import and call what the config names, also from the current folder: only for configs of people you "
        "trust.",
    ),
]


def start(app: typer.Typer) -> None:
    """Runs a command, which signals end."""
    leave_on_signals()
    app()


def look_here() -> None:
    """Modules that a config names are looked for in the current folder, too: only where the config is trusted."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def show_run(
    config: str | None,
    overrides: Sequence[str],
    out: Path | None,
    profile: bool = False,
    predictions: Path | None = None,
    quiet: bool = False,
    resume: str | None = None,
) -> None:
    """Run a config: progress on stderr, the summary on stdout, or on stderr where predictions go to stdout.

    Samples from standard input are answered there, unless their predictions go elsewhere. Raises what the two below do.
    """
    began = perf_counter()
    summary = follow_run(config, overrides, out, profile, predictions, quiet, resume)
    show_summary(_until_now(summary, began), quiet)


def follow_run(
    config: Any,
    overrides: Sequence[str],
    out: Path | None,
    profile: bool = False,
    predictions: Path | None = None,
    quiet: bool = False,
    resume: str | None = None,
) -> dict[str, Any]:
    """Run a config with progress on stderr; the summary. Raises what `hamdist.run` does."""
    began = perf_counter()
    from hamdist.config.loader import load
    from hamdist.runs.which_run import which_run

    look_here()
    from hamdist.report.progress import progress_on

    which = which_run(
        config, overrides, out, False if resume is None else resume
    )  # PyTorch takes seconds; mistakes are told before
    source = load(which.config, which.overrides).config.stream.source
    to = "-" if predictions is None and source == "stdin" else predictions
    with progress_on(console(stderr=True, quiet=quiet)) as show:
        _log.info("loading PyTorch")
        from hamdist.runs.run import run

        return run(
            config,
            overrides,
            out=out,
            on_progress=show,
            profile=profile,
            predictions=to,
            begun=began,
            resume=False if resume is None else resume,
        )


def _until_now(summary: dict[str, Any], began: float) -> dict[str, Any]:
    """With the time that it took to leave everything in order."""
    phases, passed = summary.get("phases", {}), perf_counter() - began
    if not phases:
        return summary
    end = passed - phases["start"] - phases["learning"]
    return {**summary, "wall_seconds": passed + phases.get("before", 0.0), "phases": {**phases, "end": end}}


def show_summary(summary: dict[str, Any], quiet: bool = False) -> None:
    """The summary on stdout, which belongs to the predictions where they go there. Raises typer.Exit where the run was
    interrupted.
    """
    from hamdist.report.tables import summary_table

    answered = summary.get("predictions", {}).get("to") == "standard output"
    console(stderr=answered, quiet=quiet).print(summary_table(summary))
    if summary["status"] == "interrupted":
        raise typer.Exit(INTERRUPTED)


def show_generated(
    directory: Path, steps: int, feed: Literal["output", "zero", "same"], prime: int, trust: bool
) -> None:
    """What a trained network says on its own, a line of JSON a step on stdout; at the end, on stderr, how far it was
    from the run's stream, where that has targets."""
    if trust:
        look_here()
    from hamdist.runs.generate import errors_of, generate

    far = errors_of(generate(directory, steps, feed, prime, trust), lambda line: typer.echo(json.dumps(line)))
    if far is not None:
        complain([f"mean squared error against the stream, over {far.steps} steps: {far.mean:.6g}"])


@contextmanager
def exit_status() -> Iterator[None]:
    """Turn what goes wrong within into lines on stderr and the exit status for it."""
    try:
        yield
    except UserError as error:
        complain(map(str, error.problems))
        raise typer.Exit(BAD_INPUT) from None
    except RunError as error:
        complain([str(error)])
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt as error:
        told = error if isinstance(error, BrokenOff) else BrokenOff(signal.SIGINT)
        complain([str(told)])
        raise typer.Exit(128 + told.number) from None
    except Exception:
        raise
    except BaseException as error:  # from code of the user's
        complain([with_place(error)])
        raise typer.Exit(FAILED) from error


def complain(lines: Iterable[str]) -> None:
    """Lines on stderr."""
    for line in lines:
        typer.echo(line, err=True)


def console(stderr: bool = False, quiet: bool = False) -> Console:
    """A console as wide as the terminal, and wide enough for every table where there is none.

    quiet: it shows nothing.
    """
    found = Console(stderr=stderr, quiet=quiet)
    return found if found.is_terminal else Console(stderr=stderr, quiet=quiet, width=160)
