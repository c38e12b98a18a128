"""The settings of a Learner: those of a config's sections, as arguments, each of which must do something."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypedDict, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from hamdist.config.learning_schema import LearningConfig
from hamdist.config.placement_schema import PlacementConfig
from hamdist.config.problems import problems_of
from hamdist.config.schema import LocalityConfig
from hamdist.config.torch_words import meant
from hamdist.errors import ConfigError, Problem
from hamdist.network.learning import Learning
from hamdist.runs.assembly import learning_of

Model = TypeVar("Model", bound=BaseModel)
Actors = int | Literal["auto", "per-layer"] | Sequence[Sequence[int | str]]


class Settings(TypedDict, total=False):
    """The keys of the config's sections `locality` and `learning`, with their defaults there.

    beta may also be a function of the number of updates (a 0-dimensional tensor).
    """

    groups: Sequence[Sequence[int | str]]
    delays: Mapping[str, int]
    balance: bool
    pairing: str
    stash: str
    gate: str
    time: str
    horizon: int
    window: str
    states: str
    warmup: str
    tolerance: float
    step: str
    tau: float
    beta: float | Mapping[str, Any] | Callable[[Tensor], Tensor]
    beta_scale: Mapping[str, float]
    gamma: float
    sign: int
    dissipation: Mapping[str, float]
    clip: float
    rate: str | Mapping[str, float]
    adaptive: Mapping[str, Any]
    nesterov: bool
    dampening: float
    weight_decay: float
    average: float | Mapping[str, float]


PLACE = tuple(name for name in LocalityConfig.model_fields if name != "mode")
MOTION = tuple(LearningConfig.model_fields)
ARGUMENTS = (
    "loss",
    "edges",
    "locality",
    "hold",
    "seed",
    "dtype",
    "stack",
    "compile",
    "chunk",
    "runtime",
    "actors",
)
"""What a Learner takes beside its settings."""

NEEDED = {"tolerance": ("gate", "settled")}
"""Settings that say something only where another one has this value."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises ConfigError for those that are unknown, and for those that would do nothing."""
    accepted = (*PLACE, *MOTION, *ARGUMENTS)
    unknown = [
        Problem(name, f"unknown setting; {meant(name, accepted)}")
        for name in settings
        if name not in (*PLACE, *MOTION)
    ]
    idle = [
        Problem(name, f"does nothing without {key}={value!r}: set that, or leave it out")
        for name, (key, value) in NEEDED.items()
        if name in settings and settings.get(key) != value
    ]
    if unknown or idle:
        raise ConfigError(*unknown, *idle)


def check_numbers(hold: Any, chunk: Any, seed: Any, dtype: Any) -> None:
    """Raises ConfigError."""
    problems = []
    if not _whole(hold) or hold < 1:
        problems.append(Problem("hold", f"a batch is presented for at least 1 tick, not {hold!r}"))
    if not _whole(chunk) or chunk < 1:
        problems.append(Problem("chunk", f"at least 1 tick runs in one go, not {chunk!r}"))
    if not _whole(seed):
        problems.append(Problem("seed", f"expected a whole number, got {seed!r}"))
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        problems.append(Problem("dtype", f"expected a floating dtype such as torch.float64, got {dtype!r}"))
    if problems:
        raise ConfigError(*problems)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def locality_settings(mode: str, settings: Mapping[str, Any]) -> LocalityConfig:
    """Those of the section `locality`. Raises ConfigError."""
    return _validated(LocalityConfig, {"mode": mode, **_of(PLACE, settings)})


def learning_settings(settings: Mapping[str, Any]) -> Learning:
    """Those of the section `learning`; a function for β goes past the schema. Raises ConfigError."""
    given, beta = _of(MOTION, settings), settings.get("beta")
    if not callable(beta):
        return learning_of(_validated(LearningConfig, given))
    learning = learning_of(_validated(LearningConfig, {k: v for k, v in given.items() if k != "beta"}))
    rate = replace(learning.dynamics.rate, beta=beta)
    return replace(learning, dynamics=replace(learning.dynamics, rate=rate))


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them, without functions. Raises ConfigError."""
    given = {name: value for name, value in settings.items() if not callable(value)}
    place, motion = (
        _validated(LocalityConfig, _of(PLACE, given)),
        _validated(LearningConfig, _of(MOTION, given)),
    )
    return {
        name: value
        for section in (place, motion)
        for name, value in section.model_dump(mode="json", exclude_unset=True).items()
    }


def placement_settings(runtime: str, actors: Actors | None, **execution: Any) -> PlacementConfig:
    """The settings of the section `placement`. Raises ConfigError."""
    wanted = {"runtime": runtime, **({} if actors is None else {"actors": actors}), **execution}
    placement = _validated(PlacementConfig, wanted)
    if actors is not None and placement.runtime != "ray":
        message = f"only runtime 'ray' has actors, not {runtime!r}: add runtime=\"ray\", or leave actors out"
        raise ConfigError(Problem("actors", message))
    return placement


def _of(names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in names}


def _validated(model: type[Model], settings: Mapping[str, Any]) -> Model:
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(*problems_of(error, model, settings)) from None
