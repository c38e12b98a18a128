"""A live stream: JSON lines come through standard input at a fixed rate; how long each waits for its prediction.

    hamdist    `hamdist run` of 32 units that turn in pairs, and fade, and a linear readout, compiled, forward in time
    PyTorch    a loop over the same lines: the same network, one step of backpropagation a line

Both count from the moment a line was there to be read, and both learn from it before the next; hamdist's prediction
leaves with the tick that also learns. Lines that came while a process started are left out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import yaml
from table import machine, show, verdict
from turning import STEP, PyTorchs, config

from hamdist.report.latency import Latency
from hamdist.streams.live_lines import LiveLines
from hamdist.streams.waves import SIGNAL_SCHOOL

LIMIT = 1.0  # hamdist's median over PyTorch's


def lines(count: int) -> Iterator[str]:
    values = SIGNAL_SCHOOL["smoHfHa"](STEP * np.arange(count + 1))
    return (json.dumps({"x": [now], "y": [later]}) + "\n" for now, later in pairwise(values))


def pytorch() -> None:
    """The peer, in a process of its own; prints what hamdist's summary says of latency."""
    torch.set_num_threads(1)
    coming, latency = iter(LiveLines(sys.stdin.fileno(), "utf-8")), Latency()
    pytorchs, done = PyTorchs(), 0
    while True:
        asked = time.perf_counter()
        line = next(coming, None)
        if line is None:
            break
        latency.present([line.arrived], asked)
        sample = json.loads(line.text)
        pytorchs.step(torch.tensor([sample["x"]]), torch.tensor([sample["y"]]))
        done += 1
        latency.predicted(done, time.perf_counter())
    print(json.dumps(latency.told()))


def told(process: "subprocess.Popen[str]", rate: float, count: int) -> str:
    """Says the lines, each at its time, and hears what the process prints at its end."""
    assert process.stdin is not None
    assert process.stdout is not None
    started = time.perf_counter()
    for number, line in enumerate(lines(count)):
        while (early := started + number / rate - time.perf_counter()) > 0:
            time.sleep(early)
        process.stdin.write(line)
        process.stdin.flush()
    process.stdin.close()
    answer = process.stdout.read()
    if process.wait():
        raise SystemExit(process.returncode)
    return answer


def started(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def latencies(rate: float, count: int, folder: Path) -> dict[str, dict[str, float]]:
    path, out = folder / "live.yaml", folder / f"out-{rate:g}"
    path.write_text(yaml.safe_dump(config({"source": "stdin"}, placement={"compile": True})))
    told(started("-m", "hamdist", "run", str(path), "--out", str(out)), rate, count)
    ours = json.loads((out / "summary.json").read_text())["latency"]
    return {"hamdist": ours, "PyTorch": json.loads(told(started(__file__, "--answer"), rate, count))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 1000.0], help="lines a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which lines come")
    parser.add_argument("--quick", action="store_true", help="thirty seconds")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.answer:
        pytorch()
        return
    seconds = 30.0 if given.quick else given.seconds
    with tempfile.TemporaryDirectory() as folder:
        for rate in given.rates:
            found = latencies(rate, round(rate * seconds), Path(folder))
            if late := [who for who, waits in found.items() if not waits["samples"]]:
                raise SystemExit(
                    f"{', '.join(late)} had not caught up when the lines ended: raise --seconds, or lower --rates"
                )
            rows = [
                (who, f"{t['samples']:,}", t["median_ms"], t["p99_ms"], t["longest_ms"])
                for who, t in found.items()
            ]
            show(f"{rate:g} lines a second", ["", "lines", "median, ms", "99 %, ms", "longest, ms"], rows)
            medians = [found[who]["median_ms"] for who in ("hamdist", "PyTorch")]
            print(verdict("median, hamdist / PyTorch", medians[0] / medians[1], LIMIT))
    print(machine())


if __name__ == "__main__":
    main()
