"""The summary of a run: what summary.json holds."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from hamdist.report.profile import Profile


@dataclass(frozen=True)
class Results:
    """What came of a run, wherever it ran.

    ticks, seconds: of learning; the drain is part of it, the hold-out is not.  layers: counts by layer.
    peak_memory_bytes: by actor.  profiles: by actor, if they were wanted.  more: what only a run over actors can
    tell.
    """

    ticks: int
    seconds: float
    samples: int
    seen_once: bool
    prequential: Mapping[str, float]
    holdout: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]
    peak_memory_bytes: Mapping[str, int]
    actors: int = 1
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


def summarise(
    results: Results, status: str, wall_seconds: float, error: Exception | None = None
) -> dict[str, Any]:
    """status: finished, interrupted or failed.  wall_seconds: of the whole run, hold-out included."""
    return {
        "status": status,
        **({} if error is None else {"error": str(error)}),
        "ticks": results.ticks,
        "samples": results.samples,
        "samples_seen_once": results.seen_once,
        "loss": results.prequential.get("loss"),
        "prequential": dict(results.prequential),
        "holdout": dict(results.holdout) or None,
        "ticks_per_second": results.ticks / results.seconds,
        "samples_per_second": results.samples / results.seconds,
        "actors": results.actors,
        "peak_memory_bytes": dict(results.peak_memory_bytes),
        "restarts": 0,
        "wall_seconds": wall_seconds,
        "layers": dict(results.layers),
        **results.more,
        **_told(results.profiles),
        "versions": {
            "hamdist": version("hamdist"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _told(profiles: Mapping[str, Profile]) -> dict[str, Any]:
    """The shares of every actor; nothing if no profile was wanted."""
    told = {name: profile.told() for name, profile in profiles.items()}
    return {"profile": told} if told else {}
