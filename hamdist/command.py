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
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from hamdist.errors import RunError, UserError, with_place
from hamdist.runs.interruption import BrokenOff, leave_on_signals

_log = logging.getLogger(__name__)
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

Config = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file, or the name of an example that comes with hamdist, such as 'digits'.",
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
Profile = Annotated[
    bool,
    typer.Option(
        "--profile",
        help="Record where the time goes: shares in the summary, and trace.json for Perfetto in the run directory.",
    ),
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


def show_run(config: str, overrides: Sequence[str], out: Path | None, profile: bool = False) -> None:
    """Run a config: progress on stderr, the summary on stdout. Raises what the two below do."""
    show_summary(follow_run(config, overrides, out, profile))


def follow_run(
    config: Any, overrides: Sequence[str], out: Path | None, profile: bool = False
) -> dict[str, Any]:
    """Run a config with progress on stderr; the summary. Raises what `hamdist.run` does."""
    from hamdist.config.loader import load

    look_here()
    from hamdist.report.progress import progress_on

    load(config, overrides)  # PyTorch takes seconds; mistakes are told before
    with progress_on(console(stderr=True)) as show:
        _log.info("loading PyTorch")
        from hamdist.runs.run import run

        return run(config, overrides, out=out, on_progress=show, profile=profile)


def show_summary(summary: dict[str, Any]) -> None:
    """The summary on stdout. Raises typer.Exit where the run was interrupted."""
    from hamdist.report.tables import summary_table

    console().print(summary_table(summary))
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


def console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, and wide enough for every table where there is none."""
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=160)
