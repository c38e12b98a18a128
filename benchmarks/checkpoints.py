"""What checkpoints cost: 8 × 1024 over two actors with momentum, interleaved with the same run without any.

A run of a minute sees few of the default interval's, so checkpoints are written more often here, and their cost is
told of an interval of 60 s: the share of the time that they take, times the shorter interval, over 60.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chain import Chain
from pace import STARTING, seconds_a_tick
from rounds import in_rounds, ratio
from safetensors import safe_open
from table import machine, show, verdict

import hamdist
from hamdist.report.progress import Snapshot

CHAIN = Chain(depth=8, width=1024, batch=64)
DEFAULT_SECONDS = 60.0
COST, SIZE = 1.01, 1.05


def run_once(samples: Path, ticks: int, checkpoint: Mapping[str, Any], seen: list[dict[str, Any]]) -> float:
    """Seconds of a tick."""
    config = CHAIN.config(
        samples,
        ticks,
        locality={"mode": "local", "pairing": "stashed"},
        placement={"runtime": "ray", "actors": 2},
        checkpoint=checkpoint,
    )
    config["learning"]["dissipation"] = {"weight": 0.1}
    snapshots: list[Snapshot] = []
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "run")
        summary = hamdist.run(config, out=str(out), on_progress=snapshots.append)
        sizes = list(file_and_tensors(out))
    if "checkpoints" in summary:
        seen.append({**summary["checkpoints"], "sizes": sizes})
    counted = [snapshot for snapshot in snapshots if snapshot.ticks >= STARTING * ticks]
    return seconds_a_tick(counted[0], counted[-1])


def file_and_tensors(out: Path) -> Iterator[tuple[int, int]]:
    """Of the newest checkpoint: bytes on disk, and of the tensors in it."""
    for folder in sorted(out.glob("checkpoints/tick-*"))[-1:]:
        files = list(folder.iterdir())
        tensors = 0
        for part in folder.glob("*.safetensors"):
            with safe_open(part, framework="pt") as file:
                tensors += sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118 - no dict
        yield sum(file.stat().st_size for file in files), tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two checkpoints")
    parser.add_argument("--ticks", type=int, default=1200)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    pairs, ticks = (2, 400) if asked.quick else (asked.pairs, asked.ticks)
    seen: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder)
        CHAIN.write_samples(samples)
        often = {"every_seconds": asked.every}
        times = in_rounds(
            {
                "none": lambda: run_once(samples, ticks, {"when": "never"}, seen),
                "checkpoints": lambda: run_once(samples, ticks, often, seen),
            },
            pairs,
        )
    cost = ratio(times["checkpoints"], times["none"])
    scaled = 1 + (cost - 1) * asked.every / DEFAULT_SECONDS
    show(
        f"8 × 1024 over two actors, {machine()}",
        ("", "ms a tick"),
        [(name, 1000 * statistics.median(each)) for name, each in times.items()],
    )
    written = sum(each["written"] for each in seen)
    print(f"{written} checkpoints, one every {asked.every:g} s: {cost:.4f} ×")
    print(verdict(f"every {DEFAULT_SECONDS:g} s, of the time without", scaled, COST))
    sizes = [size / tensors for each in seen for size, tensors in each["sizes"]]
    if sizes:
        print(verdict("bytes on disk, of the tensors'", max(sizes), SIZE))
    print(json.dumps({"longest_pause_seconds": max(each["longest_pause_seconds"] for each in seen)}))


if __name__ == "__main__":
    main()
