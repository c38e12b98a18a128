"""Ten million ticks of one run, from a signal without end: resident memory stays flat, compiled and in one process.

Thirty-two units that turn in pairs, and fade, learn to foresee a sum of sines, forward in time, sample by sample.
Prints the resident memory along the way, its slope by least squares, and the error. The peer, in a process of its own
and for fewer ticks, is PyTorch's loop on the same stream: one step of backpropagation a sample.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from resident import report_memory, resident_bytes
from table import machine
from turning import STEP, PyTorchs, config

import hamdist
from hamdist.report.progress import Snapshot
from hamdist.streams import Signals

WARM = 0.02  # share of the ticks: buffers fill, and ticks are compiled
STREAM: Mapping[str, Any] = {"signal": "smoHfHa", "step": STEP}
PEER_SHARE = 100  # the peer takes so many times fewer ticks


def settings(ticks: int) -> dict[str, Any]:
    stream = {"source": "signals", **STREAM, "samples": ticks}
    placement = {"compile": True, "chunk": 16}
    return config(stream, placement=placement, metrics_every=max(1, ticks // 100))


def ours(ticks: int) -> None:
    points: list[tuple[int, int]] = []

    def seen(snapshot: Snapshot) -> None:
        if not points or snapshot.samples >= points[-1][0] + ticks // 200:
            points.append((snapshot.samples, resident_bytes()))

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        summary = hamdist.run(settings(ticks), out=Path(folder) / "out", on_progress=seen)
        seconds = time.perf_counter() - started
    assert summary["samples_seen_once"]
    assert summary["samples"] == ticks
    judged = report_memory(points, WARM * ticks)
    print(f"{ticks:,} ticks in {seconds:.0f} s, {1e6 * seconds / ticks:.1f} µs a tick, compiling included")
    print(f"mean squared error before learning {summary['prequential']['loss']:.3g}")
    print(judged)


def peer(ticks: int) -> None:
    pytorch, started, total = PyTorchs(), time.perf_counter(), 0.0
    for batch in islice(Signals(**STREAM), ticks):
        total += pytorch.step(batch.inputs, batch.targets).item()
    seconds = time.perf_counter() - started
    cost = f"{1e6 * seconds / ticks:.1f} µs a tick"
    print(f"PyTorch's loop: {ticks:,} ticks, {cost}, mean squared error {total / ticks:.3g}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ticks", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="a quarter of a million ticks")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    ticks = 250_000 if given.quick else given.ticks
    torch.set_num_threads(1)
    if given.peer:
        peer(ticks)
        return
    subprocess.run(
        [sys.executable, __file__, "--peer", "--ticks", str(max(1, ticks // PEER_SHARE))], check=True
    )
    ours(ticks)
    print(machine())


if __name__ == "__main__":
    main()
