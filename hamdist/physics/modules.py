"""Two modules that torch lacks and that locality calls for: a residual block, and a coupling that can be inverted."""

import inspect
import math
from typing import Literal, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized


class Merging(nn.Sequential):
    """A sequence whose first module takes several inputs."""

    def forward(self, *inputs: Tensor) -> Tensor:
        first, *others = self
        y: Tensor = first(*inputs)
        for module in others:
            y = module(y)
        return y


def is_sequence(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether a module is its parts, one after another, and nothing else: no forward, tensors or hooks of its own."""
    called = (
        forward_of(module) in (nn.Sequential.forward, Merging.forward)
        and type(module).__call__ is nn.Module.__call__
    )
    return (
        called and not (module._parameters or module._buffers or is_parametrized(module)) and unhooked(module)
    )


def forward_of(module: nn.Module) -> object:
    """The forward of a module's type, also where that is none of Python's, as of scripted modules."""
    return inspect.getattr_static(type(module), "forward", None)


def calls(module: nn.Module) -> bool:
    """Whether a container can be called, as lists and mappings of modules cannot."""
    return "forward" in vars(module) or forward_of(module) is not nn.ModuleList.forward


def unhooked(module: nn.Module) -> bool:
    """Whether nothing but its forward runs when a module is called."""
    return "forward" not in vars(module) and not any(getattr(module, hooks) for hooks in _HOOKS)


_HOOKS = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"


BranchScale = float | Literal["auto"]


class Residual(nn.Module):
    """y = x + scale · body(x).

    scale: a number more than 0, or "auto": 1/√L, where L is the number of residual blocks of the network. Sums of L
    branches are then as large, and as curved, whatever L is (Yang, Yu, Zhu, Hayou, "Tensor Programs VI", 2023).
    """

    def __init__(self, body: nn.Module, scale: BranchScale = 1.0) -> None:
        super().__init__()
        if scale != "auto" and not (_is_number(scale) and 0 < scale < math.inf):
            raise ValueError(f"scale is 'auto' or a number more than 0, not {scale!r}")
        self.body = body
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.added(x, self.body(x))

    def added(self, x: Tensor, y: Tensor) -> Tensor:
        """x + scale · y, where the body keeps the shape."""
        if y.shape != x.shape:
            raise ValueError(
                f"a residual body must keep the shape, but turns {list(x.shape)} into {list(y.shape)}"
            )
        if isinstance(self.scale, str):
            raise ValueError(
                "scale 'auto' counts the residual blocks of a network, and this block is in none"
            )
        return x + y if self.scale == 1 else torch.add(x, y, alpha=self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def auto_scale(blocks: int) -> float:
    """1/√L."""
    return 1 / math.sqrt(blocks)


def settle_scales(module: nn.Module, blocks: int) -> None:
    """Gives every residual block in a module whose scale is "auto" its number.  blocks: L, of the whole network."""
    for part in module.modules():
        if isinstance(part, Residual) and part.scale == "auto":
            part.scale = auto_scale(blocks)


def waits_for_scale(module: nn.Module) -> bool:
    """Whether a residual block in a module has a scale that the network decides."""
    return any(isinstance(part, Residual) and part.scale == "auto" for part in module.modules())


def count_blocks(module: nn.Module) -> int:
    """The residual blocks in a module."""
    return sum(isinstance(part, Residual) for part in module.modules())


def is_residual(module: nn.Module) -> TypeGuard[Residual]:
    """Whether a module is a residual block, and nothing else."""
    return forward_of(module) is Residual.forward and unhooked(module)


class Coupling(nn.Module):
    """y1 = x1 + F(x2), y2 = x2 + G(y1), x1 and x2 the halves of x along `dim`: invertible whatever F and G are.

    Source: Gomez, Ren, Urtasun, Grosse, "The Reversible Residual Network", 2017, equations 6 and 7.
    """

    def __init__(self, f: nn.Module, g: nn.Module, dim: int = 1) -> None:
        super().__init__()
        self.f = f
        self.g = g
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, self.dim)
        y1 = x1 + self.f(x2)
        return torch.cat([y1, x2 + self.g(y1)], self.dim)

    def inverse(self, y: Tensor) -> Tensor:
        """The x whose forward is y."""
        y1, y2 = y.chunk(2, self.dim)
        x2 = y2 - self.g(y1)
        return torch.cat([y1 - self.f(x2), x2], self.dim)


def invertible(module: nn.Module) -> bool:
    """Whether a module offers `inverse(y)`, which the reversible pairing calls."""
    return callable(getattr(module, "inverse", None))
