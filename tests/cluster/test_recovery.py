"""A run over actors ends bit for bit where it would have ended undisturbed, whatever happens to a process or a link.

Faults of several kinds share a run where they can: a run over Ray takes seconds to start.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import SOURCE, has_struck
from support.patience import patient
from support.whole_runs import figures, weights_in

from hamdist import run
from hamdist.cluster.stand_ins import StandIns
from hamdist.config.loader import load
from hamdist.runs.checkpoints import CHECKPOINTS, newest_whole
from hamdist.runs.folder import Folder
from hamdist.runs.resumable import fixed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_ray")]

SAMPLES = 1600
HEARTBEAT = patient(2)
Faults = Mapping[str, tuple[str, int]]  # by node: of which kind, and from which tick on


def config(folder: Path, faults: Faults | None = None, **more: Any) -> dict[str, Any]:
    """Digits over two actors, with a cut every 20 ticks.  folder: for the marks of the faults."""
    orders = {
        node: {"kind": kind, "tick": tick, "marker": str(folder / f"{node}.struck"), "driver": os.getpid()}
        for node, (kind, tick) in (faults or {}).items()
    }
    args = {"count": SAMPLES, **orders.pop(SOURCE, {})}
    first, second, head = (linear(name, orders.get(name)) for name in ("first", "second", "head"))
    tanh = {"type": "Tanh"}
    return {
        "name": "digits",
        "stream": {
            "source": "torch",
            "factory": "faults:digits",
            "args": args,
            "batch_size": 16,
            "samples": SAMPLES,
        },
        "network": {
            "loss": "cross_entropy",
            "layers": [
                {"name": "first", "modules": [first, tanh]},
                {"name": "second", "modules": [second, tanh]},
                {"name": "head", "modules": [head]},
            ],
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


def linear(name: str, fault: Mapping[str, Any] | None) -> dict[str, Any]:
    sizes = {"in_features": 64, "out_features": 10 if name == "head" else 64}
    if fault is None:
        return {"type": "Linear", **sizes}
    return {"type": "faults:Faulty", **sizes, "node": name, **fault}


@pytest.fixture(scope="module")
def undisturbed(one_ray: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(config(folder), ["placement.runtime=inline", "checkpoint.when=never"], out=str(folder / "out"))
    return folder / "out"


def is_as(out: Path, undisturbed: Path) -> None:
    """The same figures, lines of metrics and weights, to the last bit."""
    assert figures(out) == figures(undisturbed)
    ours, theirs = weights_in(out), weights_in(undisturbed)
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def disturbed(folder: Path, faults: Faults, *overrides: str, **more: Any) -> dict[str, Any]:
    """The summary of a run with these faults, all of which have struck."""
    summary = run(config(folder, faults, **more), overrides, out=str(folder / "out"))
    assert [node for node in faults if not has_struck(folder / f"{node}.struck")] == []
    assert summary["samples_seen_once"]
    return summary


def refuse(*arguments: Any) -> None:
    raise AssertionError("a spare was there")


def test_a_spare_stands_in_for_an_actor_that_is_killed_and_survivors_go_on_after_a_corrupted_frame(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandIns, "_inside", refuse)
    summary = disturbed(tmp_path, {"second": ("kill", 30), "first": ("corrupt", 70)}, "placement.spares=1")
    assert [restart["lost"] for restart in summary["restarts"]] == [["actor 1 (second and head)"], []]
    assert "it died" in summary["restarts"][0]["cause"]
    is_as(tmp_path / "out", undisturbed)


def test_a_frozen_actor_and_a_killed_stream_are_replaced(undisturbed: Path, tmp_path: Path) -> None:
    summary = disturbed(tmp_path, {"first": ("freeze", 25), SOURCE: ("kill", 75)})
    assert [restart["lost"] for restart in summary["restarts"]] == [["actor 0 (first)"], ["the stream"]]
    assert all(restart["tick"] % 20 == 0 for restart in summary["restarts"])
    is_as(tmp_path / "out", undisturbed)


def test_a_kill_in_the_midst_of_writing_a_checkpoint_a_link_that_is_cut_and_a_frame_that_is_lost(
    undisturbed: Path, tmp_path: Path
) -> None:
    faults = {"second": ("kill_writing", 5), "first": ("cut", 55), SOURCE: ("drop", 90)}
    summary = disturbed(tmp_path, faults)
    assert [restart["lost"] for restart in summary["restarts"]] == [["actor 1 (second and head)"], [], []]
    assert summary["restarts"][0]["tick"] == 0  # for want of a whole cut
    is_as(tmp_path / "out", undisturbed)
    found = newest_whole(Folder(tmp_path / "out" / CHECKPOINTS), fixed(load(config(tmp_path, faults)).config))
    assert found is not None
    assert found.spoilt == ()
    assert found.tick == summary["checkpoints"]["last_tick"]


def test_a_full_disk_costs_checkpoints_and_a_pause_nothing(undisturbed: Path, tmp_path: Path) -> None:
    faults = {"first": ("disk", 5), "second": ("delay", 50)}
    summary = disturbed(tmp_path, faults, "recovery.max_failures=0")
    assert summary["restarts"] == []
    assert summary["checkpoints"]["failed"] in (1, 2)
    is_as(tmp_path / "out", undisturbed)


def test_what_a_stream_that_cannot_seek_has_said_is_said_again(undisturbed: Path, tmp_path: Path) -> None:
    once = {
        "source": "iterable",
        "factory": "faults:digits_once",
        "args": {"count": SAMPLES},
        "batch_size": 16,
        "samples": SAMPLES,
    }
    summary = disturbed(tmp_path, {"second": ("kill", 45)}, stream=once)
    assert [restart["lost"] for restart in summary["restarts"]] == [["actor 1 (second and head)"]]
    is_as(tmp_path / "out", undisturbed)
