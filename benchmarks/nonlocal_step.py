"""A non-local step of hamdist against the plain PyTorch loop (SGD with momentum, foreach), one thread.

The two take turns, so that both see the same machine; the figure is the median of the ratios of the pairs.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from table import machine, show, verdict
from torch import nn

import hamdist

LIMIT = 1.25


def layers(depth: int, width: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(depth)]


def plain_step(depth: int, width: int, x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
    model = nn.Sequential(*layers(depth, width))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, foreach=True)

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimiser.step()

    return step


def hamdist_step(depth: int, width: int, x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
    learner = hamdist.Learner(
        layers(depth, width),
        "mse",
        locality="nonlocal",
        beta=1e-3,
        dissipation={"weight": 0.1},
        rate="constant",
    )
    return lambda: learner.step(x, y) and None


def seconds(step: Callable[[], None], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - started) / repeats


def compare(depth: int, width: int, batch: int, repeats: int, pairs: int) -> tuple[float, float, float]:
    """Median milliseconds of PyTorch and of hamdist, and the median ratio."""
    x, y = torch.randn(batch, width), torch.randn(batch, width)
    plain, ours = plain_step(depth, width, x, y), hamdist_step(depth, width, x, y)
    for step in (plain, ours):
        seconds(step, max(3, repeats // 2))
    times = [(seconds(plain, repeats), seconds(ours, repeats)) for _ in range(pairs)]
    return (
        1e3 * statistics.median(p for p, _ in times),
        1e3 * statistics.median(o for _, o in times),
        statistics.median(o / p for p, o in times),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    sizes = [
        ("8 x 1024, batch 64", 8, 1024, 64, 5),
        ("4 x 64, batch 1", 4, 64, 1, 100),
        ("8 x 64, batch 16", 8, 64, 16, 50),
    ]
    rows = [(name, *compare(*size, pairs=5 if quick else 15)) for name, *size in sizes]
    show("A non-local step", ["network", "PyTorch ms", "hamdist ms", "ratio"], rows)
    print(verdict("8 x 1024: ratio", rows[0][3], LIMIT))
    print(machine())


if __name__ == "__main__":
    main()
