"""How fast a run goes once it goes: between the snapshots it gives, without start, tracing and compiling."""

import math
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import hamdist
from hamdist.report.progress import Snapshot

STARTING = 0.2
"""The share of a run's ticks that does not count."""

LEAST_SECONDS = 0.5
"""Between the first and the last snapshot that count; a run gives one every quarter of a second."""


def timed_run(config_of: Callable[[int], Mapping[str, Any]], ticks: int) -> tuple[float, dict[str, Any]]:
    """Seconds of a tick, and the summary.

    config_of: the config of a run of so many ticks.  ticks: to begin with; where they are over before their pace can be
    told, the run is done again with as many as this machine takes for it.
    """
    while True:
        snapshots, summary = watched_run(config_of(ticks))
        counted = [snapshot for snapshot in snapshots if snapshot.ticks >= STARTING * ticks]
        if counted and long_enough(counted[0], counted[-1]):
            return seconds_a_tick(counted[0], counted[-1]), summary
        ticks = max(2 * ticks, math.ceil(3 * LEAST_SECONDS * summary["ticks_per_second"]))


def watched_run(config: Mapping[str, Any]) -> tuple[list[Snapshot], dict[str, Any]]:
    """The snapshots of a run, and its summary."""
    snapshots: list[Snapshot] = []
    with tempfile.TemporaryDirectory() as directory:
        summary = hamdist.run(config, out=f"{directory}/run", on_progress=snapshots.append)
    assert summary["samples_seen_once"]
    return snapshots, summary


def long_enough(first: Snapshot, last: Snapshot) -> bool:
    return last.ticks > first.ticks and last.elapsed_seconds - first.elapsed_seconds >= LEAST_SECONDS


def seconds_a_tick(first: Snapshot, last: Snapshot) -> float:
    return (last.elapsed_seconds - first.elapsed_seconds) / (last.ticks - first.ticks)
