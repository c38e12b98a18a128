"""How the time of a step grows: with depth, width, batch, and actors; PyTorch's loop beside hamdist, fully local.

Chains of [Linear, Tanh] layers, SGD with momentum, pairing `current`, one thread a process. Node by node is hamdist as
it runs unless told otherwise; stacked, layers compute as one; compiled (--compiled; takes minutes), in chunks of 16
ticks. Actors are timed by their own runs, without momentum, PyTorch in one process beside them.
"""

import argparse
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from chain import Chain
from pace import timed_run
from rounds import in_rounds
from step_contenders import Steps, batches, chain, ours, pytorch, seconds
from table import machine, show

from hamdist.engine.spec import PLAIN, STACKED, Execution
from hamdist.network.locality import Locality

PYTORCH, NODE_BY_NODE, STACKS, COMPILES = "PyTorch", "node by node", "stacked", "compiled"
COLOURS = {PYTORCH: "#222222", NODE_BY_NODE: "#1f77b4", STACKS: "#d62728", COMPILES: "#2ca02c"}
ACTORS = Chain(depth=8, width=256, batch=64)
CHUNK = 16


class Options(NamedTuple):
    rounds: int
    least: float
    forms: Mapping[str, Execution]
    ticks: int


class Sweep(NamedTuple):
    """One panel. what: is varied, over `values`.  size: depth, width and batch at a value."""

    what: str
    fixed: str
    values: Sequence[int]
    size: Callable[[int], tuple[int, int, int]]


SWEEPS = (
    Sweep("depth", "width 64, batch 1", (2, 4, 8, 16, 32, 64, 128), lambda depth: (depth, 64, 1)),
    Sweep(
        "width", "depth 8, batch 16", (16, 32, 64, 128, 256, 512, 1024, 2048), lambda width: (8, width, 16)
    ),
    Sweep("batch", "depth 8, width 256", (1, 4, 16, 64, 256), lambda rows: (8, 256, rows)),
)
Curves = dict[str, list[float]]  # ms by contender, one for each value


def swept(sweep: Sweep, options: Options) -> Curves:
    curves: Curves = {PYTORCH: [], **{form: [] for form in options.forms}}
    for value in sweep.values:
        depth, width, rows = sweep.size(value)
        data = batches(rows, width)
        steps: dict[str, Steps] = {PYTORCH: pytorch(chain(depth, width), data)}
        for form, execution in options.forms.items():
            steps[form] = ours(chain(depth, width), data, Locality(pairing="current"), execution)
        measures = {name: partial(seconds, each, options.least) for name, each in steps.items()}
        for name, taken in in_rounds(measures, options.rounds).items():
            curves[name].append(1e3 * statistics.median(taken))
    return curves


def over_actors(counts: Sequence[int], options: Options, samples: Path) -> Curves:
    """ms of a step, by contender and number of actors."""
    plain = pytorch(chain(ACTORS.depth, ACTORS.width), batches(ACTORS.batch, ACTORS.width))
    measures: dict[str, Callable[[], float]] = {PYTORCH: partial(seconds, plain, options.least)}
    for form, execution in options.forms.items():
        for count in counts:
            measures[f"{form} {count}"] = partial(on_actors, count, execution, options.ticks, samples)
    times = {
        name: 1e3 * statistics.median(taken) for name, taken in in_rounds(measures, options.rounds).items()
    }
    curves = {form: [times[f"{form} {count}"] for count in counts] for form in options.forms}
    return {PYTORCH: [times[PYTORCH]] * len(counts), **curves}


def on_actors(count: int, execution: Execution, ticks: int, samples: Path) -> float:
    """Seconds of a step. No chunk is longer than the edge's delay of 1 tick."""
    placement: dict[str, Any] = {"runtime": "ray", "actors": count, "address": "local"}
    placement |= {"stack": execution.stacked, "compile": execution.compiled}
    locality = {"mode": "local", "pairing": "current"}
    config_of = partial(ACTORS.config, samples, locality=locality, placement=placement)
    return timed_run(config_of, ticks)[0]


def draw(found: Sequence[tuple[Sweep, Curves]], path: Path) -> None:
    figure, grid = plt.subplots(2, 2, figsize=(11, 8.5))
    for axes, (sweep, curves) in zip(grid.flat, found, strict=True):
        for name, times in curves.items():
            style = {"color": COLOURS[name], "linewidth": 2, "label": name}
            axes.plot(sweep.values, times, marker="o", **style)
        axes.set_title(f"{sweep.what} ({sweep.fixed})")
        axes.set_xlabel(sweep.what)
        axes.set_ylabel("ms a step")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        logarithms = [math.log10(time) for times in curves.values() for time in times]
        axes.set_ylim(10 ** math.floor(min(logarithms)), 10 ** math.ceil(max(logarithms)))
        axes.set_xticks(sweep.values)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3, which="both")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="upper center", ncol=4, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    figure.savefig(path, dpi=100)


def report(sweep: Sweep, curves: Curves) -> None:
    rows = [(name, *(f"{time:.3g}" for time in times)) for name, times in curves.items()]
    show(f"ms a step, {sweep.fixed}", [sweep.what, *map(str, sweep.values)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the first four values, one round")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--out", type=Path, help="draws a picture")
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # every process started from here inherits it
    forms = {NODE_BY_NODE: PLAIN, STACKS: STACKED}
    if given.compiled:
        forms[COMPILES] = Execution(True, True, CHUNK)
    rounds, least, ticks = (1, 0.05, 1500) if given.quick else (5, 0.3, 3000)
    options = Options(rounds, least, forms, ticks)
    found = []
    for sweep in SWEEPS:
        chosen = sweep._replace(values=sweep.values[: 4 if given.quick else None])
        found.append((chosen, swept(chosen, options)))
        report(*found[-1])
    actors = Sweep("actors", "8 x 256, batch 64", (1, 2), lambda count: (8, 256, 64))
    with tempfile.TemporaryDirectory() as directory:
        ACTORS.write_samples(Path(directory))
        found.append((actors, over_actors(actors.values, options, Path(directory))))
    report(*found[-1])
    if given.out is not None:
        draw(found, given.out)
    print(machine())


if __name__ == "__main__":
    main()
