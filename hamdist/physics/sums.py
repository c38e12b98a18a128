"""base + factor · change in one kernel, eager or compiled.

The compiler of torch 2.13 drops `alpha` where it fuses a sum with a matrix product, as a weight's gradient is one; so
compiled code multiplies first, which it fuses anyway.
"""

import torch
from torch import Tensor

Factor = float | Tensor


def plus(base: Tensor, change: Tensor, factor: Factor) -> Tensor:
    """base + factor · change; the factor is a number, or a tensor that broadcasts to base."""
    if isinstance(factor, Tensor):
        return base + factor.to(base.dtype) * change
    if torch.compiler.is_compiling():
        return base + change * factor
    return base.add(change, alpha=factor)


def plus_(base: Tensor, change: Tensor, factor: Factor) -> Tensor:
    """The same, in the memory of base."""
    if isinstance(factor, Tensor):
        return base.add_(factor.to(base.dtype) * change)
    if torch.compiler.is_compiling():
        return base.add_(change * factor)
    return base.add_(change, alpha=factor)
