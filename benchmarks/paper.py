"""The paper's own comparison (arXiv 2409.12038, Appendix E): Hamiltonian Learning beside torch.optim.SGD, by weight.

Six networks learn from Iris, 100 digits of MNIST's test set and small texts made here, a sample at a time (batch 1), in
float64, non-local, with each of four optimizers: SGD of two rates, and two of momentum with dampening. Each as an

    output network   every layer's output is a function of its input
    state network    every layer's output is its state, ξ' = ξ + τ f, f = (φ(a) − ξ)/τ; a sample is held until all have
                     settled, and drives the weights once

The figure is the largest difference between any weight and PyTorch's after the last step: one pass over the samples.
"""

import argparse
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from paper_networks import CASES, Case
from table import machine, show, verdict
from torch import nn

from hamdist import LayerSpec, Learner

LIMIT = 1e-12
QUICK = 15


class Optimizer(NamedTuple):
    rate: float
    momentum: float = 0.0
    dampening: float = 0.0

    def __str__(self) -> str:
        moves = f", momentum {self.momentum:g}, dampening {self.dampening:g}" if self.momentum else ""
        return f"SGD {self.rate:g}{moves}"


OPTIMIZERS = (
    Optimizer(0.01),
    Optimizer(0.001),
    Optimizer(0.01, momentum=0.05, dampening=0.6),
    Optimizer(0.01, momentum=0.1, dampening=0.5),
)
KINDS = ("output", "state")


class Trace(NamedTuple):
    """By step: PyTorch's loss, hamdist's, and the largest difference between their weights."""

    theirs: list[float]
    ours: list[float]
    apart: list[float]


def learner(case: Case, kind: str, optimizer: Optimizer) -> Learner:
    layers = case.layers()
    settings: dict[str, Any] = {"dissipation": {"weight": 1 - optimizer.momentum}}
    if optimizer.dampening:
        settings["dampening"] = optimizer.dampening
    if kind == "state":
        settings |= {"hold": 2 * len(layers) + 1, "pairing": "current", "gate": "settled"}
    relaxing = 1.0 if kind == "state" else None
    specs = [LayerSpec(str(n), lambda m=module: m, relaxing=relaxing) for n, module in enumerate(layers)]
    return Learner(
        specs, "cross_entropy", locality="nonlocal", dtype=torch.float64, beta=optimizer.rate, **settings
    )


def compare(case: Case, kind: str, optimizer: Optimizer, steps: int | None = None) -> Trace:
    """Both learn from the same samples, side by side. steps: None for all samples."""
    ours, model = learner(case, kind, optimizer), nn.Sequential(*case.layers())
    rate, momentum, dampening = optimizer
    sgd = torch.optim.SGD(model.parameters(), rate, momentum=momentum, dampening=dampening)
    trace = Trace([], [], [])
    for x, target in case.samples()[:steps]:
        prediction = ours.step(x, target)
        assert prediction is not None, "non-local, every sample is predicted in its own step"
        loss = nn.functional.cross_entropy(model(x), target)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        trace.theirs.append(loss.item())
        trace.ours.append(prediction.loss.item())
        trace.apart.append(largest_difference(ours.state_dict(), model.state_dict()))
    return trace


def largest_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in theirs)


Traces = dict[tuple[str, str, Optimizer], Trace]


def report(traces: Traces) -> None:
    rows = [
        (
            name,
            kind,
            len(traces[name, kind, OPTIMIZERS[0]].apart),
            *(f"{traces[name, kind, optimizer].apart[-1]:.1e}" for optimizer in OPTIMIZERS),
        )
        for name, kind in product(CASES, KINDS)
    ]
    headings = ["network", "kind", "steps", *map(str, OPTIMIZERS)]
    show("largest difference of a weight from PyTorch's, after the last step", headings, rows)
    worst = max(traces, key=lambda key: traces[key].apart[-1])
    name, kind, optimizer = worst
    print(verdict(f"the largest of all ({name}, {kind}, {optimizer})", traces[worst].apart[-1], LIMIT))


def draw(traces: Traces, path: Path) -> None:
    """A column for each network: above the losses, each the mean of ten steps, below how far apart the weights are."""
    figure, grid = plt.subplots(2, len(CASES), figsize=(3 * len(CASES), 6.5), squeeze=False)
    colours = dict(zip(OPTIMIZERS, ("#1f77b4", "#7f7f7f", "#2ca02c", "#d62728"), strict=True))
    for column, name in enumerate(CASES):
        above, below = grid[0][column], grid[1][column]
        for optimizer in OPTIMIZERS:
            trace = traces[name, "state", optimizer]
            above.plot(_means(trace.theirs), color=colours[optimizer], linewidth=4, alpha=0.35)
            above.plot(_means(trace.ours), color=colours[optimizer], linestyle="--", label=str(optimizer))
            for kind, style in zip(KINDS, ("-", ":"), strict=True):
                apart = traces[name, kind, optimizer].apart
                below.plot([max(each, 1e-18) for each in apart], color=colours[optimizer], linestyle=style)
        above.set_title(name)
        below.axhline(LIMIT, color="black", linewidth=1)
        below.set_yscale("log")
        below.set_ylim(1e-18, 1e-11)
        below.set_xlabel("step")
    grid[0][0].set_ylabel("loss, mean of 10 steps\n(broad: PyTorch; dashed: state)")
    grid[1][0].set_ylabel("largest difference of a weight\n(full: output; dotted: state)")
    named = grid[0][0].get_legend_handles_labels()
    figure.legend(*named, loc="lower center", ncols=len(OPTIMIZERS), frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _means(values: list[float], over: int = 10) -> list[float]:
    """The mean of each value and up to `over` − 1 before it."""
    return [
        sum(values[max(0, n + 1 - over) : n + 1]) / len(values[max(0, n + 1 - over) : n + 1])
        for n in range(len(values))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} steps each")
    parser.add_argument("--out", type=Path, help="draws a picture")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = QUICK if options.quick else None
    traces = {
        (name, kind, optimizer): compare(case, kind, optimizer, steps)
        for (name, case), kind, optimizer in product(CASES.items(), KINDS, OPTIMIZERS)
    }
    report(traces)
    if options.out is not None:
        draw(traces, options.out)
    print(machine())


if __name__ == "__main__":
    main()
