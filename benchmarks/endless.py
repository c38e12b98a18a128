"""Ten million ticks of one run, from a signal without end: resident memory stays flat, compiled and in one process.

Thirty-two units that turn in pairs, and fade, learn to foresee a sum of sines, forward in time, sample by sample.
Prints the resident memory along the way, its slope by least squares, and the error. The peer, in a process of its own
and for fewer ticks, is PyTorch's loop on the same stream: one step of backpropagation a sample.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import machine, show, verdict
from torch import nn

import hamdist
from hamdist.physics.statespace import CTB
from hamdist.report.progress import Snapshot
from hamdist.streams import Signals

UNITS, TAU, RATE, LIMIT_BYTES_PER_TICK = 32, 0.1, 0.01, 1.0
WARM = 0.02  # share of the ticks: buffers fill, and ticks are compiled
STREAM: Mapping[str, Any] = {"signal": "smoHfHa", "step": TAU}
TURNING: Mapping[str, float] = {"fastest": 2.0, "damping": 1.0}
PEER_SHARE = 100  # the peer takes so many times fewer ticks


def resident_bytes() -> int:
    """The resident memory of this process now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def config(ticks: int) -> dict[str, Any]:
    memory = {"type": "CTB", "input_size": 1, "hidden_size": UNITS, "output_size": 1, **TURNING}
    return {
        "name": "endless",
        "stream": {"source": "signals", **STREAM, "samples": ticks},
        "network": {"loss": "mse", "layers": [{"name": "memory", "modules": [memory]}]},
        "locality": {"mode": "nonlocal", "pairing": "current"},
        "learning": {"tau": TAU, "beta": RATE / TAU**2, "dissipation": {"weight": 2.0}},
        "placement": {"compile": True, "chunk": 16},
        "metrics_every": max(1, ticks // 100),
    }


def ours(ticks: int) -> None:
    points: list[tuple[int, int]] = []

    def seen(snapshot: Snapshot) -> None:
        if not points or snapshot.samples >= points[-1][0] + ticks // 200:
            points.append((snapshot.samples, resident_bytes()))

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        summary = hamdist.run(config(ticks), out=Path(folder) / "out", on_progress=seen)
        seconds = time.perf_counter() - started
    assert summary["samples_seen_once"]
    assert summary["samples"] == ticks
    late = np.array([point for point in points if point[0] >= WARM * ticks], dtype=float)
    slope = np.polyfit(late[:, 0], late[:, 1], 1)[0]
    shown = [points[round(i * (len(points) - 1) / 10)] for i in range(11)]
    show("Resident memory", ["tick", "MB"], [(f"{tick:,}", f"{size / 1e6:.2f}") for tick, size in shown])
    print(f"{ticks:,} ticks in {seconds:.0f} s, {1e6 * seconds / ticks:.1f} µs a tick, compiling included")
    print(f"mean squared error before learning {summary['prequential']['loss']:.3g}")
    print(verdict("bytes per tick", slope, LIMIT_BYTES_PER_TICK))


def peer(ticks: int) -> None:
    torch.manual_seed(0)
    module = CTB(1, UNITS, 1, **TURNING)
    optimiser = torch.optim.SGD(module.parameters(), lr=RATE, momentum=1 - 2 * TAU, foreach=True)
    state, started, total = None, time.perf_counter(), 0.0
    for batch in islice(Signals(**STREAM), ticks):
        optimiser.zero_grad()
        output, after = module(batch.inputs, state, TAU)
        loss = nn.functional.mse_loss(output, batch.targets)
        loss.backward()
        optimiser.step()
        state, total = tuple(xi.detach() for xi in after), total + loss.item()
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
