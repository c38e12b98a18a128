"""β, the learning rate: a number or a schedule, scaled per parameter and by the delay, or adapted to the drive.

A schedule is β as a function of n, the number of updates a layer has made (a 0-dimensional tensor).
"""

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from hamdist.physics.numerics import plus_

Schedule = Callable[[Tensor], Tensor]
COUNTS = (0, 1, 10, 100, 1000, 10**4, 10**5)  # of updates, at which a schedule is looked at


def cosine(start: float, end: float, over: int) -> Schedule:
    """From start to end along half a cosine in `over` updates, then end."""
    return lambda n: end + (start - end) * (1 + torch.cos(math.pi * (n / over).clamp(max=1))) / 2


def linear(start: float, end: float, over: int) -> Schedule:
    """From start to end along a line in `over` updates, then end."""
    return lambda n: start + (end - start) * (n / over).clamp(max=1)


def exponential(start: float, factor: float, over: int) -> Schedule:
    """start · factor^(n/over)."""
    return lambda n: start * factor ** (n / over)


def stepped(start: float, factor: float, over: int) -> Schedule:
    """start · factor^⌊n/over⌋."""
    return lambda n: start * factor ** torch.floor(n / over)


def inverse_sqrt(start: float, over: int) -> Schedule:
    """start / √(1 + n/over)."""
    return lambda n: start / torch.sqrt(1 + n / over)


def warmed_up(schedule: Schedule, updates: int) -> Schedule:
    """The schedule, scaled by (n + 1)/updates for the first `updates` updates."""
    return lambda n: schedule(n) * ((n + 1) / updates).clamp(max=1)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "cosine": cosine,
    "linear": linear,
    "exponential": exponential,
    "step": stepped,
    "inverse-sqrt": inverse_sqrt,
}


def delay_scale(delay: int, exponent: float = 1.0) -> float:
    """min(1, π/(2D+1))^exponent, the factor of β for an update delayed by D ticks.

    Without momentum and for unit curvature such an update is stable up to 2 sin(π/(4D+2)), which is π/(2D+1) to
    within 2 % for D ≥ 2 (and a little less).
    """
    return min(1.0, math.pi / (2 * delay + 1)) ** exponent


def bearable(delay: int, momentum: bool) -> float:
    """The largest βτ/η_θ that is stable at unit curvature where drives are D updates old: 2 sin(π/(4D+2)), and 1/D,
    which suffices for any momentum, with it.
    """
    return 1 / delay if momentum else 2 * math.sin(math.pi / (4 * delay + 2))


def momentum_scale(tau: float, dissipation: float, dampening: float = 0.0) -> float:
    """min(1, τη_θ/(1 − d)): with it a steady drive moves the weights by βτ² a step whatever the momentum, where alone
    it would by (1 − d)βτ/η_θ, which is what a delay bounds.
    """
    left = 1 - dampening
    return 1.0 if tau * dissipation >= left else tau * dissipation / left


Moments = tuple[Tensor, ...]
"""What a rule keeps of the history of one parameter's drive, MOST_MOMENTS tensors or fewer."""
MOST_MOMENTS = 5


class Adaptive(Protocol):
    """A rule that adapts β to the history of the drive G; n counts this update, from 1.

    decay: the a it imposes on ω' = aω + cG.  decoupled: weight decay shrinks θ itself instead of entering G.
    counts: whether n matters.  stacks: whether it moves every number by itself, so that layers may compute as one.
    """

    @property
    def decay(self) -> float: ...

    @property
    def decoupled(self) -> bool: ...

    @property
    def counts(self) -> bool: ...

    @property
    def stacks(self) -> bool: ...

    def moments(self, theta: Tensor) -> Moments:
        """Those of a parameter before its first update."""
        ...

    def __call__(self, drive: Tensor, moments: Moments, n: Tensor) -> tuple[Tensor, Moments, Tensor | float]:
        """Returns (drive', moments', gain), moments' in the memory of theirs; the weights move by −lr · gain · ω'/c."""
        ...


