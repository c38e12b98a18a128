"""Losses as a user writes them: on which layer, of what weight, under which name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hamdist.errors import ConfigError, Problem, did_you_mean
from hamdist.network.edges import layer_name
from hamdist.network.graph import LOSS, Edge
from hamdist.network.target_parts import Part
from hamdist.physics.losses import LOSSES, CrossEntropy, LossFunction


@dataclass(frozen=True)
class LossSpec:
    """A loss on a layer's output, weighed; `name` is what errors call it.  part: which targets are its own, where those
    of several losses are packed; None where all losses hear the same ones."""

    function: LossFunction
    layer: str
    name: str = "loss"
    weight: float = 1.0
    part: Part | None = None

    def own(self, targets: Tensor) -> Tensor:
        """The targets [R, …] that it judges by, of those that come."""
        return targets if self.part is None else self.part.of(targets)


LossLike = str | LossFunction | Mapping[str, Any] | LossSpec
Losses = LossLike | Mapping[str, LossLike] | Sequence[LossLike]


def losses_of(losses: Any, names: Sequence[str], edges: Iterable[Edge] | None) -> dict[str, LossSpec]:
    """Losses by node, from a name, a function, {type, layer, weight, class_dim}, or several in a list or by name.

    A loss is on the layer that it says, or that it is called by, or that an edge to it leaves; a single one on the
    last. Nodes that are not called otherwise are "loss" and "loss-<layer>".  names: of the layers.
    Raises ConfigError.
    """
    if isinstance(losses, Mapping) and "type" not in losses:
        given = list(losses.items())
    else:
        several = losses if isinstance(losses, list | tuple) else [losses]
        given = [("", loss) for loss in several]
    if not given:
        raise ConfigError("a network needs at least one loss")
    bearers = {edge.target: edge.source for edge in edges or ()}
    specs: dict[str, LossSpec] = {}
    for name, loss in given:
        alone = names[-1] if len(given) == 1 or not name else None
        spec = loss_of(loss, name if name in names else bearers.get(name, alone), names, name)
        node = name if name and name not in names else f"{LOSS}-{spec.layer}" if specs else LOSS
        if spec.layer in {called(*each) for each in specs.items()} and called(node, spec) == spec.layer:
            raise ConfigError(
                Problem("loss", f"layer {spec.layer!r} bears two losses: give each a name, and an edge to it")
            )
        specs[node] = spec
    return specs


LOSS_KEYS = ("type", "layer", "weight", "class_dim")


def loss_of(loss: Any, bearer: str | None, names: Sequence[str], name: str = "") -> LossSpec:
    """A loss on the layer that it says, or else the bearer. Raises ConfigError."""
    if isinstance(loss, LossSpec):
        if not callable(loss.function):
            message = (
                f"a LossSpec has a function, not {loss.function!r}: {{'type': …, 'layer': …}} takes a name"
            )
            raise ConfigError(Problem(f"loss.{name}" if name else "loss", message))
        return loss
    given = dict(loss) if isinstance(loss, Mapping) else {"type": loss}
    key = f"loss.{name}" if name else "loss"
    if unknown := [each for each in given if each not in LOSS_KEYS]:
        message = f"unknown key {unknown[0]!r}{did_you_mean(unknown[0], LOSS_KEYS)} (accepted: {', '.join(LOSS_KEYS)})"
        raise ConfigError(Problem(key, message))
    layer = given.get("layer", bearer)
    if layer is None:
        message = (
            f"no layer is called {name!r}, and no edge leads to it: call a loss by the layer that bears it, or add "
            f"the edge '{names[-1]}->{name}', or say {{'type': …, 'layer': …}}"
        )
        raise ConfigError(Problem(key, message))
    function, called = loss_function(given.get("type"), key)
    if (dim := given.get("class_dim")) is not None:
        function = over_classes_along(dim, function, called, key)
    return LossSpec(function, layer_name(layer, names), called, _weight(given.get("weight", 1.0), key))


def loss_function(loss: Any, key: str = "loss") -> tuple[LossFunction, str]:
    """A loss by its name, or a function or module, and what errors call it. Raises ConfigError."""
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss], loss
    if isinstance(loss, str):
        hint = did_you_mean(loss, LOSSES) or f"; accepted: {', '.join(LOSSES)}, or a function"
        raise ConfigError(Problem(key, f"there is no loss {loss!r}{hint}"))
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        loss = loss()
    if not callable(loss):
        message = (
            f"{loss!r} is no loss: give a name ({', '.join(LOSSES)}), or a function (output, target) → mean"
        )
        raise ConfigError(Problem(key, message))
    return loss, getattr(loss, "__name__", type(loss).__name__)


def over_classes_along(dim: Any, loss: LossFunction, name: str, key: str) -> LossFunction:
    """A loss with classes along a dimension of the output. Raises ConfigError."""
    if loss is not LOSSES["cross_entropy"]:
        raise ConfigError(Problem(f"{key}.class_dim", f"only cross_entropy has one, not {name}"))
    if isinstance(dim, bool) or not isinstance(dim, int) or dim == 0:
        message = (
            f"must be the dimension along which classes lie, such as 1 or -1, got {dim!r}; 0 is the rows"
        )
        raise ConfigError(Problem(f"{key}.class_dim", message))
    return CrossEntropy(dim)


def _weight(weight: Any, key: str) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise ConfigError(Problem(f"{key}.weight", f"must be a number greater than 0, got {weight!r}"))
    return float(weight)


def called(node: str, spec: LossSpec) -> str:
    """What users call a loss: its layer, unless it has a name of its own."""
    return spec.layer if node in (LOSS, f"{LOSS}-{spec.layer}") else node
