"""The `learning` section: step, learning rate, dissipation and what adapts them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from hamdist.config.types import (
    Count,
    Flag,
    Fraction,
    NonNegative,
    Number,
    Positive,
    Section,
    Text,
    WholeOrZero,
)


class ScheduleBase(Section):
    """What every schedule has; n counts the updates of a layer."""

    schedule: str
    start: NonNegative = Field(description="β at the first update, but for the warm-up.")
    over: Count = Field(description="Length of the schedule, in updates.")
    warmup: WholeOrZero = Field(
        default=0, description="For that many updates, β is also multiplied by (n + 1) / warmup."
    )


class CosineSchedule(ScheduleBase):
    schedule: Literal["cosine"] = Field(description="Half a cosine from `start` to `end`, then `end`.")
    end: NonNegative = Field(default=0.0, description="β after `over` updates.")


class LinearSchedule(ScheduleBase):
    schedule: Literal["linear"] = Field(description="A line from `start` to `end`, then `end`.")
    end: NonNegative = Field(default=0.0, description="β after `over` updates.")


class ExponentialSchedule(ScheduleBase):
    schedule: Literal["exponential"] = Field(description="start · factor^(n / over).")
    factor: Positive = Field(description="What β is multiplied by every `over` updates, smoothly.")


class InverseSqrtSchedule(ScheduleBase):
    schedule: Literal["inverse-sqrt"] = Field(description="start / √(1 + n / over).")


class StepSchedule(ScheduleBase):
    schedule: Literal["step"] = Field(description="start · factor^⌊n / over⌋.")
    factor: Positive = Field(description="What β is multiplied by every `over` updates, at once.")


Schedule = Annotated[
    CosineSchedule | LinearSchedule | ExponentialSchedule | InverseSqrtSchedule | StepSchedule,
    Field(discriminator="schedule"),
]


def _number_or_schedule(value: Any) -> str:
    return "a schedule" if isinstance(value, Mapping | BaseModel) else "a number"


Beta = Annotated[
    Annotated[NonNegative, Tag("a number")] | Annotated[Schedule, Tag("a schedule")],
    Discriminator(_number_or_schedule),
]


class DissipationConfig(Section):
    """How fast costates fade: η of the states' and of the weights' costates."""

    state: NonNegative = Field(
        default=0.0, description="η_ξ, of the states' costates; it shrinks the signal with depth."
    )
    weight: NonNegative | None = Field(
        default=None,
        description="η_θ, of the weights' costates; momentum is 1 − τη_θ. `null`: 1.0, or what `adaptive` sets.",
    )


class AdamConfig(Section):
    type: Literal["adam", "adamw"] = Field(description="AdamW decays weights apart from the gradient.")
    b1: Fraction = Field(
        default=0.9, description="Decay of the first moment; it takes the place of the dissipation."
    )
    b2: Fraction = Field(default=0.999, description="Decay of the second moment.")
    eps: Positive = Field(default=1e-8, description="Added to the root of the second moment.")


class RmspropConfig(Section):
    type: Literal["rmsprop"] = Field(description="The running mean square alone.")
    alpha: Fraction = Field(default=0.99, description="Decay of the second moment.")
    eps: Positive = Field(default=1e-8, description="Added to the root of the second moment.")
    momentum: Fraction = Field(default=0.0, description="Momentum of the preconditioned drive.")


class SoapConfig(Section):
    type: Literal["soap"] = Field(description="Adam, without momentum, in the eigenbasis of the gradients.")
    b2: Fraction = Field(default=0.95, description="Decay of the second moment.")
    basis: Fraction = Field(
        default=0.95,
        description="Decay of the second moments of rows and of columns, whose eigenvectors it is.",
    )
    largest: Count = Field(
        default=256,
        description="Longest side of a matrix that is rotated; an update factorises a matrix of it.",
    )
    eps: Positive = Field(default=1e-8, description="Added to the root of the second moment.")


class DelayConfig(Section):
    """How much a rate shrinks with a layer's delay."""

    delay: NonNegative = Field(
        description="Power e of the factor (π/(2D+1))ᵉ of a layer whose costate comes D ticks late: 1 is"
        " `delay-scaled`, 0 leaves momentum alone to scale β."
    )


def _rate(value: Any) -> Any:
    if value in ("auto", "constant", "delay-scaled") or isinstance(value, Mapping | DelayConfig):
        return value
    raise ValueError(f"expected auto, constant, delay-scaled, or {{delay: …}}, got {value!r}")


RatePolicy = Annotated[
    Annotated[Literal["auto", "constant", "delay-scaled"], Tag("a name")]
    | Annotated[DelayConfig, Tag("a mapping")],
    Discriminator(lambda value: "a name" if isinstance(value, str) else "a mapping"),
    BeforeValidator(_rate),
]


