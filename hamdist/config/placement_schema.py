"""The `placement` section: in which processes the layers live, on what devices, and what joins them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from hamdist.config.types import (
    Count,
    Flag,
    LayerReference,
    NonNegative,
    Positive,
    Section,
    Text,
    Whole,
    WholeOrZero,
)


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError(f"{value!r} is not a device (accepted: auto, cpu, cuda, cuda:N)")
    return value


Device = Annotated[str, AfterValidator(_device)]


def _list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list of an actor's layers, as in [[0, 1], [2]], got {value!r}")
    return value


HostedLayers = Annotated[tuple[LayerReference, ...], BeforeValidator(_list), Field(min_length=1)]


def _name_number_or_lists(value: Any) -> str:
    if isinstance(value, str):
        return "a name"
    return "lists" if isinstance(value, list | tuple) else "a number"


def _actors(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float | list | tuple):
        shown = str(value).lower() if isinstance(value, bool) else "null" if value is None else repr(value)
        raise ValueError(f"expected auto, per-layer, a number of actors, or lists of layers, got {shown}")
    return value


Actors = Annotated[
    Annotated[Literal["auto", "per-layer"], Tag("a name")]
    | Annotated[Count, Tag("a number")]
    | Annotated[tuple[HostedLayers, ...], Field(min_length=1), Tag("lists")],
    Discriminator(_name_number_or_lists),
    BeforeValidator(_actors),
]


def _address(value: str) -> str:
    if value.startswith("ray://"):
        raise ValueError(
            f"{value!r} is Ray Client, whose driver stands outside the cluster: start hamdist on a node of the cluster,"
            " or use `hamdist launch cluster --submit`"
        )
    match = re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:.]+\]):(\d+)", value)
    if value not in ("auto", "local") and not (match and 0 < int(match[1]) < 65536):
        raise ValueError(f"{value!r} is not an address (accepted: auto, local, host:port)")
    return value


Seconds = Annotated[Positive, Field(le=1e6)]
Port = Annotated[Whole, Field(ge=1, le=65535)]


def _whole_above_one(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise ValueError(f"a share of a GPU, or whole GPUs: above 1 it must be a whole number, got {value:g}")
    return value


def _resource(name: str) -> str:
    if name.upper() in ("CPU", "GPU"):
        raise ValueError(f"{name!r} has a key of its own: {name.lower()}s")
    return name


class RequestConfig(Section):
    """What the actor of a layer asks of its node."""

    cpus: Positive | None = Field(
        default=None, description="CPUs; `null`: as many as an actor gets without asking."
    )
    gpus: Annotated[NonNegative, AfterValidator(_whole_above_one)] | None = Field(
        default=None, description="GPUs, or a share of one; `null`: as many as an actor gets without asking."
    )
    resources: dict[Annotated[Text, AfterValidator(_resource)], Positive] = Field(
        default={}, description="Amounts of custom resources that nodes of the cluster offer."
    )
    labels: dict[Text, Text] = Field(default={}, description="Labels that the node must bear.")
    device: Device | None = Field(default=None, description="Of these layers, instead of `placement.device`.")


def _text_keys(value: Any) -> Any:
    """Indices of layers may be written as numbers."""
    if not isinstance(value, Mapping):
        return value
    return {str(key) if type(key) is int else key: inner for key, inner in value.items()}


class PlacementConfig(Section):
    """Where the layers live."""

    runtime: Literal["inline", "ray"] = Field(
        default="inline", description="All layers in this process, or each actor's on a Ray worker."
    )
    actors: Actors = Field(
        default="auto",
        description="`auto`: as many as devices (GPUs where there are any, else cores), contiguous layers packed by"
        " estimated cost; `per-layer`; a number; or each actor's layers, by name or index.",
    )
    requests: Annotated[dict[Text, RequestConfig], BeforeValidator(_text_keys)] = Field(
        default={},
        description="What actors ask of their nodes (below), by name, index or pattern of the layers they host.",
    )
    device: Device = Field(
        default="auto",
        description="`auto`, `cpu`, `cuda` or `cuda:N`; `auto` takes a GPU where there is one.",
    )
    threads: Annotated[Count, Field(le=1024)] = Field(
        default=1, description="Threads within one operation; sums, and so bits, depend on it."
    )
    stack: Flag = Field(
        default=False,
        description="Layers of equal structure compute as one, and a tick runs as one traced sequence of operations.",
    )
    compile: Flag = Field(
        default=False,
        description="Ticks are compiled by torch, if it finds a compiler; implies `stack`. Bits then hold to rounding.",
    )
    chunk: Annotated[Count, Field(le=4096)] | None = Field(
        default=None,
        description="Ticks that run, and cross between actors, in one go; `null`: 8 where one process compiles, else 1"
        " (below).",
    )
    address: Annotated[str, AfterValidator(_address)] = Field(
        default="auto",
        description="Of the Ray cluster: `auto` joins the one that RAY_ADDRESS names, else starts a local one; `local`"
        " always starts one; `host:port`.",
    )
    link: Literal["auto", "zeromq", "torch"] = Field(
        default="auto",
        description="What joins actors; `auto`: torch.distributed with NCCL between different GPUs, else ZeroMQ, on one"
        " host with large signals in shared memory; `zeromq`: sockets alone.",
    )
    ports: tuple[Port, Port] | None = Field(
        default=None, description="Lowest and highest port of the sockets between hosts; `null`: any."
    )
    spares: Annotated[WholeOrZero, Field(le=1024)] = Field(
        default=0,
        description="Processes that stand started in reserve, to take the place of an actor that fails.",
    )
    heartbeat_seconds: Seconds = Field(
        default=5.0, description="A neighbour that gives no sign of life for so long has failed."
    )
    progress_seconds: Seconds = Field(
        default=300.0, description="A neighbour that lives, but sends nothing for so long, has failed."
    )

    @field_validator("requests")
    @classmethod
    def _requests_need_known_actors(cls, requests: Any, info: ValidationInfo) -> Any:
        actors = info.data.get("actors")
        if requests and (actors == "auto" or isinstance(actors, int)):
            raise ValueError(
                f"with actors: {actors} layers are packed by cost, and so would be what is asked for them: set"
                " placement.actors to per-layer, or to lists of layers"
            )
        return requests

    @field_validator("ports")
    @classmethod
    def _ports_ascend(cls, ports: Any) -> Any:
        if ports and ports[0] > ports[1]:
            raise ValueError(f"the lowest comes first: [{ports[1]}, {ports[0]}]")
        return ports
