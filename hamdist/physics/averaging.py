"""The running mean of a layer's weights, and of the buffers that its module writes: what it has learnt, without the
unrest of a rate that does not fade (Polyak and Juditsky, 1992).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.physics.numerics import per_member, plus, plus_
from hamdist.physics.pure_module import Tensors


class RunningMean(NamedTuple):
    """tensors: the mean, by name.  span: 1 + a + … + aⁿ⁻¹ after n updates, 0-dimensional, [N] of a stack."""

    tensors: Tensors
    span: Tensor


def initial_mean(of: Tensors, device: torch.device) -> RunningMean:
    """Before the first update it is what there is."""
    tensors = {name: tensor.clone() for name, tensor in of.items()}
    return RunningMean(tensors, torch.zeros((), dtype=torch.float64, device=device))


def moved_mean(mean: RunningMean, parameters: Tensors, buffers: Tensors, decay: float) -> RunningMean:
    """m' = m + (x − m) / (1 + a + … + aⁿ⁻¹), which is Σ aⁿ⁻ᵏ xₖ / Σ aⁿ⁻ᵏ: no start weighs in. In the memory of m.

    decay: a.  Of buffers, which may be masks of infinities or whole numbers, what stays is its own mean, and whole
    numbers are the latest.
    """
    span = mean.span * decay + 1

    def moved(name: str, m: Tensor) -> Tensor:
        if name in parameters:
            return plus_(m, parameters[name] - m, per_member(1 / span, m))
        x = buffers[name]
        if not (m.is_floating_point() or m.is_complex()):
            return m.copy_(x)
        return m.copy_(torch.where(m == x, x, plus(m, x - m, per_member(1 / span, m))))

    return RunningMean({name: moved(name, m) for name, m in mean.tensors.items()}, span)


def begun_anew(mean: RunningMean, now: Tensors) -> RunningMean:
    """A mean of the same tensors that has seen none but those of now."""
    return initial_mean({name: now[name] for name in mean.tensors}, mean.span.device)
