"""The whole config of a run, frozen and typed, and its section `locality`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from hamdist.config.learning_schema import LearningConfig
from hamdist.config.network_schema import NetworkConfig
from hamdist.config.placement_schema import PlacementConfig
from hamdist.config.reliability_schema import CheckpointConfig, OnBad, RecoveryConfig, RollbackConfig
from hamdist.config.stream_schema import StreamConfig
from hamdist.config.types import (
    Count,
    EdgeName,
    Flag,
    LayerReference,
    Positive,
    Section,
    Text,
    Ticks,
    TicksOrNone,
    WholeOrZero,
    refuse,
)
from hamdist.naming import run_name_problem

Group = Annotated[tuple[LayerReference, ...], Field(min_length=1)]


class LocalityConfig(Section):
    """How far signals travel within one tick, and what a returning costate is paired with."""

    mode: Literal["local", "nonlocal", "groups", "cyclic"] = Field(
        default="local",
        description="Delay of the edges: 1 everywhere, 0 everywhere, or 0 inside `groups` and 1 between. `cyclic`: 1,"
        " and the layers of a chain move in turn, one a tick.",
    )
    groups: tuple[Group, ...] | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="Lists of layer names or indices, for mode `groups`.",
    )
    delays: dict[EdgeName, TicksOrNone] = Field(
        default={}, description='Delays of single edges, `{"2->3": 4}`; they win over `mode`.'
    )
    balance: Flag = Field(
        default=True, description="Lengthen edges into joins, so that one sample meets itself there."
    )
    pairing: Literal["current", "stashed", "reversible"] = Field(
        default="stashed", description="Which activations a returning costate meets."
    )
    stash: Literal["inputs", "graph"] = Field(
        default="inputs",
        description="What `stashed` keeps for D ticks: a layer's inputs, to evaluate again with today's weights, or "
        "the graph of each evaluation, with its weights.",
    )
    gate: Literal["always", "settled"] = Field(
        default="always", description="Learn at every tick, or only at the last tick of a hold."
    )
    time: Literal["forward", "backward", "exact"] = Field(
        default="forward",
        description="State costates are integrated forward with everything else, or backward over windows of"
        " `horizon` ticks, as backpropagation through time does; or memories carry the derivatives of their states"
        " by their weights, and learn from all of the past at every tick.",
    )
    horizon: Ticks | None = Field(
        default=None,
        validate_default=True,
        description="For `time: backward`, the length of a window in ticks.",
    )
    window: Literal["blocked", "slid"] = Field(
        default="blocked",
        description="Windows that follow each other, all of whose losses count, or one that ends at every tick, whose"
        " last loss counts.",
    )
    states: Literal["stored", "reintegrated"] = Field(
        default="stored",
        description="Whether the states of a window are stored, or, blocked, integrated back from its last one, where"
        " the dynamics can be inverted.",
    )
    warmup: Literal["invalid", "zeros"] = Field(
        default="invalid", description="Layers that nothing has reached yet wait, or compute on zeros."
    )
    tolerance: Positive = Field(
        default=1e-6,
        description="Residual that counts as settled, with feedback or relaxing layers of T ≠ τ only.",
    )

    @field_validator("groups")
    @classmethod
    def _groups_belong_to_their_mode(cls, groups: Any, info: ValidationInfo) -> Any:
        mode = info.data.get("mode")
        if mode == "groups" and groups is None:
            raise ValueError("mode 'groups' needs them: lists of layers, for instance [[0, 1], [2, 3]]")
        if mode in ("local", "nonlocal", "cyclic") and groups is not None:
            raise ValueError(f"mode {mode!r} has no groups: remove them, or set locality.mode to 'groups'")
        return groups

    @field_validator("stash")
    @classmethod
    def _graphs_are_stashed(cls, stash: str, info: ValidationInfo) -> str:
        pairing = info.data.get("pairing")
        if stash == "graph" and pairing in ("current", "reversible"):
            raise ValueError(
                f"'graph' is a form of pairing 'stashed', not of {pairing!r}: set locality.pairing=stashed, or"
                " locality.stash=inputs"
            )
        return stash

    @field_validator("horizon")
    @classmethod
    def _horizons_belong_to_backward(cls, horizon: int | None, info: ValidationInfo) -> int | None:
        time = info.data.get("time")
        if time == "backward" and horizon is None:
            raise ValueError("time 'backward' needs a horizon: the ticks of a window, for instance 20")
        if time in ("forward", "exact") and horizon is not None:
            raise ValueError(f"time {time!r} has no horizon: remove it, or set locality.time to 'backward'")
        return horizon

    @field_validator("window")
    @classmethod
    def _windows_belong_to_backward(cls, window: str, info: ValidationInfo) -> str:
        time = info.data.get("time")
        if window == "slid" and time in ("forward", "exact"):
            raise ValueError(f"time {time!r} has no windows: remove it, or set locality.time to 'backward'")
        return window

    @field_validator("states")
    @classmethod
    def _only_blocks_are_reintegrated(cls, states: str, info: ValidationInfo) -> str:
        if states == "reintegrated" and info.data.get("time") in ("forward", "exact"):
            raise ValueError(
                "'reintegrated' is of windows: set locality.time to 'backward', or states to 'stored'"
            )
        if states == "reintegrated" and info.data.get("window") == "slid":
            raise ValueError(
                "'reintegrated' needs weights that stand still within a window, and a slid one ends at every tick: set"
                " locality.window to 'blocked', or locality.states to 'stored'"
            )
        return states

    @field_validator("gate")
    @classmethod
    def _settled_needs_current(cls, gate: str, info: ValidationInfo) -> str:
        pairing = info.data.get("pairing")
        if gate == "settled" and pairing in ("stashed", "reversible"):
            raise ValueError(
                "'settled' waits until today's activations have settled, so it needs pairing 'current',"
                f" not {pairing!r}: set locality.pairing=current, or locality.gate=always"
            )
        return gate


def _run_name(name: str) -> str:
    if problem := run_name_problem(name):
        raise ValueError(problem)
    return name


class RunConfig(Section):
    """A run: what is learnt from, by which network, how local, how, and where."""

    name: Annotated[Text, AfterValidator(_run_name)] = Field(
        description="Names the run and its directory: no path, 100 characters at most."
    )
    seed: WholeOrZero = Field(default=0, description="Weights, orders and random layers are drawn from it.")
    stream: StreamConfig = Field(description="Where samples come from.")
    network: NetworkConfig = Field(description="Layers, edges and the loss.")
    locality: LocalityConfig = Field(
        default=LocalityConfig(), description="How far signals travel within one tick."
    )
    learning: LearningConfig = Field(default=LearningConfig(), description="How weights and costates move.")
    placement: PlacementConfig = Field(default=PlacementConfig(), description="Where the layers live.")
    checkpoint: CheckpointConfig = Field(
        default=CheckpointConfig(), description="When all that moves is written down, and where to."
    )
    recovery: RecoveryConfig = Field(
        default=RecoveryConfig(), description="How a run on Ray goes on after a failure."
    )
    on_bad: OnBad = Field(
        default="stop",
        description="What is done where numbers are not finite: end the run; leave the sample, or its costate, out; or"
        " go back to the last checkpoint with a smaller β.",
    )
    rollback: RollbackConfig = Field(
        default=RollbackConfig(), description="How `on_bad: rollback` goes back."
    )
    metrics_every: Count = Field(default=1000, description="Samples between two lines of `metrics.jsonl`.")

    @property
    def checkpoints(self) -> bool:
        """Whether any are written."""
        if self.checkpoint.when != "auto":
            return self.checkpoint.when == "always"
        return self.placement.runtime == "ray" or self.checkpoint.asked or self.on_bad == "rollback"

    @field_validator("on_bad")
    @classmethod
    def _going_back_needs_checkpoints(cls, on_bad: str, info: ValidationInfo) -> str:
        checkpoint = info.data.get("checkpoint")
        if on_bad == "rollback" and checkpoint is not None and checkpoint.when == "never":
            raise ValueError(
                "'rollback' goes back to a checkpoint: set checkpoint.when to 'auto', or on_bad to 'stop'"
            )
        return on_bad

    @model_validator(mode="after")
    def _relaxing_layers_are_stable(self) -> "RunConfig":
        tau = self.learning.tau
        problems: list[tuple[tuple[str | int, ...], str]] = [
            (
                ("network", "layers", index, "relaxing"),
                f"T must be more than half of learning.tau ({tau:g}), got {layer.relaxing:g}",
            )
            for index, layer in enumerate(self.network.layers or ())
            if layer.relaxing is not None and layer.relaxing <= tau / 2
        ]
        if problems:
            refuse(*problems)
        return self
