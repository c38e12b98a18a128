"""What links cost where layers are tiny: 4 x 64 tanh, batch 1, on two actors, against all layers in one process.

The edge between the actors has a delay of 1, 2, 4 or 8 ticks, which leaves its messages that long to arrive; all other
edges have 1. The links' share of a tick is what the busier of the two actors spends in sending and in waiting. All
start anew for every measurement and take turns; figures are medians over the rounds.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from chain import Chain
from rounds import in_rounds, ratio
from table import machine, show, verdict

import hamdist

CHAIN = Chain(depth=4, width=64, batch=1)
ACTORS = {"runtime": "ray", "actors": [[0, 1], [2, 3]], "address": "local"}
DELAYS = (1, 2, 4, 8)
INLINE = "inline"
LIMIT_MICROSECONDS = 150


def microseconds(
    placement: dict[str, Any], delay: int, ticks: int, samples: Path, shares: list[float]
) -> float:
    """Of a tick.  delay: of the edge between layers 1 and 2.  shares: takes the links' share of it."""
    locality = {"mode": "local", "pairing": "current", "delays": {"1->2": delay}}
    config = CHAIN.config(samples, ticks, locality=locality, placement=placement)
    with tempfile.TemporaryDirectory() as directory:
        summary = hamdist.run(config, out=f"{directory}/run")
    assert summary["samples_seen_once"]
    spent = [place["wait_seconds"] + place["send_seconds"] for place in summary.get("places", ())]
    shares.append(1e6 * min(spent, default=0.0) / summary["ticks"])
    return 1e6 / summary["ticks_per_second"]


def two_actors(delay: int) -> str:
    return f"two actors, delay {delay}"


def contenders(ticks: int, samples: Path, shares: dict[str, list[float]]) -> dict[str, Callable[[], float]]:
    inline = partial(microseconds, {"runtime": "inline"}, 1, ticks, samples, shares[INLINE])
    actors = {
        two_actors(delay): partial(microseconds, ACTORS, delay, ticks, samples, shares[two_actors(delay)])
        for delay in DELAYS
    }
    return {INLINE: inline, **actors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds, ticks = (2, 1000) if parser.parse_args().quick else (5, 10_000)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # every process started from here inherits it
    shares: dict[str, list[float]] = {name: [] for name in (INLINE, *map(two_actors, DELAYS))}
    with tempfile.TemporaryDirectory() as directory:
        CHAIN.write_samples(Path(directory))
        times = in_rounds(contenders(ticks, Path(directory), shares), rounds)
    share = {name: statistics.median(taken) for name, taken in shares.items()}
    rows = [
        (name, statistics.median(taken), ratio(taken, times[INLINE]), share[name])
        for name, taken in times.items()
    ]
    show("Tiny layers", ["4 x 64, batch 1", "µs a tick", "it / inline", "links' share, µs"], rows)
    print(verdict("links' share at delay 1, µs", share[two_actors(1)], LIMIT_MICROSECONDS))
    print(machine())


if __name__ == "__main__":
    main()
