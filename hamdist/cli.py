"""The command line: thin shells around `hamdist.runs.run` and `hamdist.runs.weights`.

Exit status: as in `hamdist.command`. PyTorch is imported inside the commands only, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hamdist.command import (
    BAD_INPUT,
    Config,
    ConfigOrNone,
    Out,
    Overrides,
    Predictions,
    Profile,
    Quiet,
    Resume,
    Trust,
    complain,
    console,
    exit_status,
    look_here,
    show_generated,
    show_run,
)
from hamdist.launch import cluster, local, slurm

app = typer.Typer(
    name="hamdist",
    help="Neural networks that learn over time, from fully local to backpropagation (Hamiltonian Learning).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

launch = typer.Typer(
    help="Start a run over Ray actors: on this machine, on a Ray cluster, or as a Slurm job.",
    no_args_is_help=True,
)
for way in (local, cluster, slurm):
    launch.add_typer(way.app)
app.add_typer(launch, name="launch")


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
    config: ConfigOrNone = None,
    overrides: Overrides = None,
    out: Out = None,
    resume: Resume = None,
    profile: Profile = False,
    predictions: Predictions = None,
    quiet: Quiet = False,
) -> None:
    """Learn from a stream: print progress while it goes, and a summary at the end."""
    if config is None and resume is None:
        raise typer.BadParameter("name a config, or a run to go on with", param_hint="CONFIG")
    with exit_status():
        show_run(config, overrides or (), out, profile, predictions, quiet, resume)


@app.command()
def check(config: Config, overrides: Overrides = None, trust: Trust = False) -> None:
    """Find every mistake in a config, each with its place, without running it."""
    with exit_status():
        if trust:
            look_here()
        from hamdist.runs.check import findings

        mistakes, notes = findings(config, overrides or (), trust)
        if mistakes:
            complain(mistakes)
            raise typer.Exit(BAD_INPUT)
        typer.echo(f"{config}: no problems found")
        for note in notes:
            typer.echo(f"note: {note}")


@app.command()
def plan(
    config: Config,
    overrides: Overrides = None,
    png: Annotated[Path | None, typer.Option(help="Draw the network into this file, too.")] = None,
    order: Annotated[
        bool,
        typer.Option("--order", help="Print the order of a tick, too: who evaluates and who reacts when."),
    ] = False,
) -> None:
    """Show the layers, their delays and costs, and the edges between them, without running."""
    with exit_status():
        look_here()
        from hamdist.report.tables import edges_table, layers_table
        from hamdist.runs.run import plan as plan_config

        planned = plan_config(config, overrides or ())
        console().print(layers_table(planned.layers), edges_table(planned.edges), sep="\n")
        for note in planned.notes:
            typer.echo(note)
        for line in planned.order if order else ():
            typer.echo(line)
        if png is not None:
            planned.draw(png)
            typer.echo(f"drawn: {png}")


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a finished run.")],
    to: Annotated[Path, typer.Option(help="The file to write, for instance model.pt.")],
) -> None:
    """Write a run's weights as a state_dict that loads into the plain PyTorch model."""
    with exit_status():
        from hamdist.runs.weights import export as export_weights

        tensors = export_weights(directory, to)
        typer.echo(f"{to}: {tensors} tensors")


@app.command()
def generate(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a finished run.")],
    steps: Annotated[
        int, typer.Option(min=0, help="How many steps to run freely; 0: what it says of the last batch.")
    ],
    feed: Annotated[
        Literal["output", "zero", "same"],
        typer.Option(help="What the network hears: its own last output, zero, or its last input all along."),
    ] = "output",
    prime: Annotated[int, typer.Option(min=1, help="Batches of the run's stream to go through first.")] = 1,
    trust: Trust = False,
) -> None:
    """Let a trained network run freely: a line of JSON a step, beside what the run's stream has there."""
    with exit_status():
        show_generated(directory, steps, feed, prime, trust)
