"""Torch modules from their description: a type and its keyword arguments."""

import builtins
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from hamdist.errors import NetworkError, Problem, UserError, did_you_mean
from hamdist.objects import find_layer
from hamdist.physics import statespace
from hamdist.physics.midpoint import LatestOfTwo, Midpoint
from hamdist.physics.modules import Coupling, Merging, Residual


@dataclass(frozen=True)
class ModuleSpec:
    """type: a class of torch.nn, a state-space module, or "package.module:Class".  key: where a config speaks of it."""

    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""

    def build(self) -> nn.Module:
        """The module. Raises NetworkError: no such class, or arguments that it does not take."""
        kind = self.find()
        try:
            return kind(**self.arguments)
        except Exception as error:
            written = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
            raise NetworkError(
                Problem(self.key, f"{self.type}({written}): {error}{self._hint(kind)}")
            ) from error

    def _hint(self, kind: Any) -> str:
        """For an argument that the class does not take: the one that was meant, or all that it takes."""
        try:
            accepted = [
                n for n, p in inspect.signature(kind).parameters.items() if p.kind is not p.VAR_KEYWORD
            ]
        except (TypeError, ValueError):
            return ""
        for name in self.arguments:
            if name not in accepted:
                return did_you_mean(name, accepted) or f"; it takes {', '.join(accepted)}"
        return ""

    def find(self) -> "builtins.type[nn.Module]":
        """The class."""
        if ":" in self.type:
            try:
                return find_layer(self.type)
            except UserError as error:
                raise NetworkError(Problem(f"{self.key}.type", str(error))) from error
        kind = getattr(statespace if self.type in statespace.__all__ else nn, self.type, None)
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            known = [
                name
                for name, value in vars(nn).items()
                if isinstance(value, type) and issubclass(value, nn.Module)
            ]
            hint = did_you_mean(self.type, [*known, *statespace.__all__])
            message = (
                f"neither torch.nn nor hamdist.physics.statespace has a module {self.type!r}{hint} (or write "
                "'package.module:Class')"
            )
            raise NetworkError(Problem(f"{self.key}.type", message))
        return kind


def build_stack(
    modules: Sequence[ModuleSpec], residual: float | None = None, merges: bool = False
) -> nn.Module:
    """The modules one after another, and where `residual` scales their output, the input added to it.

    merges: whether the first takes several inputs.
    """
    stack = (Merging if merges else nn.Sequential)(*build_all(modules))
    return stack if residual is None else Residual(stack, residual)


def build_midpoint(body: Callable[[], nn.Module], starts: bool) -> nn.Module:
    """A step of the midpoint rule.  starts: whether it is the first of its chain."""
    return Midpoint(body(), starts)


def build_after_midpoint(module: Callable[[], nn.Module]) -> nn.Module:
    """What hears the last of the two signals that a chain of midpoint steps gives."""
    return nn.Sequential(LatestOfTwo(), module())


def build_coupling(f: Sequence[ModuleSpec], g: Sequence[ModuleSpec]) -> nn.Module:
    """y1 = x1 + F(x2), y2 = x2 + G(y1)."""
    return Coupling(build_stack(f), build_stack(g))


def build_all(modules: Sequence[ModuleSpec]) -> list[nn.Module]:
    """Every module, or one NetworkError with the problems of all."""
    built: list[nn.Module] = []
    problems: list[Problem] = []
    for module in modules:
        try:
            built.append(module.build())
        except NetworkError as error:
            problems += error.problems
    if problems:
        raise NetworkError(*problems)
    return built
