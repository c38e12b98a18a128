"""The constants of one layer's equations of motion."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from torch import Tensor

from hamdist.physics.integrators import INTEGRATORS, Coefficients, Gain, Integrator, nesterov_step
from hamdist.physics.rates import Rate

StepName = Literal["explicit", "semi-implicit", "exponential"]


@dataclass(frozen=True)
class Dynamics:
    """dξ/dt = f;  dp/dt = −η_ξ p − s ∂H/∂ξ;  dω/dt = −η_θ ω − s (∂H/∂θ + λθ);  dθ/dt = s β ω.

    tau: the step τ.  sign: s, −1 for HL's dissipative form.  state_dissipation, weight_dissipation: η_ξ, η_θ.
    weight_decay: λ.  clip: the largest magnitude of any number in p.  average: a of the running mean of the weights,
    None where none is kept.  An adaptive rate imposes its own η_θ.
    dampening: d of ω' = aω − s c (1 − d) (∂H/∂θ + λθ), where it is not the first update.
    exact: p stays zero, and the drive has what the past did through ∂ξ/∂θ, which is carried forward; of a layer with a
    memory.
    """

    step: StepName = "semi-implicit"
    tau: float = 1.0
    sign: int = -1
    state_dissipation: float = 0.0
    weight_dissipation: float = 1.0
    weight_decay: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0
    clip: float | None = None
    exact: bool = False
    average: float | None = None
    rate: Rate = field(default_factory=Rate)

    @cached_property
    def integrator(self) -> Integrator:
        integrator = INTEGRATORS[self.step]
        return integrator._replace(step=nesterov_step) if self.nesterov else integrator

    @cached_property
    def state_coefficients(self) -> Coefficients:
        """(a, c) of p."""
        return self.integrator.coefficients(self.tau, self.state_dissipation)

    @cached_property
    def weight_coefficients(self) -> Coefficients:
        """(a, c) of ω."""
        if self.rate.adaptive is not None:
            return Coefficients(self.rate.adaptive.decay, self.tau)
        return self.integrator.coefficients(self.tau, self.weight_dissipation)

    def gain(self, beta: Gain, adapted: Gain) -> Gain:
        """βτ, the factor of ω' in the motion of θ; `adapted` is what an adaptive rate found (1 without one)."""
        if self.rate.adaptive is None:
            return beta * self.tau
        return beta * adapted / self.weight_coefficients.drive

    def dampened(self, drive: Tensor, n: Tensor) -> Tensor:
        """(1 − d) G; the first drive, after n = 0 updates, as it is: torch.optim.SGD's dampening."""
        return drive * (1 - self.dampening * (n > 0).to(n.dtype)).to(drive.dtype) if self.dampening else drive
