"""A cluster of two nodes on this machine: a layer pinned to each by a label, and what joining it can meet with."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import has_struck
from safetensors.torch import load_file
from trials.runs import TWO, digits, same

from hamdist import run
from hamdist.cluster.session import prepare_environment, ray_session
from hamdist.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes, labelled east and west; nobody is connected to them yet."""
    prepare_environment()
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for side in ("east", "west"):
            cluster.add_node(num_cpus=1, labels={"side": side})
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture
def address(cluster: Any) -> str:
    """Of the cluster."""
    return str(cluster.address)


def test_a_layer_on_each_node(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    few = ["stream.samples=320", "stream.holdout=0", "placement.runtime=ray", f"placement.address={address}"]
    halves = [["embed", "block0", "block1"], ["block2", "block3", "head"]]
    asked = {"embed": {"labels": {"side": "west"}}, "head": {"labels": {"side": "east"}}}
    summary = run("digits", [*few, f"placement.actors={halves}", f"placement.requests={asked}"], out="ray")
    run("digits", [*few, "placement.runtime=inline"], out="inline")
    assert summary["samples_seen_once"]
    assert len({place["node"] for place in summary["places"]}) == 2
    for file in Path("inline/weights").iterdir():
        ours, theirs = load_file(Path("ray/weights", file.name)), load_file(file)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_node_that_dies_is_done_without(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place: what it had goes on on another one, to the bits of the run in one process."""
    monkeypatch.chdir(tmp_path)
    cluster.add_node(num_cpus=1, labels={"side": "south"})
    marker = tmp_path / "struck"
    fault = {"kind": "raylet", "node": "second", "tick": 30, "marker": str(marker), "driver": os.getpid()}
    config = digits(TWO, 1600, fault, checkpoint={"every_ticks": 20})
    run(digits(TWO, 1600), ["placement.runtime=inline"], out=str(tmp_path / "inline"))
    asked = {"first": {"labels": {"side": "east"}}, "second": {"labels": {"side": "south"}}}
    config["placement"] |= {"address": cluster.address, "requests": asked}
    summary = run(config, out=str(tmp_path / "ray"))
    assert has_struck(marker)
    (restart,) = summary["restarts"]
    assert "actor 1 (second and head)" in restart["lost"]  # others, too, where a busy machine stops them late
    assert same(tmp_path / "ray", tmp_path / "inline") == []


def test_another_version_of_ray_is_told(address: str, monkeypatch: pytest.MonkeyPatch):
    import ray

    monkeypatch.setattr(ray, "__version__", "1.2.3")
    with pytest.raises(ConfigError) as caught, ray_session(address):
        pass
    (problem,) = caught.value.problems
    assert problem.key == "placement.address"
    assert "1.2.3" in problem.message
    assert problem.message.endswith("install the same versions of Ray and Python here and on the cluster")


def test_a_cluster_that_is_not_there_is_told():
    with pytest.raises(ConfigError) as caught, ray_session("127.0.0.1:9"):
        pass
    assert caught.value.problems[0].message.startswith("the cluster at 127.0.0.1:9 cannot be joined: ")
    assert os.environ["RAY_AUTH_MODE"] == "token"
