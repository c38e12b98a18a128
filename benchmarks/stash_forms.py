"""What each form of the stash takes of memory and time: fully local chains of 8 layers in one process.

Each measurement is a run in a process of its own, whose largest resident memory is taken beyond that of `current`,
which keeps nothing; beside it stands what `hamdist plan` says. A step is the time per batch of the stream.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch
from chain import Chain
from depth_parallel import ENVIRONMENT
from rounds import Times, in_rounds, ratio
from table import machine, show

import hamdist

CHAINS = {
    "large weights": Chain(depth=8, width=1024, batch=64),
    "large batches": Chain(depth=8, width=256, batch=512),
}
CURRENT, INPUTS, GRAPH = "current", "stashed, inputs", "stashed, graph"
FORMS = {
    CURRENT: {"pairing": "current"},
    INPUTS: {"pairing": "stashed", "stash": "inputs"},
    GRAPH: {"pairing": "stashed", "stash": "graph"},
}
Runs = dict[str, dict]
Peaks = dict[str, list[int]]


def config(chain: Chain, form: str, batches: int, samples: Path) -> dict:
    locality = {"mode": "local", **FORMS[form]}
    return chain.config(samples, batches, locality=locality, placement={"runtime": "inline"})


def measured(run: dict) -> tuple[float, int]:
    """Seconds a step, and the largest resident memory, of a run in this process."""
    with tempfile.TemporaryDirectory() as directory:
        summary = hamdist.run(run, out=f"{directory}/run")
    return run["stream"]["batch_size"] / summary["samples_per_second"], summary["peak_memory_bytes"]["inline"]


def seconds(run: dict, peaks: list[int]) -> float:
    """Seconds a step in a process of its own; what it took of memory is added to `peaks`."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        taken, peak = pool.apply(measured, (run,))
    peaks.append(peak)
    return taken


def measure(chain: Chain, rounds: int, batches: int, samples: Path) -> tuple[Times, Runs, Peaks]:
    runs = {form: config(chain, form, batches, samples) for form in FORMS}
    peaks: Peaks = {form: [] for form in runs}
    times = in_rounds({form: partial(seconds, run, peaks[form]) for form, run in runs.items()}, rounds)
    return times, runs, peaks


def report(name: str, chain: Chain, times: Times, runs: Runs, peaks: Peaks) -> None:
    plans = {form: sum(row.stash_bytes for row in hamdist.plan(run).layers) for form, run in runs.items()}
    least = statistics.median(peaks[CURRENT])
    rows = [
        (
            form,
            1e3 * statistics.median(taken),
            ratio(taken, times[CURRENT]),
            plans[form] / 1e6,
            (statistics.median(peaks[form]) - least) / 1e6,
        )
        for form, taken in times.items()
    ]
    headings = ["pairing", "ms a step", "of current", "stash by plan, MB", "peak beyond current's, MB"]
    show(f"{name}: {chain.depth} x {chain.width}, batch {chain.batch}", headings, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds, batches = (1, 40) if parser.parse_args().quick else (5, 200)
    torch.set_num_threads(1)
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as directory:
        measurements = {}
        for name, chain in CHAINS.items():
            samples = Path(directory) / name
            samples.mkdir()
            chain.write_samples(samples)
            measurements[name] = measure(chain, rounds, batches, samples)
        for name, measurement in measurements.items():  # a plan takes memory, which a child would start with
            report(name, CHAINS[name], *measurement)
    print(machine())


if __name__ == "__main__":
    main()
