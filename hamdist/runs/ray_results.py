"""What came of a run over actors: the outcomes of all of them, put together."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hamdist.cluster.outcome import Spent
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.cluster.supervisor import Ending
from hamdist.report.profile import Profile
from hamdist.runs.launch import LaunchedRun
from hamdist.runs.results import Learnt, Results, executions, results_of


def results_over(
    run: LaunchedRun[StreamWorker],
    ending: Ending,
    elapsed: float,
    in_one_go: bool,
    promised: int | None,
    more: Mapping[str, Any],
) -> Results:
    """elapsed: seconds of all ticks, by the driver's clock.  in_one_go: whether the actor with the first loss has
    them by its own, which is better, since the stream is ahead of it.  promised: as of results.  more: what else is
    to be told.
    """
    names, stream, setup = run.group.names, ending.stream, run.setup
    told = {
        name: outcome for name, outcome in zip(names, ending.outcomes, strict=False) if outcome is not None
    }
    came = results_of(
        told, setup.network.names, next(iter(setup.outline.losses)), _learnt(run, ending, elapsed, in_one_go)
    )
    peaks = {names[-1]: stream.peak_memory_bytes} if stream else {}
    return replace(
        came,
        peak_memory_bytes={**came.peak_memory_bytes, **peaks},
        actors=len(ending.outcomes),
        promised=promised,
        profiles=_profiles(run, ending),
        more={
            "startup_seconds": run.startup.seconds,
            "places": _places(run, ending),
            **executions(told),
            **({"skipped": dict(stream.skipped)} if stream and stream.skipped else {}),
            **more,
            "links": {edge: carrier.name for edge, carrier in run.carriers.items()},
        },
    )


def _learnt(run: LaunchedRun[StreamWorker], ending: Ending, elapsed: float, in_one_go: bool) -> Learnt:
    stream, outcomes = ending.stream, [outcome for outcome in ending.outcomes if outcome is not None]
    done = max((outcome.ticks for outcome in outcomes), default=0)
    ticks = stream.ticks if stream else done
    first = ending.outcomes[run.first_loss]
    if in_one_go and first is not None and first.ticks:
        seconds = first.spent.seconds * max(ticks, 1) / first.ticks
    else:
        seconds = elapsed * max(ticks, 1) / max(ticks, done, 1)
    return Learnt(stream.samples if stream else 0, ticks, seconds)


def _profiles(run: LaunchedRun[StreamWorker], ending: Ending) -> dict[str, Profile]:
    """Of the actors that could tell theirs, by name, the stream's last; none where none was wanted."""
    told = zip(run.group.names, (*ending.outcomes, ending.stream), strict=True)
    return {name: outcome.profile for name, outcome in told if outcome and outcome.profile}


def _places(run: LaunchedRun[StreamWorker], ending: Ending) -> list[dict[str, Any]]:
    """Where every actor was, and where its time went."""
    actors = zip(run.placement.actors, run.group.locations, ending.outcomes, strict=False)
    return [
        {
            "actor": number,
            "layers": list(layers),
            "host": location.host,
            "node": location.node,
            "pid": location.pid,
            "device": location.device,
            **(Spent() if outcome is None else outcome.spent).told(),
        }
        for number, (layers, location, outcome) in enumerate(actors)
    ]
