"""The summary of a small run, for the tests of what is shown of it."""

from typing import Any

SUMMARY: dict[str, Any] = {
    "status": "finished",
    "loss": 0.5,
    "prequential": {"loss": 0.5},
    "holdout": None,
    "samples": 96,
    "ticks": 7,
    "samples_seen_once": True,
    "samples_per_second": 10.0,
    "wall_seconds": 1.0,
    "directory": "out",
}
