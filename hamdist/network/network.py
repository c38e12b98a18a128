"""A network: layers by name, what builds each, how they are joined, and the losses on them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from hamdist.errors import NetworkError, Problem
from hamdist.network.copying import check_hooks, copied
from hamdist.network.graph import LOSS, SOURCE, Edge, Graph, chain, connect
from hamdist.network.ownership import check_owned, shared_buffers, tie, ties
from hamdist.physics.layers import Instant, Layer, Relaxing
from hamdist.physics.losses import LossFunction
from hamdist.physics.modules import Coupling, calls, is_sequence
from hamdist.physics.pure_module import Join, PureModule
from hamdist.physics.randomness import BEYOND_TORCH, derive_seed, seeded
from hamdist.physics.statespace.layer import PureMemory, StateSpaceLayer, remembers, unwalked
from hamdist.physics.statespace.walk import Reads

Builder = Callable[[], nn.Module]
EdgeLike = str | tuple[int | str, int | str] | Mapping[str, Any] | Edge


@dataclass(frozen=True)
class LayerSpec:
    """One layer: what builds its module, how several inputs become its arguments, and its time constant.

    relaxing: T of dξ/dt = (φ − ξ)/T, None for an instant layer.  reads: of a layer with a memory, whether its output
    is read from the state after an input, or from the one before.  key: where a config speaks of it.
    shared: its buffers that others have as well, as `shared_buffers` finds them.
    """

    name: str
    build: Builder
    join: Join = "sum"
    relaxing: float | None = None
    reads: Reads = "new"
    key: str = ""
    shared: Mapping[str, str] = field(default_factory=dict)

    def make(self, seed: int, dtype: torch.dtype, device: torch.device, tau: float = 1.0) -> Layer:
        """The layer, its weights drawn from (seed, name): the same wherever it is built.  tau: the step."""
        return self.layer_of(self.module(seed), dtype, device, tau)

    def module(self, seed: int) -> nn.Module:
        """The module as it is built, on the CPU, with the weights that are views of one memory tied."""
        with seeded(derive_seed(seed, self.name), beyond=BEYOND_TORCH):
            module = self.build()
        if not isinstance(module, nn.Module):
            raise NetworkError(
                Problem(self.key, f"layer {self.name!r} is a {type(module).__name__}, not a torch.nn.Module")
            )
        check_hooks(self.name, module, self.key)
        tie(module, ties(module))
        if problem := self._misplaced(module):
            raise NetworkError(Problem(self.key, f"layer {self.name!r} {problem}"))
        return module

    def layer_of(self, module: nn.Module, dtype: torch.dtype, device: torch.device, tau: float) -> Layer:
        """The module as a layer, its numbers of a type, on a device."""
        module = converted(module, dtype, device)
        if remembers(module):
            return StateSpaceLayer(PureMemory(module, self.join, tau, self.reads))
        pure = PureModule(module, self.join)
        return Instant(pure) if self.relaxing is None else Relaxing(pure, self.relaxing)

    def _misplaced(self, module: nn.Module) -> str:
        """What is wrong with a memory where it stands."""
        if isinstance(module, Coupling) and any(remembers(part) for part in module.modules()):
            return "has a memory inside a coupling, which could not be inverted: make it a layer of its own"
        if self.relaxing is not None and remembers(module):
            return "has a memory, so it cannot relax as well: leave out relaxing"
        return unwalked(module)


def converted(module: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The module on a device, its floating numbers of a type, complex ones of the one that has such parts."""
    if not any(t.is_complex() for t in (*module.parameters(), *module.buffers())):
        return module.to(dtype=dtype, device=device)
    for tensor in (*module.parameters(), *module.buffers()):
        kind = dtype.to_complex() if tensor.is_complex() else dtype if tensor.is_floating_point() else None
        tensor.data = tensor.data.to(device=device, dtype=kind)
    return module


