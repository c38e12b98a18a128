"""A run over actors ends bit for bit where it would have ended undisturbed, whatever happens to a process or a link.

Faults of several kinds share a run where they can: a run over Ray takes seconds to start.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from faults import SOURCE, has_struck
from trials.runs import NEVER, TWO, digits, same, summary_of

from hamdist import run
from hamdist.cluster.stand_ins import StandIns
from hamdist.config.loader import load
from hamdist.errors import RunError
from hamdist.runs.checkpoints import CHECKPOINTS, newest_whole
from hamdist.runs.folder import Folder
from hamdist.runs.resumable import fixed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_ray")]

SAMPLES = 1600
Faults = Mapping[str, tuple[str, int]]  # by node: of which kind, and from which tick on


def config(folder: Path, faults: Faults | None = None, **more: Any) -> dict[str, Any]:
    """Digits over two actors, with a cut every 20 ticks.  folder: for the marks of the faults."""
    orders = [
        {
            "kind": kind,
            "node": node,
            "tick": tick,
            "marker": str(folder / f"{node}.struck"),
            "driver": os.getpid(),
        }
        for node, (kind, tick) in (faults or {}).items()
    ]
    return digits(TWO, SAMPLES, *orders, **{"checkpoint": {"every_ticks": 20}, **more})


@pytest.fixture(scope="module")
def undisturbed(one_ray: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    out = folder / "out"
    run(config(folder, checkpoint=NEVER), ["placement.runtime=inline"], out=str(out))
    return out


def disturbed(folder: Path, faults: Faults, *overrides: str, **more: Any) -> dict[str, Any]:
    """The summary of a run with these faults, all of which have struck."""
    summary = run(config(folder, faults, **more), overrides, out=str(folder / "out"))
    assert [node for node in faults if not has_struck(folder / f"{node}.struck")] == []
    assert summary["samples_seen_once"]
    return summary


def refuse(*arguments: Any) -> None:
    raise AssertionError("a spare was there")


def test_a_spare_stands_in_for_an_actor_that_is_killed_and_links_and_frames_that_fail_cost_nobody(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Survivors go on after a link that is cut, a frame that is corrupted, and one that is lost."""
    monkeypatch.setattr(StandIns, "_inside", refuse)
    faults = {"second": ("kill", 25), "head": ("cut", 45), "first": ("corrupt", 65), SOURCE: ("drop", 85)}
    summary = disturbed(tmp_path, faults, "placement.spares=1")
    lost = [restart["lost"] for restart in summary["restarts"]]
    assert lost == [["actor 1 (second and head)"], [], [], []]
    assert "it died" in summary["restarts"][0]["cause"]
    assert same(tmp_path / "out", undisturbed) == []


def test_who_dies_while_it_writes_a_checkpoint_who_is_frozen_and_a_killed_stream_are_replaced(
    undisturbed: Path, tmp_path: Path
) -> None:
    faults = {"second": ("kill_writing", 5), "first": ("freeze", 25), SOURCE: ("kill", 95)}
    summary = disturbed(tmp_path, faults)
    restarts = summary["restarts"]
    lost = [["actor 1 (second and head)"], ["actor 0 (first)"], ["the stream"]]
    assert [
        restart["lost"] for restart in restarts
    ] == lost  # the stream is ahead of the others by many ticks
    assert restarts[0]["tick"] == 0  # for want of a whole cut
    assert "it was frozen" in restarts[1]["cause"]
    assert all(restart["tick"] % 20 == 0 for restart in restarts)
    assert same(tmp_path / "out", undisturbed) == []
    found = newest_whole(Folder(tmp_path / "out" / CHECKPOINTS), fixed(load(config(tmp_path, faults)).config))
    assert found is not None
    assert found.spoilt == ()
    assert found.tick == summary["checkpoints"]["last_tick"]


def test_what_a_stream_that_cannot_seek_has_said_is_said_again(undisturbed: Path, tmp_path: Path) -> None:
    """From where the last checkpoint is that fitted on the disk. A pause costs nothing."""
    once = {
        "source": "iterable",
        "factory": "faults:digits_once",
        "batch_size": 16,
        "samples": SAMPLES,
    }
    faults = {"first": ("disk", 5), "second": ("kill", 45), "head": ("delay", 80)}
    summary = disturbed(tmp_path, faults, stream=once)
    assert [restart["lost"] for restart in summary["restarts"]] == [["actor 1 (second and head)"]]
    assert summary["checkpoints"]["failed"] <= 2  # one of which a kill comes before the news is not counted
    assert same(tmp_path / "out", undisturbed) == []


def test_where_nobody_can_take_over_the_run_ends_and_keeps_what_survivors_have(
    one_ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lost one is named with the tick and the cause, and no folder of sockets is left."""

    def nobody(*arguments: Any) -> None:
        raise RunError("no node of the cluster answers any more")

    monkeypatch.setattr(StandIns, "take", nobody)
    config_of_it, out = (
        config(tmp_path, {"second": ("kill", 50)}, recovery={"max_failures": 2}),
        tmp_path / "out",
    )
    with pytest.raises(RunError) as caught:
        run(config_of_it, out=str(out))
    told = str(caught.value)
    assert told.startswith("actor 1 (second and head) was lost at about tick ")
    assert int(told.split("tick ")[1].split(":")[0]) in range(45, 60)
    assert "it died: " in told
    assert f"the weights of first are in {out}, those of second and head are lost" in told
    summary = summary_of(out)
    assert (summary["status"], summary["error"]) == ("failed", told.partition("; the weights")[0])
    assert {path.stem for path in (out / "weights").iterdir()} == {"first"}
    causes = [restart["cause"] for restart in summary["restarts"]]
    assert causes[1:] == ["no node of the cluster answers any more"]
    assert list(one_ray.glob("hamdist-*")) == []
