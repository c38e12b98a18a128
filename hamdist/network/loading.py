"""Weights that a network takes up: whether they are those of its layers, and layers that begin with them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hamdist.errors import Problem, UserError, did_you_mean, first_of
from hamdist.network.layer_spec import Builder, converted
from hamdist.network.network import Network
from hamdist.network.wording import describe


def by_layer(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The state_dict of every layer, from one with keys "<layer>.<tensor>"."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in state.items():
        layer, _, name = key.partition(".")
        found.setdefault(layer, {})[name] = value
    return found


def check_state(own: Mapping[str, Any], state: Any) -> None:
    """own: a state_dict of the same network.

    Raises UserError with all that is missing, too much, of another shape, or of a dtype that would lose digits.
    """
    if not isinstance(state, Mapping):
        raise UserError(f"a state_dict is a mapping from names to tensors, not a {type(state).__name__}")
    if problems := first_of(_problems(own, state)):
        raise UserError(*problems)


def _problems(own: Mapping[str, Any], state: Mapping[str, Any]) -> Iterator[Problem]:
    for key in own:
        if key not in state:
            yield Problem(key, "is missing in the state_dict")
    for key, value in state.items():
        if key not in own:
            yield Problem(str(key), f"is nothing that the layers have{did_you_mean(key, own)}")
        elif why := _misfit(own[key], value):
            yield Problem(key, why)


def _misfit(own: Any, given: Any) -> str:
    """Why a value cannot take the place of another; "" where it can."""
    if not isinstance(own, Tensor):
        return ""
    if not isinstance(given, Tensor):
        return f"is {describe(own)} here, and a {type(given).__name__} in the state_dict"
    if is_lazy(own):
        return ""
    if own.shape != given.shape:
        return f"is {describe(own)} here, and {describe(given)} in the state_dict"
    if own.dtype != given.dtype and not _widens(given, own):
        return f"is of {own.dtype} here, and of {given.dtype} in the state_dict, which would be cut: convert it first"
    return ""


def _widens(given: Tensor, own: Tensor) -> bool:
    """Whether every number of the one is also one of the other's dtype."""
    numbers = given.is_floating_point() or given.is_complex()
    return numbers and torch.promote_types(given.dtype, own.dtype) == own.dtype


@dataclass(frozen=True)
class WithWeights:
    """Builds what `build` does, its numbers of a type, with the weights of a state_dict in it."""

    build: Builder
    dtype: torch.dtype
    state: Mapping[str, Any]

    @property
    def residual_blocks(self) -> Any:
        """As what it builds with has them."""
        return getattr(self.build, "residual_blocks", None)

    def __call__(self) -> nn.Module:
        module = converted(self.build(), self.dtype, torch.device("cpu"))
        module.load_state_dict(self.state)
        return module


def with_weights(network: Network, state: Any, seed: int, dtype: torch.dtype) -> Network:
    """The network, its layers built with these weights: a state_dict with keys "<layer>.<tensor>", of which it takes
    copies. Raises UserError where they do not fit.
    """
    modules = {spec.name: converted(spec.module(seed), dtype, torch.device("cpu")) for spec in network.layers}
    own = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    check_state(own, state)
    kept = by_layer({key: t.detach().clone() if isinstance(t, Tensor) else t for key, t in state.items()})
    layers = [replace(s, build=WithWeights(s.build, dtype, kept.get(s.name, {}))) for s in network.layers]
    return replace(network, layers=tuple(layers))
