"""The summary of a run: what summary.json holds."""

import platform
from importlib.metadata import version
from typing import Any, NamedTuple

import torch

from hamdist.runtime.inline import InlineRuntime
from hamdist.runtime.memory import peak_memory_bytes


class Spent(NamedTuple):
    """What learning took: the drain is part of it, the hold-out is not."""

    ticks: int
    seconds: float


def summarise(
    runtime: InlineRuntime,
    status: str,
    learning: Spent,
    wall_seconds: float,
    error: Exception | None = None,
) -> dict[str, Any]:
    """status: finished, interrupted or failed.  wall_seconds: of the whole run, hold-out included."""
    prequential = runtime.loss.prequential.total()
    return {
        "status": status,
        **({} if error is None else {"error": str(error)}),
        "ticks": learning.ticks,
        "samples": runtime.samples,
        "samples_seen_once": runtime.seen_once(),
        "loss": prequential.get("loss"),
        "prequential": prequential,
        "holdout": runtime.loss.holdout.total() or None,
        "ticks_per_second": learning.ticks / learning.seconds,
        "samples_per_second": runtime.samples / learning.seconds,
        "actors": 1,
        "peak_memory_bytes": {"inline": peak_memory_bytes()},
        "restarts": 0,
        "wall_seconds": wall_seconds,
        "layers": {name: cell.ledger.counts() for name, cell in runtime.cells.items()},
        "versions": {
            "hamdist": version("hamdist"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
