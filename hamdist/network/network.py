"""A network: layers by name, what builds each, how they are joined, and the losses on them."""

import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

import torch
from torch import nn

from hamdist.errors import EvaluationModeWarning, NetworkError, Problem, UserError
from hamdist.naming import layer_name_problem
from hamdist.network.copying import check_hooks, copied
from hamdist.network.edges import EdgeLike, edges_of
from hamdist.network.graph import LOSS, SOURCE, Edge, Graph, chain, connect
from hamdist.network.losses import Losses, LossSpec, losses_of
from hamdist.network.names import Names
from hamdist.network.ownership import check_owned, shared_buffers, tie, ties
from hamdist.network.wording import all_of, first_line
from hamdist.physics.layers import Instant, Layer, Relaxing
from hamdist.physics.modules import Coupling, calls, is_sequence
from hamdist.physics.pure_module import Join, PureModule
from hamdist.physics.randomness import BEYOND_TORCH, derive_seed, seeded
from hamdist.physics.statespace.layer import PureMemory, StateSpaceLayer, remembers, unwalked
from hamdist.physics.statespace.walk import Reads

Builder = Callable[[], nn.Module]
Layers = nn.Sequential | Mapping[str, nn.Module | Builder] | Sequence["nn.Module | Builder | LayerSpec"]


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

    def __post_init__(self) -> None:
        """Raises NetworkError for what is none of these."""
        relaxing = self.relaxing
        wrong = {
            f"a layer's name is text, not {self.name!r}": not isinstance(self.name, str),
            f"build is a function that makes the module, not {self.build!r}": isinstance(
                self.build, nn.Module
            )
            or not callable(self.build),
            f"join is one of {', '.join(get_args(Join))}, not {self.join!r}": self.join not in get_args(Join),
            f"reads is one of {', '.join(get_args(Reads))}, not {self.reads!r}": self.reads
            not in get_args(Reads),
            f"relaxing is a number or None, not {relaxing!r}": not isinstance(relaxing, int | float | None),
        }
        if problems := [message for message, holds in wrong.items() if holds]:
            raise NetworkError(
                *(Problem(self.key, f"layer {self.name!r}: {message}") for message in problems)
            )

    def make(self, seed: int, dtype: torch.dtype, device: torch.device, tau: float = 1.0) -> Layer:
        """The layer, its weights drawn from (seed, name): the same wherever it is built.  tau: the step."""
        return self.layer_of(self.module(seed), dtype, device, tau)

    def module(self, seed: int) -> nn.Module:
        """The module as it is built, on the CPU, with the weights that are views of one memory tied."""
        module = self._built(seed)
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

    def _built(self, seed: int) -> nn.Module:
        """What `build` gives. Raises NetworkError for whatever it raises."""
        with seeded(derive_seed(seed, self.name), beyond=BEYOND_TORCH):
            try:
                return self.build()
            except UserError:
                raise
            except Exception as error:
                told = f"layer {self.name!r} could not be built: {type(error).__name__}: {first_line(error)}"
                raise NetworkError(Problem(self.key, told)) from error

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
            problems += error.problems
    if problems:
        raise NetworkError(*dict.fromkeys(problems))
    check_owned(modules)
    found = shared_buffers(modules)
    shared = {spec.name: {**spec.shared, **found[spec.name]} for spec in specs}
    return Made({spec.name: spec.layer_of(modules[spec.name], dtype, device, tau) for spec in specs}, shared)


