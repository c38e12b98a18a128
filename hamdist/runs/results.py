"""What came of a run, wherever it ran, and how the summary tells it."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from hamdist.cluster.outcome import Outcome
from hamdist.report.profile import Profile


@dataclass(frozen=True)
class Results:
    """ticks, seconds: of learning; the drain is part of it, the hold-out is not.  layers: counts by layer.

    reached: by layer, the fewest and the most ticks in its weights.  peak_memory_bytes: by actor.  profiles: by actor,
    if they were wanted.  promised: the samples that were asked for, None where all were.  more: what else the
    summary has to tell.
    """

    ticks: int
    seconds: float
    samples: int
    seen_once: bool
    prequential: Mapping[str, float]
    holdout: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]
    peak_memory_bytes: Mapping[str, int]
    reached: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    actors: int = 1
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    promised: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Learnt:
    """samples: that entered.  ticks, seconds: in which they were learnt."""

    samples: int
    ticks: int
    seconds: float


def results_of(
    outcomes: Mapping[str, Outcome], layers: Sequence[str], first_loss: str, learnt: Learnt
) -> Results:
    """outcomes: of the actors that could say how they ended, by name.  layers: all of the network, in order."""
    told = list(outcomes.values())
    ledgers = {name: ledger for outcome in told for name, ledger in outcome.ledgers.items()}
    energies = {name: found for outcome in told for name, found in outcome.energies.items()}
    return Results(
        ticks=learnt.ticks,
        seconds=learnt.seconds,
        samples=learnt.samples,
        seen_once=len(ledgers) == len(layers)
        and all(ledger.seen_once(learnt.samples) for ledger in ledgers.values()),
        prequential=_scores(told, lambda outcome: outcome.prequential.get(first_loss)),
        holdout=_scores(told, lambda outcome: outcome.holdout.get(first_loss)),
        layers={name: {**ledgers[name].counts(), **energies[name]} for name in layers if name in ledgers},
        peak_memory_bytes={name: outcome.peak_memory_bytes for name, outcome in outcomes.items()},
        reached={name: ticks for outcome in told for name, ticks in outcome.reached.items()},
    )


def executions(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """How regular ticks ran, by actor; nothing where all were to run node by node."""
    told = {name: dict(outcome.execution) for name, outcome in outcomes.items() if outcome.execution}
    return {"execution": told} if told else {}


def _scores(
    told: Sequence[Outcome], of: Callable[[Outcome], Mapping[str, float] | None]
) -> Mapping[str, float]:
    """What the actor with the first loss says."""
    return next((found for outcome in told if (found := of(outcome)) is not None), {})


def summarise(
    results: Results, status: str, phases: Mapping[str, float], error: Exception | None = None
) -> dict[str, Any]:
    """status: finished, interrupted or failed.  phases: seconds by part, from the command's start to this summary."""
    return {
        "status": status,
        **({} if error is None else {"error": str(error)}),
        "ticks": results.ticks,
        "samples": results.samples,
        **_promised(results, status),
        "samples_seen_once": results.seen_once,
        "loss": results.prequential.get("loss"),
        "prequential": dict(results.prequential),
        "holdout": dict(results.holdout) or None,
        "ticks_per_second": results.ticks / results.seconds,
        "samples_per_second": results.samples / results.seconds,
        "actors": results.actors,
        "peak_memory_bytes": dict(results.peak_memory_bytes),
        "restarts": [],
        "wall_seconds": sum(phases.values()),
        "phases": dict(phases),
        "layers": dict(results.layers),
        **_broken_off(results.reached, status),
        **results.more,
        **_told(results.profiles),
        "versions": {
            "hamdist": version("hamdist"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _promised(results: Results, status: str) -> dict[str, Any]:
    """What was asked for, where the stream ended before."""
    short = status == "finished" and results.promised is not None and results.samples < results.promised
    return {"samples_promised": results.promised} if short else {}


def _broken_off(reached: Mapping[str, tuple[int, int]], status: str) -> dict[str, Any]:
    """Which ticks are in which weights, where the end of the run does not say it."""
    if status != "failed" and len(set(reached.values())) < 2:
        return {}
    return {
        "weights_of_tick": {
            name: least if least == most else [least, most] for name, (least, most) in reached.items()
        }
    }


def _told(profiles: Mapping[str, Profile]) -> dict[str, Any]:
    """The shares of every actor; nothing if no profile was wanted."""
    told = {name: profile.told() for name, profile in profiles.items()}
    return {"profile": told} if told else {}
