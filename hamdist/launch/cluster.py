"""`hamdist launch cluster CONFIG [KEY.PATH=VALUE …] --address …`: as `hamdist run`, on a Ray cluster that is there.

With --address HOST:PORT this machine is one of the cluster's nodes: it joins the cluster and drives the run. With
--submit and --address http://HEAD:8265 it need not be one: the run becomes a Ray job, which the cluster's head drives.
"""

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from hamdist.command import Config, Out, Overrides, Predictions, Profile, Quiet, Resume, exit_status, show_run
from hamdist.errors import UserError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def cluster(
    config: Config,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS",
            metavar="ADDRESS",
            help="HOST:PORT of the cluster's head; with --submit its dashboard, as in http://HEAD:8265.",
        ),
    ] = None,
    out: Out = None,
    profile: Profile = False,
    predictions: Predictions = None,
    quiet: Quiet = False,
    resume: Resume = None,
    submit: Annotated[
        bool, typer.Option("--submit", help="From outside of the cluster: run there as a Ray job.")
    ] = False,
) -> None:
    """Learn from a stream on a Ray cluster: progress while it goes, and a summary at the end."""
    with exit_status():
        if submit and (predictions is not None or quiet or resume is not None):
            raise UserError(
                "--predictions, --quiet and --resume are for runs that this command drives: leave out --submit"
            )
        if submit:
            from hamdist.launch.submission import run_submitted

            raise typer.Exit(run_submitted(config, overrides or (), dashboard(address), out, profile))
        joining = on_cluster(overrides or (), head(address))
        show_run(config, joining, out, profile, predictions, quiet, resume)


def on_cluster(overrides: Sequence[str], address: str) -> list[str]:
    """The overrides among those that make a run join a cluster; of these the address alone is not to be overridden."""
    return ["placement.runtime=ray", *overrides, f"placement.address={address}"]


def head(address: str | None) -> str:
    """The address of a cluster to join. Raises UserError for none, or one of another kind."""
    if address is None:
        raise UserError("no cluster to join: give --address HOST:PORT, or set RAY_ADDRESS")
    if re.match("https?://", address):
        raise UserError(
            f"{address} is a dashboard's address: add --submit, or give HOST:PORT to join the cluster"
        )
    if address in ("auto", "local"):
        raise UserError(
            f"{address!r} is no cluster's address: give --address HOST:PORT (`hamdist launch local` needs none)"
        )
    return address


def dashboard(address: str | None) -> str:
    """The address of a dashboard to submit to. Raises UserError for none, or one of another kind."""
    if address is None:
        raise UserError("no cluster to submit to: give --address http://HEAD:8265, or set RAY_ADDRESS")
    if not re.fullmatch(r"https?://[^/\s]+/?", address):
        raise UserError(
            f"{address} is not a dashboard's address: --submit needs one such as http://HEAD:8265"
        )
    return address
