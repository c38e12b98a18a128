"""What benchmarks/workloads.py learns: networks off digits' beaten track, their samples, and how each is judged.

character    an embedding, four pre-norm transformer blocks, a readout; the text is the documentation that Python ships
conv         batch-norm convolutions, residual, on digits
graph        two branches and a skip that meet again, two losses (which digit; odd or even), on noisy digits
streams      River's Agrawal (its function changes), moving radial bases, and TrumpApproval, one sample at a time
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from river import datasets
from river.datasets import synth
from sklearn.datasets import load_digits
from torch import Tensor, nn

import hamdist
from hamdist.network.network import Network

Batch = tuple[Any, Any]
ROWS, WIDTH, CONTEXT, HEADS = 16, 64, 64, 4


@dataclass(frozen=True)
class Workload:
    """score: what is told of it, lower is better where `falls`.  held_out: None where the score is prequential."""

    name: str
    network: Callable[[], Network]
    batches: Callable[[int], Iterator[Batch]]  # of a seed, without an end or with
    updates: int
    score: str
    falls: bool = False
    held_out: Callable[[int], list[Batch]] | None = None


@cache
def text() -> tuple[Tensor, int]:
    """The text as whole numbers [characters], runs of blanks as one, and how many different ones there are."""
    words = " ".join("\n".join(topics[name] for name in sorted(topics)).split(" "))
    plain = [c for c in words if c.isascii()]
    kept = [c for c, before in zip(plain, ["", *plain], strict=False) if not c == before == " "]
    numbers = {c: number for number, c in enumerate(sorted(set(kept)))}
    return torch.tensor([numbers[c] for c in kept]), len(numbers)


def characters(part: slice, seed: int) -> Iterator[Batch]:
    """Windows [ROWS, CONTEXT] of a part of the text, and the characters after each of theirs."""
    known = text()[0][part]
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(known) - CONTEXT - 1, (ROWS, 1), generator=generator)
        windows = known[starts + torch.arange(CONTEXT + 1)]
        yield windows[:, :-1], windows[:, 1:]


def learnt_text() -> slice:
    return slice(0, int(0.9 * len(text()[0])))


def held_out_text(seed: int) -> list[Batch]:
    return list(itertools.islice(characters(slice(learnt_text().stop, None), 99), 16))


class Embedding(nn.Module):
    """Characters [B, T] → [B, T, WIDTH], with their positions."""

    def __init__(self, size: int, spread: float) -> None:
        super().__init__()
        self.characters, self.positions = nn.Embedding(size, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        for table in (self.characters, self.positions):
            nn.init.normal_(table.weight, std=spread)

    def forward(self, x: Tensor) -> Tensor:
        return self.characters(x) + self.positions.weight


class Block(nn.Module):
    """[B, T, WIDTH] to the same: causal attention and a hidden layer, each of what is normalised, each added."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.ask, self.answer = (
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 3 * WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )
        self.hidden = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        heads = self.ask(self.norm(x)).unflatten(-1, (3, HEADS, WIDTH // HEADS)).movedim(2, 0).transpose(2, 3)
        mixed = F.scaled_dot_product_attention(*heads.unbind(0), is_causal=True)
        x = x + self.answer(mixed.transpose(1, 2).flatten(2))
        return x + self.hidden(x)


def language(spread: float = 0.5) -> Network:
    size = text()[1]
    layers = {
        "embed": partial(Embedding, size, spread),
        **{f"block{k}": Block for k in range(4)},
        "head": lambda: nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, size)),
    }
    return Network.of(layers, {"type": "cross_entropy", "class_dim": -1})


@cache
def digits() -> tuple[Tensor, Tensor]:
    images, classes = load_digits(return_X_y=True)
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))
    return torch.tensor(images / 16, dtype=torch.float32)[order], torch.tensor(classes)[order]


HELD_OUT = 400


def pictures(noise: float, both: bool, seed: int) -> Iterator[Batch]:
    """Digits [ROWS, 1, 8, 8] with noise, drawn with replacement, and their classes (and parities)."""
    images, classes = digits()
    generator = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randint(HELD_OUT, len(classes), (ROWS,), generator=generator)
        yield seen(images[rows], classes[rows], noise, both, generator)


def seen(images: Tensor, classes: Tensor, noise: float, both: bool, generator: torch.Generator) -> Batch:
    x = images + noise * torch.randn(images.shape, generator=generator)
    return x.unflatten(1, (1, 8, 8)), {"classes": classes, "odd": classes % 2} if both else classes


