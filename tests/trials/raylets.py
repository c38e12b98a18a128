"""Two nodes on this machine, of which that without the driver dies: the run goes on on the other."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults import has_struck
from trials.faulty import CUTS, TICKS, Times, go, show, spent
from trials.runs import BATCH, LAYERS, NEVER, TWO, digits, same

from hamdist.cluster.session import prepare_environment


def trials(count: int, seed: int, folder: Path) -> int:
    """How many runs did not go on in place, to the bits of the undisturbed one."""
    chance, wrong, times = random.Random(seed), 0, Times()
    reference, config = folder / "whole", digits(TWO, TICKS * BATCH, checkpoint=NEVER)
    config["placement"] = {"runtime": "inline"}
    go(config, reference)
    for trial in range(count):
        marker = folder / f"raylet-{trial}.struck"
        fault = {
            "kind": "raylet",
            "node": chance.choice(LAYERS),
            "tick": chance.randrange(5, TICKS - 5),
            "marker": str(marker),
            "driver": os.getpid(),
        }
        out, began = folder / f"raylet-{trial}", time.perf_counter()
        with two_nodes() as address:
            summary = go(pinned(fault, address, chance.randrange(2)), out)
        differing = same(out, reference)
        passed = has_struck(marker) and len(summary["restarts"]) >= 1 and not differing
        wrong += not passed
        times.setdefault(("raylet", 0), []).extend(spent(summary, marker))
        told = f"{len(summary['restarts'])} restarts, {time.perf_counter() - began:.1f} s"
        print(f"{trial}: raylet of {fault['node']}: {told}, {differing or 'the same bits'}", flush=True)
    print(f"{count} raylets, {wrong} not as the undisturbed run")
    show(times)
    return wrong


def pinned(fault: dict[str, Any], address: str, spares: int) -> dict[str, Any]:
    """The actor of the node at which it strikes lives on the far node, the others on the driver's."""
    config = digits(TWO, TICKS * BATCH, fault, checkpoint=CUTS)
    sides = {actor[0]: {"labels": {"side": "far" if fault["node"] in actor else "near"}} for actor in TWO}
    config["placement"] |= {"address": address, "requests": sides, "spares": spares}
    return config


@contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster of two nodes, labelled near, where drivers of this machine are, and far."""
    prepare_environment()
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for side in ("near", "far"):
            cluster.add_node(num_cpus=2, labels={"side": side})
        yield cluster.address
    finally:
        cluster.shutdown()
