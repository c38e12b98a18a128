"""Actors that take the place of lost ones: spares, which stand ready, or new ones, which take seconds to start.

A new one is started where the lost one was, in the place that the run has reserved there, if that node answers; else,
and spares always, beside what is reserved, on a node that answers now.
"""

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from hamdist.cluster.actor import FOR_LAYERS, FOR_THE_STREAM, Location
from hamdist.cluster.resources import Bundle
from hamdist.errors import RunError

ANSWER_SECONDS = 1.0  # for a node


class StandIn(NamedTuple):
    """node: its id."""

    node: str
    actor: Any


class StandIns:
    """remote: the class of actors.  placed: the placement group of the run.  bundles: its places.  count: of spares
    that are to stand ready.
    """

    def __init__(self, remote: Any, placed: Any, bundles: Sequence[Bundle], count: int) -> None:
        self._remote, self._placed, self._bundles, self._count = remote, placed, bundles, count
        self._spares: list[StandIn] = []
        self._used = 0
        self._homes: dict[int, str] = {}  # by number of an actor, the node of the place reserved for it

    def refill(self) -> None:
        """As many spares as there are to be, spread over the nodes; they start in the background, and reserve nothing
        but their memory.
        """
        nodes = answering()
        for node in islice(cycle(nodes), self._used, self._used + self._count - len(self._spares)):
            self._spares.append(StandIn(node, self._outside(node, (*FOR_LAYERS, *FOR_THE_STREAM))))
            self._used += 1

    def take(self, number: int, before: Location, layers: bool) -> Any:
        """An actor in the place of the one with this number.  before: where it was.  layers: whether it hosts any.

        Raises RunError where no node answers.
        """
        nodes, home = answering(), self._homes.setdefault(number, before.node)
        if not nodes:
            raise RunError("no node of the cluster answers any more")
        near = sorted(self._spares, key=lambda spare: spare.node != before.node)
        for spare in [] if self._needs_gpu(number) else near:
            self._spares.remove(spare)
            if spare.node in nodes:
                return spare.actor
        if home in nodes and number < len(self._bundles):
            return self._inside(number, layers)
        return self._outside(next(iter(nodes)), FOR_LAYERS if layers else FOR_THE_STREAM)

    def close(self) -> None:
        """No spare is left."""
        import ray

        for spare in self._spares:
            ray.kill(spare.actor)
        self._spares.clear()

    def _needs_gpu(self, number: int) -> bool:
        return number < len(self._bundles) and bool(self._bundles[number].resources.get("GPU"))

    def _inside(self, number: int, layers: bool) -> Any:
        return started(
            self._remote,
            self._placed,
            number,
            self._bundles[number],
            FOR_LAYERS if layers else FOR_THE_STREAM,
        )

    def _outside(self, node: str, modules: Sequence[str]) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        return self._remote.options(max_restarts=0, num_cpus=0, scheduling_strategy=there).remote(modules)


def started(remote: Any, placed: Any, number: int, bundle: Bundle, modules: Sequence[str]) -> Any:
    """An actor in a place of a placement group."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    place = PlacementGroupSchedulingStrategy(placed, placement_group_bundle_index=number)
    return remote.options(max_restarts=0, scheduling_strategy=place, **bundle.options()).remote(modules)


def answering() -> Mapping[str, str]:
    """The nodes of the cluster that answer now: id → host. Ray itself takes a while to see that one is gone."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    return {node["NodeID"]: node["NodeManagerAddress"] for node in alive if _answers(node)}


def _answers(node: Mapping[str, Any]) -> bool:
    try:
        address = (node["NodeManagerAddress"], node["NodeManagerPort"])
        socket.create_connection(address, ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def put_down(actor: Any, location: Location | None, own_node: str) -> None:
    """Ends an actor that may be dead, alive or frozen. Ray's own kill does not reach one that is frozen."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if location is not None and location.node == own_node:
        reap(location.pid)
    elif location is not None and location.node in answering():
        there = NodeAffinitySchedulingStrategy(location.node, soft=False)
        ray.remote(reap).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(location.pid)
    ray.kill(actor)


def reap(pid: int) -> None:
    """Ends a process of Ray on this machine."""
    with suppress(FileNotFoundError, ProcessLookupError):  # it is gone already, as it should be
        if pid != os.getpid() and Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
            os.kill(pid, signal.SIGKILL)
