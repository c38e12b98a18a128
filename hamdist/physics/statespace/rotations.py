"""Rotations in pairs of units (2i, 2i+1): CTB, by Euler's step, and CTBE, exactly (arXiv 2409.12038)."""

import math

import torch
from torch import Tensor, nn

from hamdist.physics.statespace.contract import State, between, halves, interleaved
from hamdist.physics.statespace.readout import Activation, Linear
from hamdist.physics.statespace.start import Initial


class Rotations(Linear):
    """Pairs of units (h₁, h₂), each with an angular velocity ω, which is drawn from −1 … 1 times `fastest`.

    driven: whether inputs move the state; where not, it goes on from where it starts on its own.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        initial: Initial = "zeros",
        activation: Activation = "identity",
        fastest: float = 1.0,
        driven: bool = True,
    ) -> None:
        if hidden_size % 2:
            raise ValueError(f"hidden_size must be even, since units turn in pairs, not {hidden_size}")
        super().__init__(input_size, hidden_size, output_size, initial, activation)
        if not driven:
            del self.b
        self.driven = driven
        self.omega = nn.Parameter(torch.empty(hidden_size // 2).uniform_(-fastest, fastest))

    def _drive(self, a: Tensor) -> tuple[Tensor, Tensor] | None:
        """B a, of both units of every pair."""
        return halves(self.b(a)) if self.driven else None


class CTB(Rotations):
    """h₁' = (1 − τα) h₁ + τω h₂ + τ (B a)₁ and h₂' = (1 − τα) h₂ − τω h₁ + τ (B a)₂: Euler's step, with damping α.

    Such a step stretches a pair by the norm of (1 − τα, τω), which is above 1 without damping. projected: the two are
    divided by that norm where it is above 1, so that no pair grows of itself.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        initial: Initial = "zeros",
        activation: Activation = "identity",
        fastest: float = 1.0,
        driven: bool = True,
        damping: float = 0.0,
        projected: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, initial, activation, fastest, driven)
        self.damping, self.projected = damping, projected

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        moved = _turned(halves(state[0]), *self._step(tau))
        return between(state, (interleaved(*_driven(moved, self._drive(a), tau)),), tau)

    def earlier(self, a: Tensor, after: State, tau: float) -> State:
        kept, turned = self._step(tau)
        back = _turned(_driven(halves(after[0]), self._drive(a), -tau), kept, -turned)
        square = kept * kept + turned * turned
        return (interleaved(back[0] / square, back[1] / square),)

    def _step(self, tau: float) -> tuple[Tensor, Tensor]:
        """What multiplies a unit, and its partner, [hidden / 2] each."""
        turned = tau * self.omega
        kept = torch.full_like(turned, 1 - tau * self.damping)
        if not self.projected:
            return kept, turned
        norm = torch.sqrt(kept * kept + turned * turned).clamp(min=1.0)
        return kept / norm, turned / norm


class CTBE(Rotations):
    """h' = R(ωτ) h + ∫₀^τ R(ωs) ds B a, with R(x) = [[cos x, sin x], [−sin x, cos x]].

    The integral is [[s, k], [−k, s]] with s = sin(ωτ)/ω and k = (1 − cos ωτ)/ω, written so that ω = 0 is no exception.
    """

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        angle = tau * self.omega
        moved = _turned(halves(state[0]), angle.cos(), angle.sin())
        return between(state, (interleaved(*_driven(moved, self._integral(a, tau))),), tau)

    def earlier(self, a: Tensor, after: State, tau: float) -> State:
        angle = tau * self.omega
        moved = _driven(halves(after[0]), self._integral(a, tau), -1.0)
        return (interleaved(*_turned(moved, angle.cos(), -angle.sin())),)

    def _integral(self, a: Tensor, tau: float) -> tuple[Tensor, Tensor] | None:
        drive, angle = self._drive(a), tau * self.omega
        if drive is None:
            return None
        sine = tau * torch.sinc(angle / math.pi)
        rest = tau * (angle / 2) * torch.sinc(angle / (2 * math.pi)) ** 2
        return _turned(drive, sine, rest)


def _turned(pair: tuple[Tensor, Tensor], kept: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
    """[[kept, turned], [−turned, kept]] times every pair."""
    return kept * pair[0] + turned * pair[1], kept * pair[1] - turned * pair[0]


def _driven(
    pair: tuple[Tensor, Tensor], drive: tuple[Tensor, Tensor] | None, factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    return pair if drive is None else (pair[0] + factor * drive[0], pair[1] + factor * drive[1])
