"""One layer of a network: what builds its module, and the layers that are made of such."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

import torch
from torch import nn

from hamdist.errors import NetworkError, Problem, UserError, first_line, first_of
from hamdist.network.copying import check_hooks
from hamdist.network.ownership import check_owned, shared_buffers, tie, ties
from hamdist.physics.layers import Instant, Layer, Relaxing
from hamdist.physics.midpoint import Midpoint
from hamdist.physics.modules import Coupling, settle_scales, waits_for_scale
from hamdist.physics.pure_module import Join, PureModule
from hamdist.physics.randomness import BEYOND_TORCH, derive_seed, seeded
from hamdist.physics.statespace.layer import PureMemory, StateSpaceLayer, remembers, unwalked
from hamdist.physics.statespace.walk import Reads

Builder = Callable[[], nn.Module]


@dataclass(frozen=True)
class LayerSpec:
    """One layer: what builds its module, how several inputs become its arguments, and its time constant.

    relaxing: T of dξ/dt = (φ − ξ)/T, None for an instant layer.  reads: of a layer with a memory, whether its output
    is read from the state after an input, or from the one before.  key: where a config speaks of it.
    shared: its buffers that others have as well, as `shared_buffers` finds them.  blocks: L, how many residual blocks
    the network has, where a Network knows it.
    """

    name: str
    build: Builder
    join: Join = "sum"
    relaxing: float | None = None
    reads: Reads = "new"
    key: str = ""
    shared: Mapping[str, str] = field(default_factory=dict)
    blocks: int | None = None

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
        self._settle_scales(module)
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

    def _settle_scales(self, module: nn.Module) -> None:
        """Raises NetworkError where that takes a number which nobody knows."""
        if not waits_for_scale(module):
            return
        if self.blocks is None:
            message = (
                f"layer {self.name!r} has a Residual of scale 'auto', which counts the residual blocks of all layers, "
                "and functions that build layers hide theirs: give modules instead of functions, or a number"
            )
            raise NetworkError(Problem(self.key, message))
        settle_scales(module, self.blocks)

    def _misplaced(self, module: nn.Module) -> str:
        """What is wrong with a memory where it stands."""
        if isinstance(module, Coupling | Midpoint) and any(remembers(part) for part in module.modules()):
            where = "coupling" if isinstance(module, Coupling) else "midpoint step"
            return f"has a memory inside a {where}, which could not be inverted: make it a layer of its own"
        if self.relaxing is not None and remembers(module):
            return "has a memory, so it cannot relax as well: leave out relaxing"
        return unwalked(module)


def residual_blocks(specs: Iterable[LayerSpec]) -> int | None:
    """How many there are in the modules that specs build; None where only building one would tell."""
    counts = [getattr(spec.build, "residual_blocks", None) for spec in specs]
    known = [count for count in counts if isinstance(count, int)]
    return sum(known) if len(known) == len(counts) else None


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
    if problems := first_of(_make_modules(specs, seed, modules)):
        raise NetworkError(*problems)
    check_owned(modules)
    found = shared_buffers(modules)
    shared = {spec.name: {**spec.shared, **found[spec.name]} for spec in specs}
    return Made({spec.name: spec.layer_of(modules[spec.name], dtype, device, tau) for spec in specs}, shared)


def _make_modules(specs: Iterable[LayerSpec], seed: int, into: dict[str, nn.Module]) -> Iterator[Problem]:
    """Puts every module under its name; the problems of those that cannot be made."""
    for spec in specs:
        try:
            into[spec.name] = spec.module(seed)
        except NetworkError as error:
            yield from error.problems
