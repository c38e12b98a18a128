"""How fast a run goes once it goes: between the snapshots it gives, without start, tracing and compiling."""

import tempfile
from collections.abc import Mapping
from typing import Any

import hamdist
from hamdist.report.progress import Snapshot

STARTING = 0.2
"""The share of a run's ticks that does not count."""


def timed_run(config: Mapping[str, Any], ticks: int) -> tuple[float, dict[str, Any]]:
    """Seconds of a tick, and the summary.  ticks: of the run. Raises ValueError for a run too short to tell."""
    snapshots: list[Snapshot] = []
    with tempfile.TemporaryDirectory() as directory:
        summary = hamdist.run(config, out=f"{directory}/run", on_progress=snapshots.append)
    assert summary["samples_seen_once"]
    counted = [snapshot for snapshot in snapshots if snapshot.ticks >= STARTING * ticks]
    if len(counted) < 2 or counted[0].ticks == counted[-1].ticks:
        raise ValueError(f"{ticks} ticks were over before their pace could be told")
    first, last = counted[0], counted[-1]
    return (last.elapsed_seconds - first.elapsed_seconds) / (last.ticks - first.ticks), summary
