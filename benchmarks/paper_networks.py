"""The six networks of paper.py as layers, and what they learn from, one sample at a time.

No layer looks at several samples at once: norms are those of groups of channels, or of a layer. A recurrent network
hears a sequence as one sample, and is unrolled inside its layer.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_iris
from torch import Tensor, nn

from hamdist import Residual

DIGITS = Path(__file__).parent / "data" / "mnist100.npz"
WORDS, LENGTH, TEXTS = 12, 10, 120
HIDDEN = 30
Samples = list[tuple[Tensor, Tensor]]  # inputs [1, …] and classes [1]


class Case(NamedTuple):
    """layers: made anew, in float64, with the weights of a seed."""

    layers: Callable[[], list[nn.Module]]
    samples: Callable[[], Samples]


def iris() -> Samples:
    """150 flowers, standardised, in a random order: 4 features, 3 classes."""
    features, classes = load_iris(return_X_y=True)
    features = (features - features.mean(0)) / features.std(0)
    order = np.random.default_rng(0).permutation(len(classes))
    return [(torch.tensor(features[n : n + 1]), torch.tensor(classes[n : n + 1])) for n in order]


def digits() -> Samples:
    """100 images [1, 28, 28], from −1 to 1, in a random order: 10 classes."""
    held = np.load(DIGITS)
    images, labels = held["images"] / 127.5 - 1, held["labels"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    return [(torch.tensor(images[n][None, None]), torch.tensor(labels[n : n + 1])) for n in order]


def texts() -> Samples:
    """Made here: texts of 10 words of a vocabulary of 12, in which the words 0 and 1 stand once each; the class says
    which of the two comes first.
    """
    random = np.random.default_rng(0)
    found: Samples = []
    for _ in range(TEXTS):
        text, (one, other) = random.integers(2, WORDS, LENGTH), random.choice(LENGTH, 2, replace=False)
        text[one], text[other] = 0, 1
        found.append((torch.tensor(text)[None], torch.tensor([int(one > other)])))
    return found


class Tokens(nn.Module):
    """Images [B, 1, 28, 28] as 16 patches with their positions, [B, 16, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, stride=7)
        self.positions = nn.Parameter(0.02 * torch.randn(16, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.patches(x).flatten(2).transpose(1, 2) + self.positions


class Mean(nn.Module):
    """[B, T, E] to [B, E]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class UnrolledRNN(nn.Module):
    """[B, T, inputs] to the last state [B, hidden]: h' = tanh(W x + U h + b)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.heard, self.held = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden, bias=False)
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.hidden)
        for word in x.unbind(1):
            h = torch.tanh(self.heard(word) + self.held(h))
        return h


class UnrolledLSTM(nn.Module):
    """[B, T, inputs] to the last output [B, hidden] of a long short-term memory."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.heard, self.held = nn.Linear(inputs, 4 * hidden), nn.Linear(hidden, 4 * hidden, bias=False)
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), self.hidden)
        for word in x.unbind(1):
            enters, forgets, shows, new = (self.heard(word) + self.held(h)).chunk(4, 1)
            c = torch.sigmoid(forgets) * c + torch.sigmoid(enters) * torch.tanh(new)
            h = torch.sigmoid(shows) * torch.tanh(c)
        return h


def linear() -> list[nn.Module]:
    return [nn.Linear(4, 3)]


def perceptron() -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(4, HIDDEN), nn.Tanh()), nn.Linear(HIDDEN, 3)]


def residual() -> list[nn.Module]:
    """A stem, four blocks, a head."""
    channels = 8

    def convolved() -> list[nn.Module]:
        return [nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(2, channels)]

    stem = nn.Sequential(nn.Conv2d(1, channels, 3, stride=2, padding=1), nn.GroupNorm(2, channels), nn.ReLU())
    blocks = [Residual(nn.Sequential(*convolved(), nn.ReLU(), *convolved())) for _ in range(4)]
    head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    return [stem, *blocks, head]


def attention() -> list[nn.Module]:
    """Patches, one encoder layer, a head."""
    width = 32
    encoder = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
    return [Tokens(width), encoder, nn.Sequential(Mean(), nn.Linear(width, 10))]


def recurrent(kind: Callable[[int, int], nn.Module]) -> list[nn.Module]:
    return [nn.Embedding(WORDS, 8), kind(8, HIDDEN), nn.Linear(HIDDEN, 2)]


def seeded(make: Callable[[], list[nn.Module]]) -> Callable[[], list[nn.Module]]:
    def layers() -> list[nn.Module]:
        torch.manual_seed(0)
        return [layer.double() for layer in make()]

    return layers


CASES: Mapping[str, Case] = {
    "linear": Case(seeded(linear), iris),
    "MLP-30": Case(seeded(perceptron), iris),
    "ResNet, 4 blocks": Case(seeded(residual), digits),
    "ViT, 1 layer": Case(seeded(attention), digits),
    "RNN-30": Case(seeded(lambda: recurrent(UnrolledRNN)), texts),
    "LSTM": Case(seeded(lambda: recurrent(UnrolledLSTM)), texts),
}
