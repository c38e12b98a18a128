"""Where a state starts: at zero, at fixed numbers, where it has learnt to, or where its first input puts it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Initial = Literal["zeros", "learnt", "input"] | Tensor | Sequence[float]


class Start(nn.Module):
    """ξ before the first input a [B, inputs]: one tensor a component, [B, size].

    initial: "zeros"; "learnt", the same numbers for every row, which begin at zero and learn; "input", a linear map of
    the first input, which learns; or fixed numbers [size], for a state of one component.
    """

    def __init__(self, initial: Initial, input_size: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.kind = initial if isinstance(initial, str) else "fixed"
        if isinstance(initial, str) and initial not in ("zeros", "learnt", "input"):
            raise ValueError(f"initial is 'zeros', 'learnt', 'input' or numbers, not {initial!r}")
        if self.kind == "learnt":
            self.values = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sizes)
        if self.kind == "input":
            self.maps = nn.ModuleList(nn.Linear(input_size, size, bias=False) for size in sizes)
        if not isinstance(initial, str):
            self.register_buffer("fixed", _numbers(initial, self.sizes))

    def forward(self, a: Tensor) -> tuple[Tensor, ...]:
        if self.kind == "learnt":
            return tuple(value.expand(len(a), -1) for value in self.values)
        if self.kind == "input":
            return tuple(linear(a) for linear in self.maps)
        if self.kind == "fixed":
            return (self.fixed.expand(len(a), -1),)  # type: ignore[operator]
        return tuple(a.new_zeros(len(a), size) for size in self.sizes)

    @property
    def learns(self) -> bool:
        return self.kind in ("learnt", "input")


def _numbers(initial: Tensor | Sequence[float], sizes: tuple[int, ...]) -> Tensor:
    numbers = (
        torch.as_tensor(initial, dtype=torch.get_default_dtype())
        if not isinstance(initial, Tensor)
        else initial
    )
    if len(sizes) != 1 or numbers.shape != sizes:
        raise ValueError(
            f"an initial state of {list(numbers.shape)} numbers, where one of {list(sizes)} is needed"
        )
    return numbers.detach().clone()