def held_out_pictures(noise: float, both: bool, seed: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(99)
    images, classes = (part[:HELD_OUT].split(ROWS) for part in digits())
    return [seen(x, y, noise, both, generator) for x, y in zip(images, classes, strict=True)]


def convolution(channels: int) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return hamdist.Residual(nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU()))


def convolutions() -> Network:
    layers = {
        "stem": lambda: nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        ),
        **{f"block{k}": partial(convolution, 16) for k in range(4)},
        "head": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)),
    }
    return Network.of(layers, "cross_entropy")


def hidden(inputs: int = WIDTH) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.Tanh())


def branches() -> Network:
    """stem → (left → left2, right, the skip) → join → classes; right → odd."""
    layers = {
        "stem": lambda: nn.Sequential(nn.Flatten(), *hidden()),
        "left": hidden,
        "left2": lambda: hamdist.Residual(hidden()),
        "right": hidden,
        "join": lambda: hamdist.Residual(hidden()),
        "digit": lambda: nn.Linear(WIDTH, 10),
        "parity": lambda: nn.Linear(WIDTH, 2),
    }
    edges = [
        *("stem->left", "left->left2", "stem->right", "left2->join", "right->join", "stem->join"),
        *("join->digit", "right->parity", "digit->classes", "parity->odd"),
    ]
    odd = {"type": "cross_entropy", "weight": 0.3}
    return Network.of(layers, {"classes": "cross_entropy", "odd": odd}, edges)


def stream_network(features: int, outputs: int, loss: str) -> Network:
    layers = {
        "embed": partial(hidden, features),
        **{f"block{k}": lambda: hamdist.Residual(hidden()) for k in range(4)},
        "head": partial(nn.Linear, WIDTH, outputs),
    }
    return Network.of(layers, loss)


def drifting_agrawal(seed: int, each: int = 1250) -> Iterator[tuple[dict, int]]:
    """Another of its functions after every 1,250 samples."""
    for function in itertools.count():
        yield from synth.Agrawal(classification_function=function % 10, seed=seed + function).take(each)


def moving_bases(seed: int) -> Iterator[tuple[dict, int]]:
    return iter(synth.RandomRBFDrift(seed, seed, n_classes=4, change_speed=0.001, n_drift_centroids=50))


def approval(seed: int) -> Iterator[tuple[dict, float]]:
    """A president's approval less 40 per cent: the same samples for every seed, of which the weights depend alone."""
    return ((x, y - 40) for x, y in datasets.TrumpApproval())


def standardised(samples: Callable[[int], Iterator[tuple[dict, Any]]], seed: int) -> Iterator[Batch]:
    """Inputs [1, F] standardised by the mean and the variance so far, and targets [1] or [1, 1]."""
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for x, y in samples(seed):
        values = np.array(list(x.values()), dtype=float)
        count, shift = count + 1, values - mean
        mean = mean + shift / count
        squares = squares + shift * (values - mean)
        scaled = (values - mean) / np.sqrt(np.maximum(squares / count, 1e-12)) if count > 1 else 0 * values
        target = torch.tensor([[y]], dtype=torch.float32) if isinstance(y, float) else torch.tensor([int(y)])
        yield torch.tensor(scaled, dtype=torch.float32).unsqueeze(0), target


WORKLOADS = {
    each.name: each
    for each in (
        Workload(
            "character", language, partial(characters, learnt_text()), 2000, "loss", True, held_out_text
        ),
        Workload(
            "conv",
            convolutions,
            partial(pictures, 0.0, False),
            400,
            "accuracy",
            held_out=partial(held_out_pictures, 0.0, False),
        ),
        Workload(
            "graph",
            branches,
            partial(pictures, 0.3, True),
            400,
            "accuracy",
            held_out=partial(held_out_pictures, 0.3, True),
        ),
        Workload(
            "Agrawal",
            partial(stream_network, 9, 2, "cross_entropy"),
            partial(standardised, drifting_agrawal),
            5000,
            "accuracy",
        ),
        Workload(
            "RBF",
            partial(stream_network, 10, 4, "cross_entropy"),
            partial(standardised, moving_bases),
            5000,
            "accuracy",
        ),
        Workload(
            "TrumpApproval",
            partial(stream_network, 6, 1, "mse"),
            partial(standardised, approval),
            1001,
            "mae",
            True,
        ),
    )
}
