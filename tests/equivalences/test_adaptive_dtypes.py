"""E2 beyond real numbers in double precision: adaptive β is torch.optim's for every type that a layer may have.

Float64 and complex128 to 1e-12 over 30 steps; float32 to 1e-5, and bfloat16 after a single step to its own precision,
2⁻⁷ of numbers below 1: from then on roundings add up, there as here.
"""

import pytest
import torch
from support.samples import samples
from torch import Tensor, nn

from hamdist import Learner
from hamdist.network.layer_spec import converted


class Complex(nn.Module):
    """Complex weights, and a parameter without any numbers."""

    def __init__(self, outputs: int = 8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, outputs, dtype=torch.complex128) / 3)
        self.none = nn.Parameter(torch.zeros(0, 2, dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.weight.dtype) @ self.weight


class Angles(Complex):
    """From complex signals to real ones."""

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) * (1 + 2j)).real


def between() -> list[nn.Module]:
    torch.manual_seed(0)
    return [Complex(), Complex(), Angles(3)]


def real() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)]


RULES = {
    "adam": ({"type": "adam"}, {}, lambda p: torch.optim.Adam(p, 0.01)),
    "adamw": (
        {"type": "adamw"},
        {"weight_decay": 0.1},
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    ),
    "rmsprop": ({"type": "rmsprop"}, {}, lambda p: torch.optim.RMSprop(p, 0.01)),
    "with momentum": (
        {"type": "rmsprop", "momentum": 0.7},
        {},
        lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.7),
    ),
}


def difference(make, rule, dtype, steps, **execution) -> float:
    """The largest of any weight after so many steps."""
    adaptive, more, optimiser = RULES[rule]
    batches = [(x.to(dtype), y) for x, y in samples(steps, (8,))]
    learner = Learner(
        make(), dtype=dtype, beta=0.01, locality="nonlocal", adaptive=adaptive, **more, **execution
    )
    learner.steps(batches)
    plain = converted(nn.Sequential(*make()), dtype, torch.device("cpu"))
    optimise = optimiser(plain.parameters())
    for x, y in batches:
        optimise.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        optimise.step()
    ours, theirs = learner.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    return max((ours[key] - theirs[key]).abs().max().item() for key in ours if ours[key].numel())


@pytest.mark.parametrize("rule", RULES)
def test_complex_weights_between_complex_signals(rule):
    assert difference(between, rule, torch.float64, 30) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["adam", "rmsprop"])
def test_so_it_is_as_traced_operations_and_in_a_stack(rule):
    assert difference(between, rule, torch.float64, 30, stack=True) < 1e-12


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("dtype", "steps", "tolerance"), [(torch.float32, 30, 1e-5), (torch.bfloat16, 1, 2**-7)]
)
def test_real_weights_of_other_precisions(rule, dtype, steps, tolerance):
    assert difference(real, rule, dtype, steps) < tolerance
