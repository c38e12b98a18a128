"""What a Learner was given beside its layers, losses and edges; plain, but for a function for β."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from hamdist.config.placement_schema import PlacementConfig
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.names import Names
from hamdist.runs.assembly import locality_of
from hamdist.runs.settings import (
    Actors,
    check_numbers,
    check_settings,
    learning_settings,
    locality_settings,
    placement_settings,
    plain_settings,
)

EXECUTION = ("runtime", "actors", "stack", "compile", "chunk")
"""Of these nothing depends that a learner knows or will learn, but for rounding."""


@dataclass(frozen=True)
class Chosen:
    """execution: the arguments EXECUTION.  settings: as of `Settings`. Raises ConfigError."""

    mode: str
    hold: int
    seed: int
    dtype: torch.dtype
    execution: Mapping[str, Any]
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_settings(self.settings)
        kept = {name: value if callable(value) else deepcopy(value) for name, value in self.settings.items()}
        object.__setattr__(self, "settings", kept)
        check_numbers(self.hold, self.execution["chunk"], self.seed, self.dtype)

    def locality(self, names: Names) -> Locality:
        """names: of the layers."""
        return locality_of(locality_settings(self.mode, self.settings), names, self.hold)

    @cached_property
    def learning(self) -> Learning:
        return learning_settings(self.settings)

    @cached_property
    def placement(self) -> PlacementConfig:
        actors: Actors | None = self.execution["actors"]
        rest = {key: value for key, value in self.execution.items() if key not in ("runtime", "actors")}
        return placement_settings(self.execution["runtime"], actors, **rest)

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """What JSON cannot say, by argument."""
        return {name: value for name, value in self.settings.items() if callable(value)}

    def told(self) -> dict[str, Any]:
        """The others as arguments of a Learner, as JSON has them."""
        given = {key: value for key, value in self.execution.items() if value is not None}
        execution = self.placement.model_dump(mode="json", include=set(given))
        return {
            "locality": self.mode,
            "hold": self.hold,
            "seed": self.seed,
            "dtype": str(self.dtype).removeprefix("torch."),
            **execution,
            **plain_settings(self.settings),
        }

    def __getstate__(self) -> dict[str, Any]:
        """What was given, and nothing that was made of it."""
        return {name: vars(self)[name] for name in self.__dataclass_fields__}
