"""Runs over Ray actors: the bits of the run in one process, and every kind of trouble told by name."""

import json
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.patience import patient
from support.ray_layers import SURVEY

from hamdist import plan, run
from hamdist.errors import ConfigError, NetworkError, RunError, UserError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_ray")]

LAYERS = ("first", "second", "head")
TWO = [["first"], ["second", "head"]]


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """The current folder: 200 samples of three classes."""
    x = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    np.save("x.npy", x)
    np.save("y.npy", x[:, :3].argmax(axis=1))
    return folder


def config(second: dict[str, Any] | None = None, **placement: Any) -> dict[str, Any]:
    layers = [
        {"name": "first", "modules": [linear(6, 8), {"type": "Tanh"}]},
        {"name": "second", "modules": [second or linear(8, 8), {"type": "Tanh"}]},
        {"name": "head", "modules": [linear(8, 3)]},
    ]
    return {
        "name": "small",
        "stream": {
            "source": "arrays",
            "inputs": str(Path("x.npy").resolve()),
            "targets": str(Path("y.npy").resolve()),
            "batch_size": 8,
            "holdout": 0.1,
        },
        "network": {"loss": "cross_entropy", "layers": layers},
        "metrics_every": 50,
        "recovery": {"max_failures": 0},
        "placement": {"runtime": "ray", "actors": TWO, "heartbeat_seconds": patient(20), **placement},
    }


def linear(inputs: int, outputs: int, kind: str = "Linear", **more: Any) -> dict[str, Any]:
    return {"type": kind, "in_features": inputs, "out_features": outputs, **more}


def weights_in(directory: str) -> dict[str, torch.Tensor]:
    files = sorted((Path(directory) / "weights").iterdir())
    return {f"{file.stem}.{key}": tensor for file in files for key, tensor in load_file(file).items()}


