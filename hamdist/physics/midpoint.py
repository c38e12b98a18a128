"""The midpoint rule between layers: y_1 = y_0 + f_0(y_0), and y_(k+1) = y_(k−1) + 2 f_k(y_k) from then on.

It can be inverted whatever the f are, so a chain of any blocks that keep the shape learns without storing activations.
What passes between its layers is (y_(k−1), y_k), side by side along one dimension. Source: the reversible rule of arXiv
2409.12038; for networks Chang et al., "Reversible Architectures for Arbitrarily Deep Residual Neural Networks", 2018.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Midpoint(nn.Module):
    """(y_(k−1), y_k) → (y_k, y_(k−1) + 2 f(y_k)), f the body; backward y_(k−1) = y_(k+1) − 2 f(y_k).

    starts: the first of a chain, y_0 → (y_0, y_0 + f(y_0)).  dim: along which the two lie.
    """

    def __init__(self, body: nn.Module, starts: bool = False, dim: int = 1) -> None:
        super().__init__()
        self.body, self.starts, self.dim = body, starts, dim

    def forward(self, x: Tensor) -> Tensor:
        before, here = (x, x) if self.starts else self._two(x)
        step = self.body(here)
        if step.shape != here.shape:
            raise ValueError(
                f"a midpoint body must keep the shape, but turns {list(here.shape)} into {list(step.shape)}"
            )
        return torch.cat([here, before + (step if self.starts else 2 * step)], self.dim)

    def inverse(self, y: Tensor) -> Tensor:
        """The x whose forward is y."""
        here, after = self._two(y)
        return here if self.starts else torch.cat([after - 2 * self.body(here), here], self.dim)

    def _two(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[self.dim] % 2:
            raise ValueError(f"a midpoint layer hears two signals side by side, not one of {list(x.shape)}")
        before, here = x.chunk(2, self.dim)
        return before, here


class LatestOfTwo(nn.Module):
    """(y_(k−1), y_k) → y_k: what leaves a chain of midpoint layers."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.chunk(2, self.dim)[1]


def midpoint(blocks: Sequence[nn.Module], head: nn.Module, dim: int = 1) -> list[nn.Module]:
    """A layer for every block, which keeps the shape of its input, and one for the head, which hears the last y."""
    chain = [Midpoint(block, starts=number == 0, dim=dim) for number, block in enumerate(blocks)]
    return [*chain, nn.Sequential(LatestOfTwo(dim), head)]
