"""Single faults: each run loses or spoils something once, at random, and must end as the undisturbed one."""

import os
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from faults import FAULTS, SOURCE, WRITING, has_struck
from trials.runs import BATCH, LAYERS, NEVER, PREDICTIONS, THREE, TWO, digits, same

from hamdist import run
from hamdist.cluster.session import prepare_environment

TICKS = 1200
KINDS = [kind for kind in FAULTS if kind not in ("delay", "raylet")]
CUTS = {"every_ticks": 25}
PARTS = ("seen", "stopping", "replacing", "joining", "restoring", "back")
Times = dict[tuple[str, int], list[dict[str, float]]]  # by kind, and how many spares there were


def trials(count: int, seed: int, folder: Path) -> int:
    """How many runs did not end as the undisturbed one."""
    prepare_environment()
    import ray

    ray.init("local", num_cpus=4, include_dashboard=False, logging_level="error", log_to_driver=False)
    chance, wrong, times = random.Random(seed), 0, Times()
    reference = folder / "undisturbed"
    go(digits(TWO, TICKS * BATCH, checkpoint=NEVER), reference)
    for trial in range(count):
        wrong += not _passes(trial, chance, folder, times)
    ray.shutdown()
    print(f"{count} trials, {wrong} not as the undisturbed run")
    show(times)
    return wrong


def go(config: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Its summary."""
    return run(config, out=str(out), predictions=str(out / PREDICTIONS))


def _passes(trial: int, chance: random.Random, folder: Path, times: Times) -> bool:
    out, fault = folder / f"trial-{trial}", ordered(chance, folder / f"struck-{trial}")
    config = digits(chance.choice((TWO, THREE)), TICKS * BATCH, fault, checkpoint=CUTS)
    config["placement"]["spares"] = spares = chance.randrange(2)
    began = time.perf_counter()
    summary = go(config, out)
    differing = same(out, folder / "undisturbed")
    times.setdefault((fault["kind"], spares), []).extend(spent(summary, Path(fault["marker"])))
    struck = has_struck(Path(fault["marker"]))
    where = f"{fault['kind']} at {fault['node']}, tick {fault['tick']}, {spares} spares"
    told = f"{len(summary['restarts'])} restarts{'' if struck else ', but it did not strike'}"
    print(f"{trial}: {where}: {told}, {time.perf_counter() - began:.1f} s, {differing or 'the same bits'}")
    return struck and summary["samples_seen_once"] and not differing


def ordered(chance: random.Random, marker: Path) -> dict[str, Any]:
    """A random fault. One that needs a cut comes in time for one."""
    kind = chance.choice(KINDS)
    nodes = LAYERS if kind in WRITING else (*LAYERS, SOURCE)
    last = TICKS // 3 if kind in WRITING else TICKS - 5
    return {
        "kind": kind,
        "node": chance.choice(nodes),
        "tick": chance.randrange(5, last),
        "marker": str(marker),
        "driver": os.getpid(),
    }


def spent(summary: Mapping[str, Any], marker: Path) -> list[dict[str, float]]:
    """Seconds of the first restart: until the fault was seen, of each part, and until ticks went on."""
    if not summary["restarts"]:
        return []
    first = summary["restarts"][0]
    seen = first["at"] - marker.stat().st_mtime
    return [{**first["seconds"], "seen": seen, "back": seen + first["seconds"]["all"]}]


def show(times: Times) -> None:
    """A markdown table: median and maximum of each part."""
    print(f"| fault | spares | times | {' | '.join(PARTS)} |\n|{'---|' * (3 + len(PARTS))}")
    everything: Times = defaultdict(list)
    for (kind, spares), known in times.items():
        everything[kind, spares] += known
        everything["all", spares] += known
    for (kind, spares), known in sorted((key, known) for key, known in everything.items() if known):
        parts = [[each.get(part, 0.0) for each in known] for part in PARTS]
        told = (f"{median(part):.2f}, {max(part):.2f}" for part in parts)
        print(f"| {kind} | {spares} | {len(known)} | {' | '.join(told)} |")
