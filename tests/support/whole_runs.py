"""What is left of a run, to be held against that of another: all but times, places and what happened to it."""

import json
from pathlib import Path
from typing import Any

from hamdist.runs.record import load_weights

SAME = ("status", "ticks", "samples", "samples_seen_once", "loss", "prequential", "holdout", "layers")


def figures(out: Path) -> dict[str, Any]:
    """Of the summary what must be the same, and all lines of metrics without their seconds."""
    summary = json.loads((out / "summary.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    told = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return {key: summary[key] for key in SAME} | {"metrics": told}


def weights_in(out: Path) -> dict[str, Any]:
    """All tensors, by layer and name."""
    return load_weights(out)
