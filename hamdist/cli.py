"""The command line: thin shells around `hamdist.execution` and `hamdist.weights`.

Exit status: 0 done, 1 failed on the way, 2 bad input, 130 interrupted. PyTorch is imported inside the commands only, so
that `--help` answers at once.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hamdist.errors import RunError, UserError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="hamdist",
    help="Neural networks that learn over time, from fully local to backpropagation (Hamiltonian Learning).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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


def main() -> None:
    """The `hamdist` command; modules that a config names are looked for in the current folder, too."""
    sys.path.insert(0, "")
    app()


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hamdist {version('hamdist')}")
        raise typer.Exit


@app.callback()
def hamdist(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Neural networks that learn over time, from fully local to backpropagation (Hamiltonian Learning)."""


@app.command()
def run(
    config: Config,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="The run directory: config, metrics, summary and weights go there.")
    ] = None,
) -> None:
    """Learn from a stream: print progress while it goes, and a summary at the end."""
    with _exit_status():
        from hamdist.execution import run as run_config
        from hamdist.report.progress import progress_on
        from hamdist.report.tables import summary_table

        with progress_on(_console(stderr=True)) as show:
            summary = run_config(config, overrides or (), out=out, on_progress=show)
        _console().print(summary_table(summary))
        if summary["status"] == "interrupted":
            raise typer.Exit(INTERRUPTED)


@app.command()
def check(config: Config, overrides: Overrides = None) -> None:
    """Find every mistake in a config, each with its place, without running it."""
    with _exit_status():
        from hamdist.checking import check as check_config

        if problems := check_config(config, overrides or ()):
            _complain(problems)
            raise typer.Exit(BAD_INPUT)
        typer.echo(f"{config}: no problems found")


@app.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    png: Annotated[Path | None, typer.Option(help="Draw the network into this file, too.")] = None,
) -> None:
    """Show the layers, their delays and costs, and the edges between them, without running."""
    with _exit_status():
        from hamdist.execution import plan as plan_config
        from hamdist.report.tables import edges_table, layers_table

        planned = plan_config(config, overrides or ())
        console = _console()
        console.print(layers_table(planned.layers), edges_table(planned.edges), sep="\n")
        for note in planned.notes:
            typer.echo(note)
        if png is not None:
            planned.draw(png)
            typer.echo(f"drawn: {png}")


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a finished run.")],
    to: Annotated[Path, typer.Option(help="The file to write, for instance model.pt.")],
) -> None:
    """Write a run's weights as a state_dict that loads into the plain PyTorch model."""
    with _exit_status():
        from hamdist.weights import export as export_weights

        tensors = export_weights(directory, to)
        typer.echo(f"{to}: {tensors} tensors")


@contextmanager
def _exit_status() -> Iterator[None]:
    """Turn what goes wrong within into lines on stderr and the exit status for it."""
    try:
        yield
    except UserError as error:
        _complain(map(str, error.problems))
        raise typer.Exit(BAD_INPUT) from None
    except RunError as error:
        _complain([str(error)])
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        _complain(["interrupted"])
        raise typer.Exit(INTERRUPTED) from None


def _complain(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line, err=True)


def _console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, and wide enough for every table where there is none."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=160)
