"""A run over actors ends bit for bit where it would have ended undisturbed, whatever happens to a process or a link."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from support.patience import patient
from support.whole_runs import figures, weights_in

from hamdist import run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_ray")]

SAMPLES = 1600
HEARTBEAT = patient(2)


def config(fault: dict[str, Any] | None = None, node: str = "second", **more: Any) -> dict[str, Any]:
    """Digits over two actors, with a cut every 20 ticks.  fault: what happens to the actor, or to the stream."""
    told = None if fault is None else {**fault, "driver": os.getpid()}
    layers = [
        {"name": name, "modules": [linear(name, told, node), {"type": "Tanh"}]}
        for name in ("first", "second")
    ]
    stream: dict[str, Any] = {"source": "digits", "batch_size": 16, "samples": SAMPLES}
    return {
        "name": "digits",
        "stream": stream,
        "network": {
            "loss": "cross_entropy",
            "layers": [*layers, {"name": "head", "modules": [linear("head", None, "")]}],
        },
        "locality": {"mode": "local", "pairing": "stashed"},
        "learning": {"beta": 0.05, "dissipation": {"weight": 0.2}},
        "metrics_every": 200,
        "placement": {
            "runtime": "ray",
            "actors": [["first"], ["second", "head"]],
            "heartbeat_seconds": HEARTBEAT,
        },
        "checkpoint": {"every_ticks": 20},
        **more,
    }


def linear(name: str, fault: dict[str, Any] | None, node: str) -> dict[str, Any]:
    sizes = {"in_features": 64, "out_features": 10 if name == "head" else 64}
    if fault is None or node != name:
        return {"type": "Linear", **sizes}
    return {"type": "faults:Faulty", **sizes, "node": node, **fault}


@pytest.fixture(scope="module")
def undisturbed(one_ray: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(config(checkpoint={"when": "never"}), out=str(out))
    return out


@pytest.mark.parametrize("kind", ["kill", "freeze", "cut", "corrupt", "drop"])
def test_after_a_fault_a_run_ends_with_the_bits_of_the_undisturbed_one(
    kind: str, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fault = {"kind": kind, "tick": 47, "marker": str(tmp_path / "struck")}
    summary = run(config(fault), out=str(out))
    assert (tmp_path / "struck").exists()
    assert len(summary["restarts"]) == 1
    assert summary["samples_seen_once"]
    assert figures(out) == figures(undisturbed)
    ours, theirs = weights_in(out), weights_in(undisturbed)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
