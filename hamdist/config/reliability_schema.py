"""The sections `checkpoint`, `recovery` and `rollback`: what a run keeps of itself, and what follows a failure."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hamdist.config.types import Count, FilePath, Positive, Section, WholeOrZero

SECONDS = 60.0  # between two checkpoints, where nothing is said
OnBad = Literal["stop", "skip", "rollback"]


def _lasting(place: str) -> str:
    """A place that is there still when the process is gone."""
    if place.startswith("memory://"):
        raise ValueError(
            f"{place} is gone with each process: name a folder, or a store that all of them reach"
        )
    return place


class CheckpointConfig(Section):
    """When a run writes down all that moves, where to, and how many of these are kept."""

    when: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="`auto`: on Ray always, inline where one of the two intervals is given, or `on_bad` is `rollback`.",
    )
    every_ticks: Count | None = Field(
        default=None, description="Ticks between two checkpoints; `null`: those that take `every_seconds`."
    )
    every_seconds: Annotated[Positive, Field(le=1e6)] | None = Field(
        default=None,
        description="Seconds between two checkpoints; `null`: 60, or as `every_ticks` says where that is given.",
    )
    keep: Annotated[Count, Field(le=10_000)] = Field(default=3, description="How many stay, the newest.")
    to: Annotated[FilePath, AfterValidator(_lasting)] | None = Field(
        default=None,
        description="A folder, or the URL of one that fsspec knows; `null`: `checkpoints` in the run directory.",
    )

    @property
    def seconds(self) -> float | None:
        """Between two checkpoints; None where ticks alone decide."""
        return SECONDS if self.every_seconds is None and self.every_ticks is None else self.every_seconds

    @property
    def asked(self) -> bool:
        """Whether an interval is given."""
        return self.every_ticks is not None or self.every_seconds is not None


class RecoveryConfig(Section):
    """How often, and how fast, a run on Ray goes on after a process or a link failed."""

    max_failures: WholeOrZero = Field(
        default=16,
        description="Failures in a row, with no new checkpoint between, that are recovered from; 0: none.",
    )
    failures_per_hour: WholeOrZero = Field(
        default=60, description="Failures within an hour that are recovered from."
    )
    back_off_seconds: Annotated[Positive, Field(le=3600)] = Field(
        default=0.5,
        description="Wait before the second of several in a row; it doubles with each that follows, up to a minute.",
    )


class RollbackConfig(Section):
    """What `on_bad: rollback` does."""

    factor: Annotated[Positive, Field(le=1)] = Field(
        default=0.5, description="By which β is multiplied, each time."
    )
    times: Annotated[Count, Field(le=1000)] = Field(
        default=3, description="How often, before the run ends as with `stop`."
    )
