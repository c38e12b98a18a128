"""A non-local step of hamdist, node by node and stacked, against the plain PyTorch loop (SGD with momentum, foreach).

One thread. All take turns, so that they see the same machine; figures are medians over the rounds. `stacked.py` has the
compiled form.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from itertools import cycle

import torch
from rounds import in_rounds, ratio
from step_contenders import MOMENTUM, RATE, Batch, Steps, batches, chain, pytorch, seconds
from table import machine, show, verdict

import hamdist

PYTORCH, NODE_BY_NODE, STACKED = "PyTorch", "node by node", "stacked"
LIMIT = 1.05
WARM = 12  # steps, after which stacked ticks are traced


def step(depth: int, width: int, data: list[Batch], stack: bool) -> Steps:
    """As a user takes it, batch by batch."""
    learner = hamdist.Learner(
        chain(depth, width),
        "mse",
        locality="nonlocal",
        beta=RATE,
        dissipation={"weight": 1 - MOMENTUM},
        rate="constant",
        stack=stack,
    )
    coming = cycle(data)
    for _ in range(WARM):
        learner.step(*next(coming))
    return Steps(lambda: learner.step(*next(coming)), 1)


def contenders(depth: int, width: int, rows: int, least: float) -> dict[str, Callable[[], float]]:
    data = batches(rows, width)
    steps = {
        PYTORCH: pytorch(chain(depth, width), data),
        NODE_BY_NODE: step(depth, width, data, stack=False),
        STACKED: step(depth, width, data, stack=True),
    }
    return {name: partial(seconds, each, least) for name, each in steps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    rounds, least = (3, 0.1) if parser.parse_args().quick else (15, 0.5)
    torch.set_num_threads(1)
    sizes = {
        "8 x 1024, batch 64": (8, 1024, 64),
        "4 x 64, batch 1": (4, 64, 1),
        "8 x 64, batch 16": (8, 64, 16),
    }
    rows, ratios = [], {}
    for name, size in sizes.items():
        times = in_rounds(contenders(*size, least), rounds)
        ratios[name] = [ratio(times[form], times[PYTORCH]) for form in (NODE_BY_NODE, STACKED)]
        rows.append((name, *(1e3 * statistics.median(taken) for taken in times.values()), *ratios[name]))
    headings = ["ms a step", PYTORCH, NODE_BY_NODE, STACKED, "node by node / PyTorch", "stacked / PyTorch"]
    show("A non-local step", headings, rows)
    print(verdict("8 x 1024: ratio of the faster form", min(ratios["8 x 1024, batch 64"]), LIMIT))
    print(machine())


if __name__ == "__main__":
    main()
