"""`hamdist launch local CONFIG [KEY.PATH=VALUE …]`: as `hamdist run`, over Ray actors on this machine."""

from collections.abc import Sequence
from typing import Annotated

import typer

from hamdist.command import Config, Out, Overrides, Predictions, Profile, Quiet, Resume, exit_status, show_run

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def local(
    config: Config,
    overrides: Overrides = None,
    out: Out = None,
    profile: Profile = False,
    predictions: Predictions = None,
    quiet: Quiet = False,
    resume: Resume = None,
    actors: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many actors; as the config says, or one per GPU or core, if not given."
        ),
    ] = None,
) -> None:
    """Learn from a stream over Ray actors on this machine: progress while it goes, and a summary at the end."""
    with exit_status():
        show_run(config, on_this_machine(overrides or (), actors), out, profile, predictions, quiet, resume)


def on_this_machine(overrides: Sequence[str], actors: int | None = None) -> list[str]:
    """The overrides among those that make a run local; of these the address alone is not to be overridden."""
    number = [] if actors is None else [f"placement.actors={actors}"]
    return ["placement.runtime=ray", *number, *overrides, "placement.address=local"]
