"""A network: layers by name, what builds each, how they are joined, and the losses on them."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hamdist.errors import NetworkError, Problem
from hamdist.naming import layer_name_problem
from hamdist.network.graph import LOSS, SOURCE, Edge, Graph, chain, connect
from hamdist.network.names import Names
from hamdist.network.wording import all_of
from hamdist.physics.layers import Instant, Layer, Relaxing
from hamdist.physics.losses import LossFunction
from hamdist.physics.modules import Coupling
from hamdist.physics.pure_module import Join, PureModule
from hamdist.physics.randomness import derive_seed, seeded
from hamdist.physics.statespace.layer import PureMemory, StateSpaceLayer, remembers
from hamdist.physics.statespace.walk import Reads

Builder = Callable[[], nn.Module]
EdgeLike = str | tuple[int | str, int | str] | Mapping[str, Any] | Edge


@dataclass(frozen=True)
class LayerSpec:
    """One layer: what builds its module, how several inputs become its arguments, and its time constant.

    relaxing: T of dξ/dt = (φ − ξ)/T, None for an instant layer.  reads: of a layer with a memory, whether its output
    is read from the state after an input, or from the one before.  key: where a config speaks of it.
    """

    name: str
    build: Builder
    join: Join = "sum"
    relaxing: float | None = None
    reads: Reads = "new"
    key: str = ""

    def make(self, seed: int, dtype: torch.dtype, device: torch.device, tau: float = 1.0) -> Layer:
        """The layer, its weights drawn from (seed, name): the same wherever it is built.  tau: the step."""
        with seeded(derive_seed(seed, self.name)):
            module = self.build()
        if not isinstance(module, nn.Module):
            raise NetworkError(
                Problem(self.key, f"layer {self.name!r} is a {type(module).__name__}, not a torch.nn.Module")
            )
        module = converted(module, dtype, device)
        if problem := self._misplaced(module):
            raise NetworkError(Problem(self.key, f"layer {self.name!r} {problem}"))
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
        return ""


def converted(module: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The module on a device, its floating numbers of a type, complex ones of the one that has such parts."""
    if not any(t.is_complex() for t in (*module.parameters(), *module.buffers())):
        return module.to(dtype=dtype, device=device)
    for tensor in (*module.parameters(), *module.buffers()):
        kind = dtype.to_complex() if tensor.is_complex() else dtype if tensor.is_floating_point() else None
        tensor.data = tensor.data.to(device=device, dtype=kind)
    return module


def make_layers(
    specs: Iterable[LayerSpec], seed: int, dtype: torch.dtype, device: torch.device, tau: float = 1.0
) -> dict[str, Layer]:
    """The layers by name, or one NetworkError with the problems of all."""
    layers: dict[str, Layer] = {}
    problems: list[Problem] = []
    for spec in specs:
        try:
            layers[spec.name] = spec.make(seed, dtype, device, tau)
        except NetworkError as error:
            problems += error.problems
    if problems:
        raise NetworkError(*dict.fromkeys(problems))
    return layers


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
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        names = Names(layer.name for layer in self.layers)
        object.__setattr__(self, "names", names)
        problems = [
            *(
                f"layer {name!r} is listed twice: give every layer a name of its own"
                for name in _repeated(names)
            ),
            *(f"a layer cannot be called {name!r}" for name in names if name in {SOURCE, LOSS, *self.losses}),
            *(problem for name in names if (problem := layer_name_problem(name))),
            *(
                f"layer {spec.layer!r} bears a loss but does not exist; the layers are {all_of(names)}"
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
        named = named_layers(layers)
        check_owned({name: layer for name, layer in named.items() if isinstance(layer, nn.Module)})
        specs = tuple(spec_of(name, layer) for name, layer in named.items())
        if not specs:
            raise NetworkError("a network needs at least one layer")
        names = Names(spec.name for spec in specs)
        name = getattr(loss, "__name__", type(loss).__name__)
        parsed = None if edges is None else tuple(edge_of(edge, names) for edge in edges)
        return cls(specs, {LOSS: LossSpec(loss, names[-1], name)}, parsed)


def named_layers(layers: Any) -> dict[str, nn.Module | Builder | LayerSpec]:
    """Layers by name, from an nn.Sequential, a mapping or a sequence (whose names are the indices)."""
    if isinstance(layers, nn.Sequential):
        return dict(zip(layers._modules, layers, strict=True))
    if isinstance(layers, Mapping):
        return dict(layers)
    pairs = [
        (layer.name if isinstance(layer, LayerSpec) else str(i), layer) for i, layer in enumerate(layers)
    ]
    if repeated := _repeated([name for name, _ in pairs]):
        raise NetworkError(
            *(f"layer {name!r} is listed twice: give every layer a name of its own" for name in repeated)
        )
    return dict(pairs)


def spec_of(name: str, layer: nn.Module | Builder | LayerSpec) -> LayerSpec:
    return layer if isinstance(layer, LayerSpec) else LayerSpec(name, builder_of(layer))


def check_owned(modules: Mapping[str, nn.Module]) -> None:
    """No two layers may share a parameter: each must be able to live on a device of its own."""
    owner: dict[int, str] = {}
    for name, module in modules.items():
        for parameter in module.parameters():
            other = owner.setdefault(id(parameter), name)
            if other != name:
                raise NetworkError(
                    f"layers {other!r} and {name!r} share weights: each layer must own its weights"
                )


def builder_of(layer: nn.Module | Builder) -> Builder:
    """A module as a builder of copies of itself; a builder as it is."""
    if isinstance(layer, nn.Module):
        return lambda: copy.deepcopy(layer)
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
    if text.isdecimal() and text not in names and int(text) < len(names):
        return names[int(text)]
    return text


def edge_name(name: str, names: Sequence[str]) -> str:
    """ "0->1" in terms of layer names."""
    return "->".join(layer_name(end.strip(), names) for end in name.split("->"))


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)
