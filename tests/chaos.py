"""Random faults on a running system, and its outcome held against that of the undisturbed run: all bits must agree.

    python tests/chaos.py --trials 100 --seed 0        one random fault a run, in the process that hosts a random node
    python tests/chaos.py --minutes 15 --every 60      one long run, of which a random process is killed now and then

Prints a line a trial, and a table at the end. The exit status is 1 where a bit differs.
"""

import argparse
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import torch  # noqa: E402 - the folders first
from faults import FAULTS, SOURCE  # noqa: E402
from support.whole_runs import figures, weights_in  # noqa: E402

from hamdist import run  # noqa: E402
from hamdist.cluster.ray_processes import processes  # noqa: E402
from hamdist.cluster.session import prepare_environment  # noqa: E402

PLACEMENTS = ([["first"], ["second", "head"]], [["first"], ["second"], ["head"]])
NODES = ("first", "second", "head", SOURCE)
KINDS = [kind for kind in FAULTS if kind != "delay"]
TICKS, WIDTH = 1200, 128


def digits(actors: Any, samples: int, fault: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
    """A run on digits, in which something happens to the process that hosts a node."""
    sizes = {"first": (64, WIDTH), "second": (WIDTH, WIDTH), "head": (WIDTH, 10)}
    node = None if fault is None else fault["node"]
    args = {key: value for key, value in (fault or {}).items() if key != "node" and node == SOURCE}
    layers = []
    for name, (inputs, outputs) in sizes.items():
        linear: dict[str, Any] = {"type": "Linear", "in_features": inputs, "out_features": outputs}
        if fault is not None and node == name:
            linear |= {"type": "faults:Faulty", **fault}
        layers.append({"name": name, "modules": [linear, *([] if name == "head" else [{"type": "Tanh"}])]})
    return {
        "name": "chaos",
        "stream": {
            "source": "torch",
            "factory": "faults:digits",
            "args": args,
            "batch_size": 16,
            "samples": samples,
        },
        "network": {"loss": "cross_entropy", "layers": layers},
        "locality": {"mode": "local", "pairing": "stashed"},
        "learning": {"beta": 0.05, "dissipation": {"weight": 0.2}},
        "metrics_every": 400,
        "placement": {"runtime": "ray", "actors": actors, "heartbeat_seconds": 2.0},
        **more,
    }


def same(ours: Path, theirs: Path) -> list[str]:
    """What differs between two runs."""
    one, other = figures(ours), figures(theirs)
    differing = [key for key in other if one[key] != other[key]]
    weights, known = weights_in(ours), weights_in(theirs)
    differing += [name for name in known if not torch.equal(weights[name], known[name])]
    predicted = [Path(out, "predictions.jsonl").read_text().splitlines() for out in (ours, theirs)]
    return differing + (["predictions"] if predicted[0] != predicted[1] else [])


def trials(count: int, seed: int, folder: Path) -> int:
    """Single faults; how many runs did not end as the undisturbed one."""
    prepare_environment()
    import ray

    ray.init("local", num_cpus=4, include_dashboard=False, logging_level="error", log_to_driver=False)
    chance, wrong, took = random.Random(seed), 0, []
    reference = folder / "undisturbed"
    run(
        digits(PLACEMENTS[0], TICKS * 16, None, checkpoint={"when": "never"}),
        out=str(reference),
        predictions=str(reference / "predictions.jsonl"),
    )
    for trial in range(count):
        out = folder / f"trial-{trial}"
        kind, node = chance.choice(KINDS), chance.choice(NODES)
        fault = {
            "kind": kind,
            "node": node,
            "tick": chance.randrange(5, TICKS - 5),
            "marker": str(folder / f"struck-{trial}"),
            "driver": os.getpid(),
        }
        config = digits(chance.choice(PLACEMENTS), TICKS * 16, fault, checkpoint={"every_ticks": 25})
        began = time.perf_counter()
        summary = run(config, out=str(out), predictions=str(out / "predictions.jsonl"))
        differing = same(out, reference)
        struck = Path(fault["marker"]).exists()
        wrong += bool(differing) or not summary["samples_seen_once"] or not struck
        took += [restart["seconds"]["all"] for restart in summary["restarts"]]
        told = f"{kind} at {node}, tick {fault['tick']}: {len(summary['restarts'])} restarts"
        print(
            f"{trial}: {told}, {time.perf_counter() - began:.1f} s, {differing or 'the same bits'}",
            flush=True,
        )
    ray.shutdown()
    print(
        f"{count} trials, {wrong} not as the undisturbed run; restarts took a median of {median(took):.2f} s"
    )
    return wrong


def long_run(minutes: float, every: float, seed: int, folder: Path) -> int:
    """One run that loses a random process every so many seconds; whether its bits are another's."""
    rate, samples = _rate(folder, minutes)
    reference, out = folder / "undisturbed", folder / "disturbed"
    began = time.perf_counter()
    _launch(digits(PLACEMENTS[0], samples, None, checkpoint={"when": "never"}), reference).wait()
    undisturbed = time.perf_counter() - began
    config = digits(PLACEMENTS[0], samples, None, checkpoint={"every_seconds": 2})
    config["placement"]["spares"] = 1
    chance, kills = random.Random(seed), 0
    began = time.perf_counter()
    running = _launch(config, out)
    while running.poll() is None:
        try:
            running.wait(every)
        except subprocess.TimeoutExpired:
            kills += _kill_one(running.pid, chance)
    disturbed = time.perf_counter() - began
    summary = json.loads((out / "summary.json").read_text())
    plain = json.loads((reference / "summary.json").read_text())
    share = plain["phases"]["learning"] / summary["phases"]["learning"]
    differing = same(out, reference)
    for restart in summary["restarts"]:
        print(json.dumps(restart))
    print(
        f"{samples} samples at {rate:.0f}/s, {kills} kills, {len(summary['restarts'])} restarts: {undisturbed:.0f} s "
        f"undisturbed, {disturbed:.0f} s disturbed: {share:.1%} of the throughput; {differing or 'the same bits'}"
    )
    return bool(differing)


def _rate(folder: Path, minutes: float) -> tuple[float, int]:
    """Samples a second, and as many samples as take so long."""
    _launch(digits(PLACEMENTS[0], 16 * 3000, None, checkpoint={"when": "never"}), folder / "pace").wait()
    rate = json.loads((folder / "pace" / "summary.json").read_text())["samples_per_second"]
    return rate, int(rate * minutes * 60) // 16 * 16


def _launch(config: Mapping[str, Any], out: Path) -> subprocess.Popen[bytes]:
    out.mkdir(parents=True)
    file = out.with_suffix(".json")
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "hamdist", "run", str(file), "--out", str(out), "--quiet"]
    return subprocess.Popen([*command, "--predictions", str(out / "predictions.jsonl")])


def _kill_one(driver: int, chance: random.Random) -> bool:
    """One of the actors that work for a driver, whichever."""
    known = {each.pid: each for each in processes()}
    raylets = {pid for pid, each in known.items() if each.name == "raylet" and each.parent == driver}
    busy = [
        pid
        for pid, each in known.items()
        if each.parent in raylets and "WorkerActor" in Path(f"/proc/{pid}/cmdline").read_text()
    ]
    if busy:
        os.kill(chance.choice(busy), signal.SIGKILL)
    return bool(busy)


def main() -> int:
    """As the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--every", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    logging.getLogger("hamdist").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        wrong = trials(asked.trials, asked.seed, Path(folder)) if asked.trials else 0
        if asked.minutes:
            wrong += long_run(asked.minutes, asked.every, asked.seed, Path(folder))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