class Made(NamedTuple):
    """Layers by name, and the buffers of each that others have as well, as `shared_buffers` finds them."""

    layers: dict[str, Layer]
    shared: dict[str, dict[str, str]]


def make_layers(
    specs: Iterable[LayerSpec], seed: int, dtype: torch.dtype, device: torch.device, tau: float = 1.0
) -> Made:
    """The layers, or one NetworkError with the problems of all; also where two of them share weights."""
    specs = tuple(specs)
    modules: dict[str, nn.Module] = {}
    problems: list[Problem] = []
    for spec in specs:
        try:
            modules[spec.name] = spec.module(seed)
        except NetworkError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise NetworkError(*problems)
    check_owned(modules)
    found = shared_buffers(modules)
    shared = {spec.name: {**spec.shared, **found[spec.name]} for spec in specs}
    return Made({spec.name: spec.layer_of(modules[spec.name], dtype, device, tau) for spec in specs}, shared)


@dataclass(frozen=True)
class LossSpec:
    """A loss on a layer's output, weighed; `name` is what errors call it."""

    function: LossFunction
    layer: str
    name: str = "loss"
    weight: float = 1.0


@dataclass(frozen=True)
class Network:
    """Layers in the order listed, losses by node name, and the edges between layers (the chain if None)."""

    layers: tuple[LayerSpec, ...]
    losses: Mapping[str, LossSpec]
    edges: tuple[Edge, ...] | None = None
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(layer.name for layer in self.layers)
        object.__setattr__(self, "names", names)
        problems = [
            *(
                f"layer {name!r} is listed twice: give every layer a name of its own"
                for name in _repeated(names)
            ),
            *(f"a layer cannot be called {name!r}" for name in names if name in {SOURCE, LOSS, *self.losses}),
            *(
                f"a layer's name is made of letters, digits, '_' and '-', not {name!r}"
                for name in names
                if not re.fullmatch(r"[A-Za-z0-9_-]+", name)
            ),
            *(
                f"layer {spec.layer!r} bears a loss but does not exist; the layers are {', '.join(names)}"
                for spec in self.losses.values()
                if spec.layer not in names
            ),
            *([] if names else ["a network needs at least one layer"]),
        ]
        if problems:
            raise NetworkError(*problems)

    @property
    def graph(self) -> Graph:
        """The graph, delays still open."""
        edges = chain(self.names) if self.edges is None else self.edges
        latencies = {spec.name: Relaxing.latency for spec in self.layers if spec.relaxing is not None}
        return connect(self.names, {node: spec.layer for node, spec in self.losses.items()}, edges, latencies)

    @property
    def relaxing(self) -> dict[str, float]:
        """The time constants of the relaxing layers."""
        return {spec.name: spec.relaxing for spec in self.layers if spec.relaxing is not None}

    @classmethod
    def of(
        cls,
        layers: nn.Sequential | Mapping[str, nn.Module | Builder] | Sequence[nn.Module | Builder | LayerSpec],
        loss: LossFunction,
        edges: Iterable[EdgeLike] | None = None,
    ) -> "Network":
        """A network from modules, from functions that build them, or from an nn.Sequential; the loss on the last.

        A module keeps its weights and is copied; a builder draws them from the run's seed. Names are those of the
        Sequential or mapping, else the indices.
        """
        specs = specs_of(named_layers(layers))
        if not specs:
            raise NetworkError("a network needs at least one layer")
        names = [spec.name for spec in specs]
        name = getattr(loss, "__name__", type(loss).__name__)
        parsed = None if edges is None else tuple(edge_of(edge, names) for edge in edges)
        return cls(specs, {LOSS: LossSpec(loss, names[-1], name)}, parsed)