@dataclass(frozen=True)
class Network:
    """Layers in the order listed, losses by node name, and the edges between layers (the chain if None).

    losses: LossSpecs, or what `losses_of` takes.  edges: Edges, or what `edge_of` takes.  tau: the step of time in
    which its plain model moves memories on; a Learner, and a run, move them by their own τ, and say it here.
    """

    layers: tuple[LayerSpec, ...]
    losses: Mapping[str, LossSpec]
    edges: tuple[Edge, ...] | None = None
    tau: float = 1.0
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", _layer_specs(self.layers))
        names = Names(layer.name for layer in self.layers)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "edges", edges_of(self.edges, names))
        object.__setattr__(self, "losses", losses_of(self.losses, names, self.edges))
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
    def of(cls, layers: Layers, loss: Losses, edges: Iterable[EdgeLike] | None = None) -> "Network":
        """A network from modules, from functions that build them, or from an nn.Sequential.

        A module keeps its weights and is copied; a builder draws them from the run's seed. Names are those of the
        Sequential or mapping, else the indices. One loss is on the last layer; several go by the layers that bear
        them, or by names of their own, each with an edge to it, as `losses_of` says.

            Network.of({"a": …, "b": …}, {"b": "cross_entropy", "a": {"type": "mse", "weight": 0.3}}, ["a->b"])
            Network.of({"a": …, "b": …}, {"classes": "cross_entropy"}, ["a->b", "b->classes"])
        """
        return cls(specs_of(layers), loss, edges)  # type: ignore[arg-type]  # which it parses


def specs_of(layers: Layers) -> tuple[LayerSpec, ...]:
    """A spec of every layer. A model that is in evaluation mode as a whole is switched to training, with an
    EvaluationModeWarning; what of it alone is in evaluation mode stays so.

    Raises NetworkError for modules that share weights, cannot be copied, or have hooks that would not run.
    """
    named = named_layers(layers)
    modules = {name: layer for name, layer in named.items() if isinstance(layer, nn.Module)}
    check_owned(modules)
    shared = shared_buffers(modules)
    asleep = _evaluates([layers] if isinstance(layers, nn.Module) else list(named.values()))
    if asleep:
        warnings.warn(ASLEEP, EvaluationModeWarning, stacklevel=_depth_of_caller())
    return tuple(spec_of(name, layer, shared.get(name, {}), asleep) for name, layer in named.items())


ASLEEP = (
    "the model is in evaluation mode as a whole, as load_model returns it and eval() leaves it: its copy here learns "
    "in training mode, with batch-norm and dropout on; call train() before to say so (parts that alone are in "
    "evaluation mode, such as a frozen batch-norm, stay so)"
)


def _evaluates(layers: Sequence[object]) -> bool:
    """Whether all that is to learn is in evaluation mode; what a function will build is not known to be."""
    modules = [layer for layer in layers if isinstance(layer, nn.Module)]
    parts = [part for module in modules for part in module.modules()]
    return bool(parts) and len(modules) == len(layers) and not any(part.training for part in parts)


def _depth_of_caller() -> int:
    """The stack level, for whoever called this function's caller, of the first frame outside this package."""
    frame, depth = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "hamdist":
        frame, depth = frame.f_back, depth + 1
    return depth


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


def spec_of(
    name: str, layer: nn.Module | Builder | LayerSpec, shared: Mapping[str, str], awake: bool = False
) -> LayerSpec:
    """shared: as of a `LayerSpec`.  awake: whether a module is to be put in training mode."""
    if isinstance(layer, LayerSpec):
        return layer
    return LayerSpec(name, builder_of(name, layer, awake), shared=shared)


def builder_of(name: str, layer: nn.Module | Builder, awake: bool = False) -> Builder:
    """A module as a builder of copies of itself; a builder as it is.  awake: of copies in training mode."""
    if isinstance(layer, nn.Module):
        check_hooks(name, layer)
        return lambda: copied(name, layer).train() if awake else copied(name, layer)
    if not callable(layer):
        raise NetworkError(f"{layer!r} is neither a torch.nn.Module nor a function that builds one")
    return layer


def _layer_specs(layers: Any) -> tuple[LayerSpec, ...]:
    """Raises NetworkError for what is not made of LayerSpecs, and where there are none."""
    specs = tuple(layers) if isinstance(layers, list | tuple) else ()
    if not isinstance(layers, list | tuple) or not all(isinstance(spec, LayerSpec) for spec in specs):
        raise NetworkError("a Network is made of LayerSpecs; Network.of makes one of modules")
    if not specs:
        raise NetworkError("a network needs at least one layer")
    return specs


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)
