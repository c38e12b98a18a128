"""How numbers are made: base + factor · change in one kernel, and whether torch.func must take derivatives.

Inside a transform (torch's vmap, grad and compiler, or a trace) torch.func differentiates; outside of them plain
autograd gives the same numbers with a fraction of the Python. The compiler of torch 2.13 drops `alpha` where it fuses a
sum with a matrix product, as a weight's gradient is one; so compiled code multiplies first, which it fuses anyway.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_here = threading.local()


def transformed() -> bool:
    """Whether a function is being transformed, or compiled, at this moment."""
    return (
        getattr(_here, "tracing", False)
        or torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


@contextmanager
def tracing() -> Iterator[None]:
    """Operations are being written down for later."""
    _here.tracing = True
    try:
        yield
    finally:
        _here.tracing = False


def differentiable(dtype: torch.dtype) -> bool:
    """Whether derivatives are taken by numbers of this type."""
    return dtype.is_floating_point or dtype.is_complex


Factor = float | Tensor


def per_member(numbers: Tensor, like: Tensor) -> Tensor:
    """One number of a layer as it is; of a stack [N], so that each multiplies all of its member's in `like` [N, …]."""
    return numbers.view(-1, *[1] * (like.dim() - 1)) if numbers.dim() else numbers


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