@dataclass(frozen=True)
class Adam:
    """β_n = lr (1−b1) / (cτ (1−b1ⁿ)(√(v'/(1−b2ⁿ)) + ε)) with v' = b2 v + (1−b2) G² (Kingma and Ba, 2015)."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    decoupled: bool = False
    counts: bool = True
    stacks: bool = True

    @property
    def decay(self) -> float:
        return self.b1

    def moments(self, theta: Tensor) -> Moments:
        return (torch.zeros_like(theta),)

    def __call__(self, drive: Tensor, moments: Moments, n: Tensor) -> tuple[Tensor, Moments, Tensor | float]:
        (moment,) = moments
        moment = plus_(moment.mul_(self.b2), drive * drive, 1 - self.b2)
        spread = torch.sqrt(moment / (1 - self.b2**n)) + self.eps
        return drive, (moment,), ((1 - self.b1) / (1 - self.b1**n)).to(drive.dtype) / spread


@dataclass(frozen=True)
class RMSprop:
    """The drive is G/(√v' + ε) with v' = αv + (1−α)G²; a is the momentum (Tieleman and Hinton, 2012)."""

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    decoupled: bool = False
    counts: bool = False
    stacks: bool = True

    @property
    def decay(self) -> float:
        return self.momentum

    def moments(self, theta: Tensor) -> Moments:
        return (torch.zeros_like(theta),)

    def __call__(self, drive: Tensor, moments: Moments, n: Tensor) -> tuple[Tensor, Moments, Tensor | float]:
        (moment,) = moments
        moment = plus_(moment.mul_(self.alpha), drive * drive, 1 - self.alpha)
        return drive / (torch.sqrt(moment) + self.eps), (moment,), 1.0


@dataclass(frozen=True)
class Lowered:
    """A schedule times a factor."""

    schedule: Schedule
    factor: float

    def __call__(self, n: Tensor) -> Tensor:
        return self.schedule(n) * self.factor


@dataclass(frozen=True)
class Rate:
    """β of one layer: base · delay factor · momentum factor · factor of the parameter, for its n-th update.

    spread: the products of these factors by parameter, as tensors, where layers that differ in them compute as one.
    """

    beta: float | Schedule = 0.1
    delay_factor: float = 1.0
    momentum_factor: float = 1.0
    factors: Mapping[str, float] = field(default_factory=dict)  # by parameter; 1 where absent
    adaptive: Adaptive | None = None
    spread: Mapping[str, Tensor] | None = None

    def __call__(self, name: str, n: Tensor) -> float | Tensor:
        """β for parameter `name` after n updates, before any adaptation."""
        beta = self.beta(n) if callable(self.beta) else self.beta
        return beta * (self.factor(name) if self.spread is None else self.spread[name])

    def factor(self, name: str) -> float:
        """What scales the base for a parameter."""
        return self.delay_factor * self.momentum_factor * self.factors.get(name, 1.0)

    def lowered(self, factor: float) -> "Rate":
        """The same, times a factor."""
        beta = Lowered(self.beta, factor) if callable(self.beta) else self.beta * factor
        return replace(self, beta=beta)

    @property
    def peak(self) -> float:
        """About the largest base of all updates."""
        if not callable(self.beta):
            return self.beta
        return max(float(self.beta(torch.tensor(float(n), dtype=torch.float64))) for n in COUNTS)

    @property
    def varies(self) -> bool:
        """Whether β or its gain depend on the number of updates."""
        return callable(self.beta) or (self.adaptive is not None and self.adaptive.counts)


def parameter_factors(patterns: Mapping[str, float], layer: str, names: Iterable[str]) -> dict[str, float]:
    """For each parameter, the product of the factors whose glob pattern matches "<layer>.<parameter>"."""
    return {
        name: math.prod(
            factor for glob, factor in patterns.items() if fnmatch.fnmatch(f"{layer}.{name}", glob)
        )
        for name in names
    }