def lines_in(directory: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_over_actors_and_in_one_process_a_run_is_the_same_to_the_bit(folder: Path):
    """Three actors on two cores: each builds its own layer, the driver none."""
    marked = config(actors="per-layer")
    for layer in marked["network"]["layers"]:
        layer["modules"][0] |= {
            "type": "support.ray_layers:Marked",
            "folder": str(folder),
            "name": layer["name"],
        }
    over_actors = run(marked, out="ray", profile=True)
    builders = [{int(file.suffix[1:]) for file in folder.glob(f"{name}.*")} for name in LAYERS]
    assert [len(processes) for processes in builders] == [1, 1, 1]
    assert len({os.getpid()}.union(*builders)) == 4
    inline = run(config(), ["placement.runtime=inline"], out="inline")
    ours, theirs = weights_in("ray"), weights_in("inline")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert lines_in("ray") == lines_in("inline")
    assert over_actors["actors"] == 3
    told = ("status", "ticks", "samples", "samples_seen_once", "loss", "prequential", "holdout", "layers")
    assert {key: over_actors[key] for key in told} == {key: inline[key] for key in told}
    assert set(over_actors["startup_seconds"]) == {"ray", "stream", "layers", "shapes", "links"}
    assert [place["layers"] for place in over_actors["places"]] == [[name] for name in LAYERS]
    assert len(over_actors["peak_memory_bytes"]) == 4
    has_every_actor_on_one_clock(over_actors)


def has_every_actor_on_one_clock(summary: dict[str, Any]) -> None:
    """The profile: whatever an actor heard was sent before. Three batches of hold-out follow the ticks of learning, two
    ticks until their predictions are out, and three that tell every node of the end."""
    ticks = summary["ticks"] + 3 + 2 + 3
    names = ["actor 0 (first)", "actor 1 (second)", "actor 2 (head)", "the stream"]
    assert list(summary["profile"]) == names
    for told in summary["profile"].values():
        assert set(told["percent"]) == {"compute", "integrate", "wait", "send", "read", "other"}
        assert sum(told["percent"].values()) == pytest.approx(100)
    assert {told["ticks"] for told in summary["profile"].values()} == {ticks}
    events = json.loads(Path("ray/trace.json").read_text())["traceEvents"]
    assert [e["args"]["name"] for e in events if e["name"] == "process_name"] == names
    by_actor = [[e for e in events if e["ph"] == "X" and e["pid"] == pid] for pid in range(4)]
    for spans in by_actor:
        assert all(one["ts"] + one["dur"] <= next["ts"] + 1e-3 for one, next in pairwise(spans))
        assert {span["args"]["tick"] for span in spans} == set(range(ticks))
    heard = frames(by_actor[1], "wait", "first->second")
    sent = frames(by_actor[0], "send", "first->second")
    assert len(heard) == len(sent) - 1  # it begins with one that was never sent
    assert all(s["ts"] < h["ts"] + h["dur"] for s, h in zip(sent, heard, strict=False))


def frames(spans: list[dict[str, Any]], kind: str, where: str) -> list[dict[str, Any]]:
    """The spans of one kind along one edge."""
    return [span for span in spans if (span["name"], span["args"].get("where")) == (kind, where)]


def test_what_layers_cannot_be_built_on_workers_is_told_of_all_at_once():
    """With the actor, the node, and the import that failed; the run has left nothing behind."""
    broken = config({"type": "support.ray_layers:Refuses"})
    broken["network"]["layers"][0]["modules"][0] = linear(6, 8, "not_there:Module")
    with pytest.raises(NetworkError) as caught:
        run(broken, out="out")
    missing, refused = (str(problem) for problem in caught.value.problems)
    assert missing.startswith("network.layers.0.modules.0.type: there is no module 'not_there'")
    assert "(actor 0 (first), on node " in missing
    assert "support.ray_layers:Refuses(): not in this house (actor 1 (second and head), on node " in refused
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("requests", "told"),
    [
        (
            {"head": {"resources": {"quantum": 1}}},
            "asks for CPU: 1, quantum: 1, which no node has; the nodes have ",
        ),
        ({"head": {"gpus": 2}}, "asks for CPU: 1, GPU: 2, which no node has"),
        ({"head": {"cpus": 64}}, "second, head asks for CPU: 64, which no node has"),
        ({"head": {"labels": {"zone": "moon"}}}, "asks for CPU: 1, label zone=moon, which no node has"),
    ],
)
def test_what_no_node_has_is_told_before_anything_starts(requests, told):
    for do in (lambda c: run(c, out="out"), plan):
        with pytest.raises(ConfigError) as caught:
            do(config(requests=requests))
        assert str(caught.value).startswith("placement.requests: the actor of ")
        assert told in str(caught.value)
    assert not Path("out").exists()


def test_a_layer_that_raises_is_told_with_its_traceback():
    """What its neighbours say, which only lost it, is not."""
    with pytest.raises(RunError) as caught:
        run(config(linear(8, 8, "support.ray_layers:Fails", at=SURVEY + 10)), out="out")
    assert re.fullmatch(r"layer 'second' failed at tick \d+: out of numbers", str(caught.value))
    (note,) = caught.value.__notes__
    assert note.startswith("In the actor:\nTraceback")
    assert "ArithmeticError: out of numbers" in note
    assert {path.stem for path in Path("out/weights").iterdir()} == {"first", "second", "head"}


def test_a_stream_that_would_end_its_actor_ends_the_run():
    """What had entered is learnt."""
    ending = config(actors=1)
    ending["stream"] = {"source": "iterable", "factory": "support.ray_layers:exits", "batch_size": 8}
    with pytest.raises(RunError) as caught:
        run(ending, out="out")
    assert str(caught.value) == "the stream failed after 40 samples: SystemExit(3)"
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["status"], summary["samples"], summary["samples_seen_once"]) == ("failed", 40, True)
    assert {path.stem for path in Path("out/weights").iterdir()} == {"first", "second", "head"}


def test_a_stream_that_cannot_be_opened_is_told_as_in_one_process():
    broken = config(actors=1)
    broken["stream"]["inputs"] = "nowhere.npy"
    with pytest.raises(UserError, match=r"^stream\.inputs: there is no file nowhere\.npy"):
        run(broken, out="out")


def test_the_plan_shows_the_actors():
    rows = plan(config(), ["placement.actors=2"]).layers
    assert [row.actor for row in rows] == [0, 1, 1]
    assert {row.actor for row in plan(config(), ["placement.runtime=inline"]).layers} == {0}
