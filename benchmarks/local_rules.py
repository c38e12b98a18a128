"""Other ways to learn without waiting, beside fully local Hamiltonian Learning: digits, six layers, one stream.

backpropagation              non-local, each gradient at once
asynchronous pipeline        gradients at the weights that a sample met, applied when they come (stashed weights)
feedback alignment           each layer's costate through fixed random weights from the output's, at once
fully local, stashed         hamdist: with today's weights, or as graphs, which is the asynchronous pipeline

64-wide residual tanh, batch 16, β 0.1 scaled by the delay where there is one. The first three are plain loops here.
"drift": the stream changes from the digits 0 to 4 to the digits 5 to 9 half way; forgetting is what is lost of the
hold-out of the first five.
"""

import argparse
import itertools
import statistics
from collections import deque
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from table import machine, show
from torch import Tensor, nn

import hamdist
from hamdist.physics.rates import delay_scale

DEPTH, WIDTH, ROWS, BETA, HELD_OUT = 6, 64, 16, 0.1, 400
Batch = tuple[Tensor, Tensor]


def digits() -> Batch:
    images, classes = load_digits(return_X_y=True)
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))
    return torch.tensor(images / 16, dtype=torch.float32)[order], torch.tensor(classes)[order]


def layers(seed: int) -> list[nn.Module]:
    torch.manual_seed(seed)
    blocks = [hamdist.Residual(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())) for _ in range(DEPTH - 2)]
    return [nn.Sequential(nn.Linear(64, WIDTH), nn.Tanh()), *blocks, nn.Linear(WIDTH, 10)]


def stream(seed: int, steps: int, drifts: bool) -> Iterator[Batch]:
    images, classes = (part[HELD_OUT:] for part in digits())
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        known = (
            torch.nonzero((classes < 5) == (step < steps // 2)).squeeze(1)
            if drifts
            else torch.arange(len(classes))
        )
        rows = known[torch.randint(len(known), (ROWS,), generator=generator)]
        yield images[rows], classes[rows]


class PlainLoop:
    """Gradients of each step by layer, each applied as late as its layer says."""

    def __init__(
        self, seed: int, delays: list[int], gradients: Callable[["PlainLoop", Tensor, Tensor], list]
    ) -> None:
        self.layers = layers(seed)
        self._waiting: list[deque] = [deque() for _ in self.layers]
        self._delays, self._gradients = delays, gradients
        generator = torch.Generator().manual_seed(seed)
        self.feedback = [torch.randn(10, WIDTH, generator=generator) / WIDTH**0.5 for _ in self.layers[:-1]]

    def step(self, x: Tensor, y: Tensor) -> None:
        found = self._gradients(self, x, y)
        for layer, queue, delay, own in zip(self.layers, self._waiting, self._delays, found, strict=True):
            queue.append(own)
            if len(queue) > delay:
                self._move(layer, delay, queue.popleft())

    def drain(self) -> None:
        for layer, queue, delay in zip(self.layers, self._waiting, self._delays, strict=True):
            while queue:
                self._move(layer, delay, queue.popleft())

    def _move(self, layer: nn.Module, delay: int, gradients: list[Tensor]) -> None:
        for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
            parameter.data.sub_(BETA * delay_scale(delay) * gradient)

    def predict(self, x: Tensor) -> Tensor:
        return nn.Sequential(*self.layers)(x)


def backpropagated(loop: PlainLoop, x: Tensor, y: Tensor) -> list:
    owned = [list(layer.parameters()) for layer in loop.layers]
    found = iter(torch.autograd.grad(F.cross_entropy(loop.predict(x), y), [p for own in owned for p in own]))
    return [[next(found) for _ in own] for own in owned]


def aligned(loop: PlainLoop, x: Tensor, y: Tensor) -> list:
    """Direct feedback alignment (Nøkland, 2016)."""
    said = []
    for layer in loop.layers:
        x = layer(x.detach())
        said.append(x)
    (error,) = torch.autograd.grad(F.cross_entropy(x, y), x, retain_graph=True)
    costates = [*(error @ matrix for matrix in loop.feedback), error]
    return [
        list(torch.autograd.grad(y, list(layer.parameters()), q))
        for layer, y, q in zip(loop.layers, said, costates, strict=True)
    ]


def learners(seed: int) -> dict[str, PlainLoop | hamdist.Learner]:
    late = [2 * (DEPTH - 1 - layer) for layer in range(DEPTH)]
    return {
        "backpropagation": PlainLoop(seed, [0] * DEPTH, backpropagated),
        "asynchronous pipeline, stashed weights": PlainLoop(seed, late, backpropagated),
        "feedback alignment": PlainLoop(seed, [0] * DEPTH, aligned),
        "fully local, stashed": hamdist.Learner(layers(seed), "cross_entropy", beta=BETA),
        "fully local, stashed as graphs": hamdist.Learner(
            layers(seed), "cross_entropy", beta=BETA, stash="graph"
        ),
    }


def accuracy(learner: PlainLoop | hamdist.Learner, low: int, high: int) -> float:
    """On what is held out of some classes, when all that was presented has driven all layers."""
    learner.drain()
    images, classes = (part[:HELD_OUT] for part in digits())
    asked = (classes >= low) & (classes < high)
    with torch.no_grad():
        return (learner.predict(images[asked]).argmax(1) == classes[asked]).float().mean().item()


def measured(seed: int, steps: int) -> dict[str, tuple[float, float, float, float]]:
    """Hold-out of an even stream; of a drifting one that of the first five before and after, and of the others."""
    found = {}
    for name, learner in learners(seed).items():
        for x, y in stream(seed, steps, drifts=False):
            learner.step(x, y)
        even, drifting = accuracy(learner, 0, 10), learners(seed)[name]
        batches = stream(seed, steps, drifts=True)
        for x, y in itertools.islice(batches, steps // 2):
            drifting.step(x, y)
        before = accuracy(drifting, 0, 5)
        for x, y in batches:
            drifting.step(x, y)
        found[name] = even, before, accuracy(drifting, 0, 5), accuracy(drifting, 5, 10)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the samples")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    given = parser.parse_args()
    steps, seeds = 250 if given.quick else 1000, range(given.seeds)
    runs = [measured(seed, steps) for seed in seeds]
    rows = [
        (name, *(statistics.mean(run[name][column] for run in runs) for column in range(4)))
        for name in runs[0]
    ]
    headings = ["rule", "even: hold-out", "drift: 0-4, before", "0-4, after", "5-9, after"]
    show(f"Digits, {steps * ROWS:,} samples, {len(seeds)} seed(s)", headings, rows)
    print(machine())


if __name__ == "__main__":
    main()