def named_layers(layers: Any) -> dict[str, nn.Module | Builder | LayerSpec]:
    """Layers by name, from an nn.Sequential, a mapping or a sequence (whose names are the indices).

    A sequence that is more than its parts is one layer. Raises NetworkError for what is neither.
    """
    if isinstance(layers, nn.Module):
        return _parts(layers)
    if callable(layers) or not isinstance(layers, Iterable):
        raise NetworkError(
            f"layers are a list, a mapping by name, or an nn.Sequential, not {layers!r}: write [...]"
        )
    if isinstance(layers, Mapping):
        pairs = [(str(name), layer) for name, layer in layers.items()]
    else:
        pairs = [
            (layer.name if isinstance(layer, LayerSpec) else str(i), layer) for i, layer in enumerate(layers)
        ]
    if repeated := _repeated([name for name, _ in pairs]):
        raise NetworkError(
            *(f"layer {name!r} is listed twice: give every layer a name of its own" for name in repeated)
        )
    return dict(pairs)


def _parts(module: nn.Module) -> dict[str, nn.Module | Builder | LayerSpec]:
    """The layers of a container; of one with a forward or tensors of its own, or hooks, itself."""
    kind = type(module).__name__
    if is_sequence(module):
        return dict(zip(module._modules, module, strict=True))
    if isinstance(module, nn.ModuleDict) and not calls(module):
        raise NetworkError(
            f"layers are a {kind}, which has no order of its own: write dict(layers), in their order"
        )
    if isinstance(module, nn.ModuleList) and not calls(module):
        if module._parameters or module._buffers:
            raise NetworkError(
                f"layers are a {kind} with tensors of its own, which no layer has: put them into one"
            )
        return {str(i): layer for i, layer in enumerate(module)}
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return {"0": module}
    raise NetworkError(
        f"a network is made of layers, but a single {kind} was given: write [layer] for a network of one, or "
        "list its parts"
    )


def specs_of(layers: Mapping[str, nn.Module | Builder | LayerSpec]) -> tuple[LayerSpec, ...]:
    """Raises NetworkError for modules that share weights, cannot be copied, or have hooks that would not run."""
    modules = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Module)}
    check_owned(modules)
    shared = shared_buffers(modules)
    return tuple(spec_of(name, layer, shared.get(name, {})) for name, layer in layers.items())


def spec_of(name: str, layer: nn.Module | Builder | LayerSpec, shared: Mapping[str, str]) -> LayerSpec:
    """shared: as of a `LayerSpec`."""
    return layer if isinstance(layer, LayerSpec) else LayerSpec(name, builder_of(name, layer), shared=shared)


def builder_of(name: str, layer: nn.Module | Builder) -> Builder:
    """A module as a builder of copies of itself; a builder as it is."""
    if isinstance(layer, nn.Module):
        check_hooks(name, layer)
        return lambda: copied(name, layer)
    if not callable(layer):
        raise NetworkError(f"{layer!r} is neither a torch.nn.Module nor a function that builds one")
    return layer


def edge_of(edge: EdgeLike, names: Sequence[str]) -> Edge:
    """An edge from "0->1", "embed->head", (0, 1), {from, to, delay, shape} or an Edge."""
    if isinstance(edge, Edge):
        return edge
    if isinstance(edge, str):
        ends = [end.strip() for end in edge.split("->")]
        if len(ends) != 2:
            raise NetworkError(f"edge {edge!r} is not of the form 'from->to'")
        return Edge(layer_name(ends[0], names), layer_name(ends[1], names))
    if isinstance(edge, Mapping):
        shape = edge.get("shape")
        return Edge(
            layer_name(edge["from"], names),
            layer_name(edge["to"], names),
            edge.get("delay"),
            shape=None if shape is None else tuple(shape),
        )
    return Edge(layer_name(edge[0], names), layer_name(edge[1], names))


def layer_name(layer: int | str, names: Sequence[str]) -> str:
    """The name of a layer given by name or by index; what is neither is left for the graph to refuse."""
    text = str(layer)
    if text not in names and text.isdecimal() and int(text) < len(names):
        return names[int(text)]
    return text


def edge_name(name: str, names: Sequence[str]) -> str:
    """ "0->1" in terms of layer names."""
    return "->".join(layer_name(end.strip(), names) for end in name.split("->"))


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
