"""How a network learns: the constants of motion of every layer, its rate scaled by its delay."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Literal

from hamdist.errors import NetworkError, Problem, did_you_mean
from hamdist.network.network import Network
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.layers import Layer
from hamdist.physics.memory import PairingName
from hamdist.physics.rates import delay_scale, momentum_scale, parameter_factors

PolicyName = Literal["auto", "constant", "delay-scaled"]


@dataclass(frozen=True)
class AverageReach:
    """How far back a running mean reaches: the share `decay` stays at every update, or e⁻¹ of `samples` samples ago."""

    decay: float | None = None
    samples: float | None = None

    def of_update(self, rows: float) -> float:
        """What stays of the mean at an update by so many samples."""
        if self.samples is None:
            assert self.decay is not None
            return self.decay
        return math.exp(-rows / self.samples)


@dataclass(frozen=True)
class Learning:
    """dynamics: shared by all layers.  gamma: γ, the weight of the loss.

    rate: "delay-scaled" multiplies a layer's β by min(1, π/(2D+1))^exponent and, in a network with delays, by
    min(1, τη_θ), so that βτ/η_θ does not grow with momentum; "auto" does so unless the pairing is current.
    beta_scale: glob on "<layer>.<parameter>" → factor of β.  skips: whether a loss that is not finite drives nothing;
    else it ends the run.  average: of the running mean of the weights, None where none is kept.
    """

    dynamics: Dynamics = field(default_factory=Dynamics)
    gamma: float = 1.0
    rate: PolicyName = "auto"
    beta_scale: Mapping[str, float] = field(default_factory=dict)
    skips: bool = False
    average: AverageReach | None = None
    exponent: float = 1.0

    def of_layer(
        self, name: str, layer: Layer, depth: int, pairing: PairingName, delays: bool, rows: float = 1.0
    ) -> Dynamics:
        """The dynamics of one layer whose costate returns after `depth` ticks.  delays: whether any layer's returns
        later.  rows: samples of an update.
        """
        of_delay, of_momentum = self._scales(depth, pairing, delays)
        rate = replace(
            self.dynamics.rate,
            delay_factor=of_delay,
            momentum_factor=of_momentum,
            factors=parameter_factors(self.beta_scale, name, layer.pure.parameters()),
        )
        average = None if self.average is None else self.average.of_update(rows)
        return replace(self.dynamics, rate=rate, average=average)

    def moved(self, depth: int, pairing: PairingName, delays: bool) -> float:
        """(1 − d)βτ/η_θ of a layer whose costate returns after `depth` ticks, of the largest β: how far a steady drive
        of 1 moves its weights in a step.  delays: as of `of_layer`.
        """
        dynamics = self.dynamics
        of_delay, of_momentum = self._scales(depth, pairing, delays)
        decay, drive = dynamics.weight_coefficients
        steady = dynamics.tau * drive / (1 - decay) if decay < 1 else math.inf
        return dynamics.rate.peak * of_delay * of_momentum * steady * (1 - dynamics.dampening)

    def rates_differ(self, pairing: PairingName) -> bool:
        """Whether layers may learn at different rates."""
        return self.delay_scaled(pairing) or bool(self.beta_scale)

    def lowered(self, factor: float) -> "Learning":
        """The same with β times a factor."""
        return replace(self, dynamics=replace(self.dynamics, rate=self.dynamics.rate.lowered(factor)))

    def delay_scaled(self, pairing: PairingName) -> bool:
        """Whether β shrinks with the delay."""
        return self.rate == "delay-scaled" or (self.rate == "auto" and pairing != "current")

    def _scales(self, depth: int, pairing: PairingName, delays: bool) -> tuple[float, float]:
        """What a layer's β is multiplied by, for its delay and for momentum; as of `of_layer`."""
        if not self.delay_scaled(pairing):
            return 1.0, 1.0
        late = depth + self.dynamics.integrator.lag
        return delay_scale(late, self.exponent), self._momentum_scale if delays else 1.0

    @property
    def _momentum_scale(self) -> float:
        """Adaptive rates have a momentum of their own."""
        dynamics = self.dynamics
        if dynamics.rate.adaptive is not None:
            return 1.0
        return momentum_scale(dynamics.tau, dynamics.weight_dissipation, dynamics.dampening)


def check_damped(learning: Learning, pairing: PairingName, delays: bool) -> None:
    """Raises NetworkError where rates are to be scaled by a delay, and nothing damps the weights' costates."""
    dynamics = learning.dynamics
    undamped = dynamics.rate.adaptive is None and not dynamics.weight_dissipation
    if undamped and delays and learning.delay_scaled(pairing):
        message = (
            "nothing dissipates, and no rate is stable then where costates come late: set more than 0, or "
            "learning.rate=constant to learn so nevertheless"
        )
        raise NetworkError(Problem("learning.dissipation.weight", message))


def check_scales(patterns: Mapping[str, float], parameters: Sequence[str]) -> None:
    """Raises NetworkError for patterns of `beta_scale` that match none of the parameters that learn."""
    shown = ", ".join(parameters[:6]) + (", …" if len(parameters) > 6 else "")
    problems = [
        Problem(
            f"learning.beta_scale.{glob}",
            f"matches no parameter that learns{did_you_mean(glob, parameters)} (they are {shown})",
        )
        for glob in patterns
        if not any(fnmatch(name, glob) for name in parameters)
    ]
    if problems:
        raise NetworkError(*problems)


def check_time_constants(network: Network, tau: float) -> None:
    """A relaxing layer needs T > τ/2, or a plain step overshoots. Raises NetworkError naming every other one."""
    problems = [
        Problem(
            spec.key,
            f"layer {spec.name!r} relaxes with T = {spec.relaxing}, but a plain step of tau = {tau} "
            f"needs T > {tau / 2}",
        )
        for spec in network.layers
        if spec.relaxing is not None and spec.relaxing <= tau / 2
    ]
    if problems:
        raise NetworkError(*problems)
