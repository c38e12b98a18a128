"""Deep networks on digits, fully local beside backpropagation: every digit held out once, several seeds a fold.

64-wide residual tanh networks, branches times 1/√L, batch 16. Fully local: stashed, one β for every depth, falling to 0
along a line, times the square root of the delay's factor. Backpropagation: plain PyTorch, the same networks, weights
and order of samples, a line to 0 from its own best β; all runs of a depth go side by side, as one batch of matrices.
Both sides' settings were chosen on seeds 11 to 13, and are told of on others.
"""

import argparse
import math
import statistics
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from table import machine, show, verdict
from torch import Tensor, nn

from hamdist import Learner, Residual
from hamdist.streams.digits import DEVIATION, MEAN, load_digits

BATCH, WIDTH, FOLDS = 16, 64, 5
BETA, POWER = 0.2, 0.5
PEER_BETA = {20: 0.4, 64: 0.4, 128: 0.4}  # the best of .05, .1, .2, .4
GAPS = {20: 0.01, 64: 0.015, 128: 0.02}  # to backpropagation, at most
LOWEST, EARLY, WITH_MOMENTUM = 0.93, 0.96, 0.005


class Case(NamedTuple):
    depth: int
    samples: int
    momentum: float = 0.0

    def __str__(self) -> str:
        with_momentum = f", momentum {self.momentum:g}" if self.momentum else ""
        return f"{self.depth} layers, {self.samples:,} samples{with_momentum}"


class Fold(NamedTuple):
    """One run's data: batches [T, 16, 64] and [T, 16] to learn from, and what is held out.  seed: of its weights."""

    seed: int
    inputs: Tensor
    targets: Tensor
    held_out: tuple[Tensor, Tensor]


def folds(samples: int, seeds: Sequence[int], count: int) -> Iterator[Fold]:
    """count: of the five, how many."""
    pixels, labels = (torch.from_numpy(each) for each in load_digits())
    images = ((pixels - MEAN) / DEVIATION).float().reshape(-1, WIDTH)
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        parts = torch.randperm(len(images), generator=generator).chunk(FOLDS)
        for number in range(count):
            rest = torch.cat([part for k, part in enumerate(parts) if k != number])
            epochs = -(-samples // len(rest))
            order = torch.cat([rest[torch.randperm(len(rest), generator=generator)] for _ in range(epochs)])
            order = order[:samples].reshape(-1, BATCH)
            held_out = images[parts[number]], labels[parts[number]]
            yield Fold(FOLDS * seed + number, images[order], labels[order], held_out)


def network(depth: int, seed: int) -> list[nn.Module]:
    """An embedding, residual blocks, a head."""
    torch.manual_seed(seed)
    blocks = [Residual(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()), "auto") for _ in range(depth - 2)]
    return [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()), *blocks, nn.Linear(WIDTH, 10)]


def fully_local(case: Case, fold: Fold, compiled: bool) -> float:
    """Hold-out accuracy after the last sample has driven every layer."""
    updates = len(fold.inputs)
    learner = Learner(
        network(case.depth, fold.seed),
        beta={"schedule": "linear", "start": BETA, "over": updates},
        rate={"delay": POWER},
        dissipation={"weight": 1 - case.momentum},
        stack=True,
        compile=compiled,
        chunk=8,
    )
    learner.steps(list(zip(fold.inputs, fold.targets, strict=True)))
    learner.drain()
    x, target = fold.held_out
    return (learner.predict(x).argmax(1) == target).float().mean().item()


