"""What links cost where layers are tiny: 4 x 64 tanh, batch 1, on two actors, against all layers in one process.

The edge between the actors has a delay of 1, 2, 4 or 8 ticks, which leaves its messages that long to arrive; all other
edges have 1. Stacked and compiled, ticks run and cross in chunks of 8. A tick is timed after the first fifth of a run.
The links' share of it is what the busier of the two actors spends in sending and in waiting; not told where actors
also wait for each other's compiler. All start anew for every measurement and take turns; figures are medians.
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
from pace import timed_run
from rounds import in_rounds, ratio
from table import machine, show, verdict

CHAIN = Chain(depth=4, width=64, batch=1)
ACTORS = {"runtime": "ray", "actors": [[0, 1], [2, 3]], "address": "local"}
DELAYS = (1, 2, 4, 8)
FUSED = {"stacked": {"stack": True, "chunk": 8}, "compiled": {"compile": True, "chunk": 8}}
TIMES_THE_TICKS = 8  # of fused contenders, which are over so much sooner
INLINE = "inline"
LIMIT_MICROSECONDS = 150
FUSED_LIMIT_MICROSECONDS = 120


def microseconds(
    placement: dict[str, Any], delay: int, ticks: int, samples: Path, shares: list[float]
) -> float:
    """Of a tick.  delay: of the edge between layers 1 and 2.  shares: takes the links' share of it."""
    locality = {"mode": "local", "pairing": "current", "delays": {"1->2": delay}}
    config_of = partial(CHAIN.config, samples, locality=locality, placement=placement)
    seconds, summary = timed_run(config_of, ticks)
    spent = [place["wait_seconds"] + place["send_seconds"] for place in summary.get("places", ())]
    shares.append(1e6 * min(spent, default=0.0) / summary["ticks"])
    return 1e6 * seconds


def two_actors(delay: int, form: str = "") -> str:
    return f"two actors, delay {delay}" + (form and f", {form}")


def contenders(ticks: int, samples: Path, shares: dict[str, list[float]]) -> dict[str, Callable[[], float]]:
    """shares: takes those of each contender."""

    def measured(name: str, placement: dict[str, Any], delay: int, ticks: int) -> Callable[[], float]:
        return partial(microseconds, placement, delay, ticks, samples, shares.setdefault(name, []))

    found = {INLINE: measured(INLINE, {"runtime": "inline"}, 1, ticks)}
    for delay in DELAYS:
        found[two_actors(delay)] = measured(two_actors(delay), ACTORS, delay, ticks)
    for form, settings in FUSED.items():
        name = two_actors(8, form)
        found[name] = measured(name, {**ACTORS, **settings}, 8, TIMES_THE_TICKS * ticks)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds, ticks = (1, 2000) if parser.parse_args().quick else (5, 10_000)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # every process started from here inherits it
    shares: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        CHAIN.write_samples(Path(directory))
        times = in_rounds(contenders(ticks, Path(directory), shares), rounds)
    fused = {two_actors(8, form) for form in FUSED}
    rows = []
    for name, taken in times.items():
        share = "–" if name in fused else f"{statistics.median(shares[name]):.0f}"
        rows.append((name, statistics.median(taken), ratio(taken, times[INLINE]), share))
    show("Tiny layers", ["4 x 64, batch 1", "µs a tick", "it / inline", "links' share, µs"], rows)
    share = statistics.median(shares[two_actors(1)])
    print(verdict("links' share at delay 1, µs", share, LIMIT_MICROSECONDS))
    best = min(statistics.median(times[name]) for name in fused)
    print(
        verdict("a tick at delay 8, the faster of stacked and compiled, µs", best, FUSED_LIMIT_MICROSECONDS)
    )
    print(machine())


if __name__ == "__main__":
    main()
