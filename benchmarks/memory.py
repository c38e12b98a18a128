"""A million ticks of a 4 x 32 network on an endless stream: resident memory stays flat after the first thousand.

Prints the resident memory along the way and its slope by least squares.
"""

import argparse
import time

import torch
from resident import report_memory, resident_bytes
from table import machine
from torch import nn

import hamdist

WARM = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    ticks = 20_000 if arguments.quick else arguments.ticks
    torch.set_num_threads(1)
    learner = hamdist.Learner(
        [*(lambda: nn.Sequential(nn.Linear(32, 32), nn.Tanh()) for _ in range(3)), lambda: nn.Linear(32, 4)],
        beta=0.01,
    )
    generator, points, started = torch.Generator().manual_seed(0), [], time.perf_counter()
    for tick in range(ticks):
        learner.step(torch.randn(1, 32, generator=generator), torch.randint(4, (1,), generator=generator))
        if tick % max(1, ticks // 100) == 0 or tick == WARM:
            points.append((tick, resident_bytes()))
    learner.drain()
    assert learner.samples_seen_once
    seconds = time.perf_counter() - started
    judged = report_memory(points, WARM)
    print(f"{ticks:,} ticks in {seconds:.0f} s, {1e6 * seconds / ticks:.0f} µs a tick")
    print(judged)
    print(machine())


if __name__ == "__main__":
    main()