def backpropagation(case: Case, runs: Sequence[Fold]) -> list[float]:
    """The same of all runs, whose weights are stacked [R, …]."""
    linears = [
        [
            part
            for part in nn.Sequential(*network(case.depth, fold.seed)).modules()
            if isinstance(part, nn.Linear)
        ]
        for fold in runs
    ]
    layers = [
        (
            torch.stack([one.weight.detach().T for one in level]).requires_grad_(),
            torch.stack([one.bias.detach()[None] for one in level]).requires_grad_(),
        )
        for level in zip(*linears, strict=True)
    ]
    updates = len(runs[0].inputs)
    rate = PEER_BETA[case.depth] * (1 - case.momentum)
    optimiser = torch.optim.SGD([t for layer in layers for t in layer], rate, case.momentum)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: 1 - n / updates)
    inputs, targets = (
        torch.stack(each, 1) for each in zip(*((f.inputs, f.targets) for f in runs), strict=True)
    )
    for x, target in zip(inputs, targets, strict=True):
        optimiser.zero_grad()
        output = passed(layers, x).flatten(0, 1)
        (len(runs) * nn.functional.cross_entropy(output, target.flatten())).backward()
        optimiser.step()
        schedule.step()
    return [accuracy(layers, run, fold) for run, fold in enumerate(runs)]


def passed(layers: Sequence[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """Outputs [R, B, 10] of inputs [R, B, 64]."""
    (first, first_bias), *blocks, (last, last_bias) = layers
    x = torch.tanh(torch.baddbmm(first_bias, x, first))
    for weight, bias in blocks:
        x = torch.add(x, torch.tanh(torch.baddbmm(bias, x, weight)), alpha=1 / math.sqrt(len(blocks)))
    return torch.baddbmm(last_bias, x, last)


@torch.no_grad()
def accuracy(layers: Sequence[tuple[Tensor, Tensor]], run: int, fold: Fold) -> float:
    x, target = fold.held_out
    own = [(weight[run : run + 1], bias[run : run + 1]) for weight, bias in layers]
    return (passed(own, x[None])[0].argmax(1) == target).float().mean().item()


class Result(NamedTuple):
    """Hold-out accuracies of all runs, and seconds of one."""

    local: list[float]
    peer: list[float]
    seconds: float

    @property
    def gap(self) -> float:
        return statistics.mean(self.peer) - statistics.mean(self.local)


def result(case: Case, seeds: Sequence[int], count: int, compiled: bool) -> Result:
    runs = list(folds(case.samples, seeds, count))
    started = perf_counter()
    local = [fully_local(case, fold, compiled) for fold in runs]
    seconds = (perf_counter() - started) / len(runs)
    return Result(local, backpropagation(case, runs), seconds)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.4f} ± {error:.4f}"


def verdicts(results: dict[Case, Result], samples: int) -> Iterator[str]:
    for case, found in results.items():
        if case.samples == samples and not case.momentum:
            yield verdict(f"{case}: gap to backpropagation", found.gap, GAPS[case.depth])
            yield verdict(f"{case}: lowest run", min(found.local), LOWEST, at_most=False)
        elif case.momentum and (plain := results.get(case._replace(momentum=0.0))):
            loss = statistics.mean(plain.local) - statistics.mean(found.local)
            yield verdict(f"{case}: loss by momentum", loss, WITH_MOMENTUM)
        else:
            yield verdict(str(case), statistics.mean(found.local), EARLY, at_most=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 layers, one seed, two folds, 8,000 samples")
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 64, 128], choices=[20, 64, 128])
    parser.add_argument("--folds", type=int, default=FOLDS, choices=range(1, FOLDS + 1))
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, … so many")
    parser.add_argument("--samples", type=int, default=64000)
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.depths, given.folds, given.seeds, given.samples = [20], 2, 1, 8000
    torch.set_num_threads(1)
    cases = [Case(depth, given.samples) for depth in given.depths]
    if 20 in given.depths:
        cases += [Case(20, given.samples, 0.9), Case(20, given.samples // 4)]
    results = {case: result(case, range(given.seeds), given.folds, given.compile) for case in cases}
    rows = [
        (
            str(case),
            spread(found.local),
            min(found.local),
            spread(found.peer),
            min(found.peer),
            found.gap,
            found.seconds,
        )
        for case, found in results.items()
    ]
    headings = ["network", "fully local", "lowest", "backpropagation", "lowest", "gap", "s a run"]
    show(f"Digits, hold-out, {given.seeds} seed(s), {given.folds} fold(s)", headings, rows)
    print(*verdicts(results, given.samples), machine(), sep="\n")


if __name__ == "__main__":
    main()
