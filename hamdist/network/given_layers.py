"""Layers as a user gives them: modules, functions that build them, and containers of these."""

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from hamdist.errors import EvaluationModeWarning, NetworkError
from hamdist.network.copying import check_hooks, copied
from hamdist.network.layer_spec import Builder, LayerSpec
from hamdist.network.names import repeated
from hamdist.network.ownership import check_owned, shared_buffers
from hamdist.physics.modules import calls, count_blocks, is_sequence

Layers = nn.Sequential | Mapping[str, nn.Module | Builder] | Sequence[nn.Module | Builder | LayerSpec]


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
    if twice := repeated([name for name, _ in pairs]):
        raise NetworkError(
            *(f"layer {name!r} is listed twice: give every layer a name of its own" for name in twice)
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


@dataclass(frozen=True)
class Copies:
    """Builds copies of a module; awake: in training mode."""

    name: str
    module: nn.Module
    awake: bool = False

    @property
    def residual_blocks(self) -> int:
        return count_blocks(self.module)

    def __call__(self) -> nn.Module:
        copy = copied(self.name, self.module)
        return copy.train() if self.awake else copy


def builder_of(name: str, layer: nn.Module | Builder, awake: bool = False) -> Builder:
    """A module as a builder of copies of itself; a builder as it is.  awake: of copies in training mode."""
    if isinstance(layer, nn.Module):
        check_hooks(name, layer)
        return Copies(name, layer, awake)
    if not callable(layer):
        raise NetworkError(f"{layer!r} is neither a torch.nn.Module nor a function that builds one")
    return layer
