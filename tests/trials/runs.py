"""A run on digits to which something happens, as tests and trials start it, and what differs at its end from the
undisturbed one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from faults import SOURCE
from support.patience import patient
from support.whole_runs import figures, weights_in

FOLDERS = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
TWO, THREE = [["first"], ["second", "head"]], [["first"], ["second"], ["head"]]
LAYERS = ("first", "second", "head")
BATCH, WIDTH = 16, 128
PREDICTIONS = "predictions.jsonl"
HEARTBEAT = patient(2.0)
NEVER = {"when": "never"}


Fault = Mapping[str, Any]  # as of an Order


def digits(actors: Any, samples: int, *faults: Fault, **more: Any) -> dict[str, Any]:
    """Its config.  faults: at different nodes.  more: other sections."""
    orders = {fault["node"]: fault for fault in faults}
    entering = orders.pop(SOURCE, {})
    sizes = {"first": (64, WIDTH), "second": (WIDTH, WIDTH), "head": (WIDTH, 10)}
    layers = []
    for name, (inputs, outputs) in sizes.items():
        linear: dict[str, Any] = {"type": "Linear", "in_features": inputs, "out_features": outputs}
        if name in orders:
            linear |= {"type": "faults:Faulty", **orders[name]}
        layers.append({"name": name, "modules": [linear, *([] if name == "head" else [{"type": "Tanh"}])]})
    return {
        "name": "chaos",
        "stream": {
            "source": "torch",
            "factory": "faults:digits",
            "args": {key: value for key, value in entering.items() if key != "node"},
            "batch_size": BATCH,
            "samples": samples,
        },
        "network": {"loss": "cross_entropy", "layers": layers},
        "locality": {"mode": "local", "pairing": "stashed"},
        "learning": {"beta": 0.05, "dissipation": {"weight": 0.2}},
        "metrics_every": 400,
        "placement": {"runtime": "ray", "actors": actors, "heartbeat_seconds": HEARTBEAT},
        **more,
    }


def same(ours: Path, theirs: Path) -> list[str]:
    """What differs between two runs."""
    one, other = figures(ours), figures(theirs)
    differing = [key for key in other if one[key] != other[key]]
    weights, known = weights_in(ours), weights_in(theirs)
    differing += [name for name in known if not torch.equal(weights[name], known[name])]
    if not (theirs / PREDICTIONS).exists():
        return differing
    predicted = [(out / PREDICTIONS).read_text().splitlines() for out in (ours, theirs)]
    return differing + ([PREDICTIONS] if predicted[0] != predicted[1] else [])


def summary_of(out: Path) -> dict[str, Any]:
    """That of a run that has ended."""
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def launch(
    config: Mapping[str, Any],
    out: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    said: Path | None = None,
) -> subprocess.Popen[bytes]:
    """The run in a process and a group of processes of its own.  said: a file for what it says on standard error."""
    out.mkdir(parents=True, exist_ok=True)
    file = out.with_suffix(".json")
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "hamdist", "run", str(file), "--out", str(out), "--quiet", *options]
    found = os.pathsep.join([*FOLDERS, *filter(None, [os.environ.get("PYTHONPATH")])])
    with Path(said or "/dev/null").open("ab") as errors:
        return subprocess.Popen(
            [*command, "--predictions", str(out / PREDICTIONS)],
            env={**os.environ, "PYTHONPATH": found, **(environment or {})},
            stderr=errors,
            start_new_session=True,
        )
