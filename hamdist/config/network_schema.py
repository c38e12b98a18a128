"""The `network` section: layers, edges and the loss."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from hamdist.config.loss_schema import LossConfig, listed_losses
from hamdist.config.types import (
    Arguments,
    Count,
    Flag,
    ImportPath,
    LayerReference,
    Plain,
    Positive,
    Rows,
    Section,
    Text,
    TicksOrNone,
    parse_edge,
    refuse,
)
from hamdist.naming import layer_name_problem

MOST_LAYERS = 20_000
MOST_NUMBERS = 2**27  # of a signal
RESERVED_NAMES = ("source", "loss")


class ModuleConfig(Section):
    """A module: its type, and beside it, freely, its keyword arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Plain]

    type: Text = Field(
        description="A class of `torch.nn`, a state-space module (below), or `package.module:Class`; its arguments"
        " stand beside it."
    )

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__)

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return {"type": self.type, **self.__pydantic_extra__}


Modules = Annotated[tuple[ModuleConfig, ...], Field(min_length=1)]


def _scale(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise ValueError(f"expected auto, or a number more than 0, got {value!r}")


class ResidualConfig(Section):
    """A residual layer whose branch is scaled: y = x + scale · modules(x)."""

    scale: Annotated[
        Annotated[Literal["auto"], Tag("a name")] | Annotated[Positive, Tag("a number")],
        Discriminator(lambda value: "a name" if isinstance(value, str) else "a number"),
        BeforeValidator(_scale),
    ] = Field(
        default="auto",
        description="What the modules' output is multiplied by; `auto`: 1/√L, L the number of residual layers, so that"
        " one β does for every depth.",
    )


def _residual(value: Any) -> Any:
    if isinstance(value, bool | Mapping | ResidualConfig):
        return value
    raise ValueError(f"expected true, false, or {{scale: …}}, got {value!r}")


Residuals = Annotated[
    Annotated[Flag, Tag("a flag")] | Annotated[ResidualConfig, Tag("a mapping")],
    Discriminator(lambda value: "a flag" if isinstance(value, bool) else "a mapping"),
    BeforeValidator(_residual),
]


class CouplingConfig(Section):
    """A reversible layer: y1 = x1 + F(x2), y2 = x2 + G(y1), on the two halves of its input."""

    f: Modules = Field(description="The modules of F.")
    g: Modules = Field(description="The modules of G.")


def _layer_name(name: str) -> str:
    if problem := layer_name_problem(name):
        raise ValueError(problem)
    if name.isdecimal():
        raise ValueError(f"{name!r} would be taken for an index: give the layer a name with a letter in it")
    if name in RESERVED_NAMES:
        raise ValueError(f"{name!r} is reserved: it is where samples enter or leave the network")
    return name


class LayerConfig(Section):
    """A layer, or `repeat` of them in a row."""

    name: Annotated[str, AfterValidator(_layer_name)] = Field(
        description="Letters, digits, `_` and `-`, 100 at most; `source` and `loss` are reserved."
    )
    repeat: Annotated[Count, Field(le=MOST_LAYERS)] = Field(
        default=1, description="Makes that many layers: `block`, four times, is `block0` … `block3`."
    )
    residual: Residuals = Field(
        default=False,
        description="Add the layer's input to its output; `{scale}`: with the output scaled (below).",
    )
    midpoint: Flag = Field(
        default=False,
        description="A step of the midpoint rule, y″ = y + 2 f(y′): reversible; the first of a chain is y′ = y + f(y).",
    )
    join: Literal["sum", "concat", "arguments"] = Field(
        default="sum", description="How several inputs meet: summed, concatenated, or passed one by one."
    )
    relaxing: Positive | None = Field(
        default=None,
        description="Time constant T of a layer that relaxes towards its value, dξ/dt = (φ(a) − ξ)/T; more than half"
        " of `tau`. `null`: an instant layer.",
    )
    reads: Literal["new", "old"] = Field(
        default="new",
        description="Of a layer with a memory: its output is read from the state after an input has moved it, or from"
        " the one before.",
    )
    modules: Modules | None = Field(default=None, description="The modules, applied one after another.")
    coupling: CouplingConfig | None = Field(
        default=None,
        description="Instead of `modules`: a reversible layer, y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁).",
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the layers it makes."""
        return (self.name,) if self.repeat == 1 else tuple(f"{self.name}{i}" for i in range(self.repeat))

    @field_validator("coupling")
    @classmethod
    def _not_both(cls, coupling: CouplingConfig | None, info: ValidationInfo) -> CouplingConfig | None:
        if coupling is not None and info.data.get("modules") is not None:
            raise ValueError("a layer has either modules or a coupling, not both")
        return coupling

    @model_validator(mode="after")
    def _not_neither(self) -> "LayerConfig":
        if self.modules is None and self.coupling is None:
            raise ValueError("a layer needs modules, or a coupling")
        return self

    @model_validator(mode="after")
    def _no_residual_coupling(self) -> "LayerConfig":
        if self.coupling is not None and self.residual is not False:
            refuse((("residual",), "a coupling adds its input by itself, to each half: leave residual out"))
        return self

    @model_validator(mode="after")
    def _midpoint_steps_are_that_alone(self) -> "LayerConfig":
        others = {"residual": self.residual, "relaxing": self.relaxing, "coupling": self.coupling}
        if self.midpoint and (given := [key for key, value in others.items() if value not in (None, False)]):
            refuse((("midpoint",), f"a step of the midpoint rule adds its own input: leave out {given[0]}"))
        return self

    @model_validator(mode="after")
    def _numbered_names_are_short(self) -> "LayerConfig":
        if problem := layer_name_problem(self.name if self.repeat == 1 else f"{self.name}{self.repeat - 1}"):
            refuse((("name",), problem))
        return self


class EdgeConfig(Section):
    """An edge from one layer to another; in YAML its ends are `from` and `to`."""

    source: LayerReference = Field(alias="from", description="Name or index of a layer, or `source`.")
    target: LayerReference = Field(alias="to", description="Name or index of a layer, or `loss`.")
    delay: TicksOrNone | None = Field(
        default=None, description="Ticks on the way; `null`: as `locality` says."
    )
    shape: tuple[Rows, ...] | None = Field(
        default=None,
        max_length=16,
        description="Shape of the signal, without the batch; needed by feedback into a layer that concatenates.",
    )

    @field_validator("shape")
    @classmethod
    def _fits_into_memory(cls, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if shape is not None and math.prod(shape) > MOST_NUMBERS:
            raise ValueError(f"a signal of {math.prod(shape):.3g} numbers is too large")
        return shape

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            source, target = parse_edge(value)
            return {"from": source, "to": target}
        if not isinstance(value, Mapping | EdgeConfig):
            raise ValueError(f"expected an edge, 'from->to' or {{from: …, to: …}}, got {value!r}")
        return value


class NetworkConfig(Section):
    """Which layers there are, how they are joined, and what their output is judged by."""

    dtype: Literal["float32", "float64"] = Field(
        default="float32", description="Type of weights and signals."
    )
    loss: Annotated[tuple[LossConfig, ...], BeforeValidator(listed_losses)] = Field(
        min_length=1,
        description="The name of a loss, a mapping (below), or a list of these, which are summed.",
    )
    layers: tuple[LayerConfig, ...] | None = Field(
        default=None, min_length=1, description="The layers, in order (below); or else a `factory`."
    )
    factory: ImportPath | None = Field(
        default=None,
        description="`package.module:name` of a function that returns the layers, instead of `layers`.",
    )
    args: Arguments = Field(default={}, description="Keyword arguments for the factory.")
    edges: tuple[EdgeConfig, ...] | None = Field(
        default=None, description='Edges, as `"0->1"`, `"embed->head"` or mappings (below); `null`: a chain.'
    )

    @field_validator("layers")
    @classmethod
    def _names_are_unique(cls, layers: tuple[LayerConfig, ...] | None) -> tuple[LayerConfig, ...] | None:
        if (many := sum(layer.repeat for layer in layers or ())) > MOST_LAYERS:
            raise ValueError(f"at most {MOST_LAYERS:,} layers make a network, not {many:,}")
        seen: set[str] = set()
        problems: list[tuple[tuple[str | int, ...], str]] = []
        for index, layer in enumerate(layers or ()):
            taken = [name for name in layer.names if name in seen]
            if taken:
                problems.append(((index, "name"), f"there is a layer {taken[0]!r} already"))
            seen.update(layer.names)
        if problems:
            refuse(*problems)
        return layers

    @field_validator("factory")
    @classmethod
    def _not_both(cls, factory: str | None, info: ValidationInfo) -> str | None:
        if factory is not None and info.data.get("layers") is not None:
            raise ValueError("a network has either layers or a factory, not both")
        return factory

    @field_validator("args")
    @classmethod
    def _only_for_a_factory(cls, args: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if args and "factory" in info.data and info.data["factory"] is None:
            raise ValueError("there is no factory to pass them to")
        return args

    @model_validator(mode="after")
    def _not_neither(self) -> "NetworkConfig":
        if self.layers is None and self.factory is None:
            raise ValueError("a network needs layers, or a factory")
        return self
