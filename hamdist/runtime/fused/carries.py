"""What layers carry, as what a stack of them carries: every tensor with the members along a first dimension."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

Tree = TypeVar("Tree")


def together(trees: Sequence[Tree]) -> Tree:
    """Trees of tensors of equal structure as one."""
    return tree_map(lambda *tensors: torch.stack(tensors), *trees)


def apart(tree: Tree, count: int) -> list[Tree]:
    """The tree of each member, in memory of its own."""
    return [tree_map(lambda tensor, k=k: tensor[k].clone(), tree) for k in range(count)]


def along(factors: Tensor, like: Tensor) -> Tensor:
    """One factor a member [N], so that it multiplies every number of that member in `like` [N, …]."""
    return factors.view(-1, *[1] * (like.dim() - 1))


def there(value: Tensor | None) -> Tensor:
    """What a valid token brings."""
    assert value is not None, "a valid token brings a value"
    return value
