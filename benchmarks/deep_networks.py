"""Networks that grow in depth block by block: residual convolutions, and a pre-norm transformer encoder.

No block looks at several samples at once. A reversible block is a coupling whose two functions work on half of the
channels each: as many activations as the residual block of the same width, and fewer weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import hamdist

CLASSES = 10
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Kind:
    """name: in words.  shape: of one sample.  stem, block, reversible, head: what builds each layer."""

    name: str
    shape: tuple[int, ...]
    stem: Build
    block: Build
    reversible: Build
    head: Build

    def builders(self, depth: int, reversible: bool = False) -> dict[str, Build]:
        """stem, `depth` blocks, head."""
        block = self.reversible if reversible else self.block
        blocks = {f"block{index}": block for index in range(depth)}
        return {"stem": self.stem, **blocks, "head": self.head}

    def batch(self, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """inputs [rows, *shape] and classes [rows], always the same."""
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(rows, *self.shape, generator=generator)
        return inputs.to(device), torch.randint(CLASSES, (rows,), generator=generator).to(device)


def convolutions(channels: int) -> nn.Module:
    """[B, C, H, W] to the same: twice normalised, rectified, convolved."""
    once = [nn.GroupNorm(4, channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
    again = [nn.GroupNorm(4, channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
    return nn.Sequential(*once, *again)


def convolutional(channels: int, side: int) -> Kind:
    return Kind(
        f"conv, {channels} channels, {side} x {side}",
        (3, side, side),
        stem=lambda: nn.Conv2d(3, channels, 3, padding=1),
        block=lambda: hamdist.Residual(convolutions(channels)),
        reversible=lambda: hamdist.Coupling(convolutions(channels // 2), convolutions(channels // 2)),
        head=lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)),
    )


class Attention(nn.Module):
    """[B, T, E] to the same: normalised, then self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.attention(x, x, x, need_weights=False)[0]


def perceptron(width: int) -> nn.Module:
    """[B, T, E] to the same: normalised, then a hidden layer of 4 E."""
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
    )


class Pool(nn.Module):
    """[B, T, E] to [B, E]: the mean over positions."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def transformer(width: int, positions: int, heads: int = 4) -> Kind:
    half = width // 2
    return Kind(
        f"transformer, width {width}, {positions} positions",
        (positions, 16),
        stem=lambda: nn.Linear(16, width),
        block=lambda: nn.Sequential(
            hamdist.Residual(Attention(width, heads)), hamdist.Residual(perceptron(width))
        ),
        reversible=lambda: hamdist.Coupling(Attention(half, heads), perceptron(half), dim=2),
        head=lambda: nn.Sequential(nn.LayerNorm(width), Pool(), nn.Linear(width, CLASSES)),
    )