class AverageConfig(Section):
    """A running mean of the weights by its length in samples."""

    samples: Positive = Field(
        description="Samples over which the mean forgets: one of so many samples ago weighs 1/e of the present one."
    )


def _average(value: Any) -> Any:
    if isinstance(value, Mapping | AverageConfig | int | float) and not isinstance(value, bool):
        return value
    raise ValueError(f"expected a number between 0 and 1, {{samples: …}}, or null, got {value!r}")


Average = Annotated[
    Annotated[Number, Field(gt=0, lt=1), Tag("a number")] | Annotated[AverageConfig, Tag("a mapping")],
    Discriminator(lambda value: "a number" if isinstance(value, int | float) else "a mapping"),
    BeforeValidator(_average),
]

Adaptive = Annotated[AdamConfig | RmspropConfig | SoapConfig, Field(discriminator="type")]


class LearningConfig(Section):
    """How weights and costates move in one step."""

    step: Literal["explicit", "semi-implicit", "exponential"] = Field(
        default="semi-implicit", description="How the costates of the weights and the weights are integrated."
    )
    tau: Positive = Field(default=1.0, description="The step of time, τ.")
    beta: Beta = Field(default=0.1, description="The learning rate, β: a number, or a schedule (below).")
    beta_scale: dict[Text, NonNegative] = Field(
        default={},
        description="Factors on β: patterns for `layer.parameter`, such as `embed.*` or `*.bias`, to numbers.",
    )
    gamma: Number = Field(default=1.0, description="Weight of the loss, γ.")
    sign: Literal[-1, 1] = Field(
        default=-1,
        description="Sign of the costate equations: −1 is Hamiltonian Learning's form, +1 Hamilton's own.",
    )
    dissipation: DissipationConfig = Field(
        default=DissipationConfig(), description="`{state, weight}`: how fast costates fade (below)."
    )
    clip: Positive | None = Field(
        default=None,
        description="Largest magnitude of any number in a state costate that is integrated forward; `null`: none.",
    )
    rate: RatePolicy = Field(
        default="auto",
        description="`delay-scaled`: β shrinks with a layer's delay, and with momentum; `{delay}`: by a power of the"
        " delay. `auto`: `delay-scaled` under stashed and reversible pairing, `constant` under current.",
    )
    adaptive: Adaptive | None = Field(
        default=None, description="Adam, AdamW, RMSprop or SOAP (below); `null`: none."
    )
    nesterov: Flag = Field(default=False, description="Look ahead along the momentum.")
    dampening: Annotated[NonNegative, Field(le=1)] = Field(
        default=0.0,
        description="d of ω' = aω + (1 − d)cG, from the second update on, as in `torch.optim.SGD`; needs momentum.",
    )
    weight_decay: NonNegative = Field(default=0.0, description="λ of the term λ/2 |θ|² in the Hamiltonian.")
    average: Average | None = Field(
        default=None,
        description="Every layer keeps a running mean of its weights, which hold-out, predictions and export use: the"
        " share that stays at an update, or `{samples}`; `null`: none.",
    )

    @field_validator("adaptive")
    @classmethod
    def _adaptive_needs_the_new_costate(cls, adaptive: Any, info: ValidationInfo) -> Any:
        if adaptive is None:
            return adaptive
        if info.data.get("step") == "explicit":
            raise ValueError(f"{adaptive.type} needs step semi-implicit or exponential, not explicit")
        dissipation = info.data.get("dissipation")
        if dissipation is not None and dissipation.weight is not None:
            raise ValueError(
                f"{adaptive.type} sets the dissipation of the weights: remove learning.dissipation.weight"
            )
        return adaptive

    @field_validator("nesterov")
    @classmethod
    def _nesterov_needs_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("step") == "explicit":
            raise ValueError("nesterov needs step semi-implicit or exponential, not explicit")
        if nesterov and info.data.get("adaptive") is not None:
            raise ValueError("nesterov and adaptive exclude each other: remove one of them")
        return nesterov

    @field_validator("dampening")
    @classmethod
    def _dampening_needs_momentum(cls, dampening: float, info: ValidationInfo) -> float:
        if not dampening:
            return dampening
        if info.data.get("nesterov"):
            raise ValueError("nesterov and dampening exclude each other: remove one of them")
        if info.data.get("adaptive") is not None:
            raise ValueError("adaptive and dampening exclude each other: remove one of them")
        dissipation, tau = info.data.get("dissipation"), info.data.get("tau", 1.0)
        eta = 1.0 if dissipation is None or dissipation.weight is None else dissipation.weight
        if info.data.get("step") != "exponential" and tau * eta == 1.0:
            raise ValueError(
                "there is no momentum to dampen, since tau * dissipation.weight is 1: lower learning.dissipation.weight"
                ", or remove dampening"
            )
        return dampening
