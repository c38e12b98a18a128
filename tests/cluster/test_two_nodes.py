"""A cluster of three nodes on this machine: layers pinned to two by labels, and what joining it can meet with."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from faults import has_struck
from trials.runs import TWO, digits, same

from hamdist import run
from hamdist.cluster.session import prepare_environment, ray_session
from hamdist.errors import ConfigError

pytestmark = pytest.mark.slow


class Nodes(NamedTuple):
    """nodes: by the label of their side."""

    address: str
    nodes: dict[str, Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """Three nodes; nobody is connected to them yet."""
    prepare_environment()
    from ray import cluster_utils

    started = cluster_utils.Cluster()
    try:
        sides = ("east", "west", "south")
        nodes = {side: started.add_node(num_cpus=1, labels={"side": side}) for side in sides}
        yield Nodes(str(started.address), nodes)
    finally:
        started.shutdown()


def test_layers_are_on_the_nodes_they_ask_for_and_one_that_dies_is_done_without(
    cluster: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place: what it had goes on on another one, to the bits of the run in one process."""
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "struck"
    fault = {"kind": "raylet", "node": "second", "tick": 30, "marker": str(marker), "driver": os.getpid()}
    config = digits(TWO, 1600, fault, checkpoint={"every_ticks": 20})
    run(digits(TWO, 1600), ["placement.runtime=inline"], out=str(tmp_path / "inline"))
    asked = {"first": {"labels": {"side": "east"}}, "second": {"labels": {"side": "south"}}}
    config["placement"] |= {"address": cluster.address, "requests": asked}
    summary = run(config, out=str(tmp_path / "ray"))
    assert has_struck(marker)
    assert [side for side, node in cluster.nodes.items() if node.dead_processes()] == ["south"]
    first, second = (place["node"] for place in summary["places"])
    assert first == cluster.nodes["east"].node_id
    assert second in (first, cluster.nodes["west"].node_id)
    (restart,) = summary["restarts"]
    assert "actor 1 (second and head)" in restart["lost"]  # others, too, where a busy machine stops them late
    assert summary["samples_seen_once"]
    assert same(tmp_path / "ray", tmp_path / "inline") == []


def test_another_version_of_ray_is_told(cluster: Nodes, monkeypatch: pytest.MonkeyPatch):
    import ray

    monkeypatch.setattr(ray, "__version__", "1.2.3")
    with pytest.raises(ConfigError) as caught, ray_session(cluster.address):
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
