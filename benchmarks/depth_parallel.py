"""Two actors with half of the layers each, fully local: 8 x 1024 tanh, batch 64, one thread a process.

Beside them, in the same run: PyTorch in one process; torch.distributed.pipelining on two (gloo); and the limit, two
processes that train their halves and never talk. All start anew for every measurement and take turns; figures are
medians over the rounds, ratios medians of the rounds' ratios.

A step of hamdist is the time per batch of the stream after the first fifth of it, in which the network fills, and
stacked ticks are traced. 1F1B refuses fewer microbatches than stages. Every process keeps the memory it frees: to give
it back to the system and fetch it again took the PyTorch loops up to a quarter of their time, more or less as the heap
happened to lie.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from chain import Chain
from pace import timed_run
from pipeline_peers import apart, pipelined, seconds, single
from rounds import Times, in_rounds, ratio
from table import machine, show, verdict
from torch.distributed.pipelining import Schedule1F1B, ScheduleGPipe

CHAIN = Chain(depth=8, width=1024, batch=64)
PLACEMENT = {"runtime": "ray", "actors": [[0, 1, 2, 3], [4, 5, 6, 7]], "address": "local"}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the largest that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
LIMIT = "limit: two halves that never talk"
PIPELINES = {
    f"pipelining, {schedule.__name__[8:]}, {count} microbatch{'es' if count > 1 else ''}": (schedule, count)
    for schedule, counts in ((ScheduleGPipe, (1, 2, 4, 8)), (Schedule1F1B, (2, 4, 8)))
    for count in counts
}
CURRENT, STASHED, GRAPH = "hamdist, current", "hamdist, stashed", "hamdist, stashed, graph"
STACKED = "hamdist, current, stacked"
OURS = {
    CURRENT: ({"pairing": "current"}, {}),
    STACKED: ({"pairing": "current"}, {"stack": True}),
    STASHED: ({"pairing": "stashed"}, {}),
    GRAPH: ({"pairing": "stashed", "stash": "graph"}, {}),
}
LEAST_OF_LIMIT = {CURRENT: 0.95, GRAPH: 0.90}
LEAST_OVER_PIPELINES = 1.5


def contenders(steps: int, batches: int, samples: Path, pipelines: bool) -> dict[str, Callable[[], float]]:
    """Functions that measure the seconds of a step."""
    peers = {LIMIT: partial(apart, CHAIN), "PyTorch, one process": partial(single, CHAIN)}
    for name, (schedule, count) in PIPELINES.items() if pipelines else ():
        peers[name] = partial(pipelined, schedule, count, CHAIN)
    return {
        **{name: partial(seconds, peer, steps) for name, peer in peers.items()},
        **{name: partial(ours, *settings, batches, samples) for name, settings in OURS.items()},
    }


def ours(pairing: dict[str, str], form: dict[str, bool], batches: int, samples: Path) -> float:
    locality, placement = {"mode": "local", **pairing}, {**PLACEMENT, **form}
    config_of = partial(CHAIN.config, samples, locality=locality, placement=placement)
    return timed_run(config_of, batches)[0]


def report(times: Times) -> None:
    best = min(PIPELINES.keys() & times, key=lambda name: statistics.median(times[name]), default=None)
    rows = []
    for name, taken in times.items():
        spread = [1e3 * figure for figure in (statistics.median(taken), min(taken), max(taken))]
        over = "–" if best is None else f"{ratio(times[best], taken):.4g}"
        rows.append((name, *spread, ratio(times[LIMIT], taken), over))
    headings = ["8 x 1024, batch 64", "ms a step", "least", "most", "limit / it", "best pipeline / it"]
    show("Parallel in depth on two processes", headings, rows)
    for name, least in LEAST_OF_LIMIT.items():
        print(verdict(f"{name}: limit / it", ratio(times[LIMIT], times[name]), least, at_most=False))
    if best is not None:
        faster = ratio(times[best], times[CURRENT])
        print(verdict(f"{CURRENT}: {best} / it", faster, LEAST_OVER_PIPELINES, at_most=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-pipelines", action="store_true", help="hamdist and the limit alone")
    given = parser.parse_args()
    rounds, steps, batches = (1, 10, 60) if given.quick else (5, 100, 500)
    torch.set_num_threads(1)
    os.environ.update(ENVIRONMENT)  # every process started from here inherits it
    with tempfile.TemporaryDirectory() as directory:
        CHAIN.write_samples(Path(directory))
        found = contenders(steps, batches, Path(directory), not given.no_pipelines)
        report(in_rounds(found, rounds))
    print(machine())


if __name__ == "__main__":
    main()
