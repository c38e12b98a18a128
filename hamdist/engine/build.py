"""Makes the layers of one actor and examines them: no process ever holds a layer of another one's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hamdist.engine.fused.eligibility import Fitter
from hamdist.engine.message import Form
from hamdist.engine.node_spec import NodeSpec
from hamdist.engine.spec import Outline
from hamdist.errors import NetworkError
from hamdist.network.loss_fit import check_loss
from hamdist.network.network import LayerSpec, check_owned, make_layers
from hamdist.network.reversible import reversible_problems
from hamdist.network.survey import Shape, examine


@dataclass(frozen=True)
class Examined:
    """What the others must know of a layer: the shapes of its in-signals, in edge order, and the form of its output."""

    inputs: tuple[Shape, ...]
    output: Form
    invertible: bool


class Builder:
    """Layers by name, made at once; `plans` grows with every layer examined, upstream first.

    Raises NetworkError with the problems of all layers that cannot be made.
    """

    def __init__(self, outline: Outline, specs: Sequence[LayerSpec], device: torch.device) -> None:
        self.outline = outline
        self.device = device
        self.plans: dict[str, NodeSpec] = {}
        self.targets: Tensor | None = None
        self._keys = {spec.name: spec.key for spec in specs}
        self._fitter = Fitter()
        self._layers = make_layers(specs, outline.seed, outline.dtype, device, outline.learning.dynamics.tau)
        check_owned({name: layer.pure.module for name, layer in self._layers.items()})

    def examine(self, name: str, heard: Mapping[str, Tensor | Form]) -> Examined:
        """The layer's facts become its plan. heard: for every node it hears of forward, its output or the form of it.

        Raises NetworkError: whatever of this layer cannot run.
        """
        outputs = {node: self._tensor(output) for node, output in heard.items()}
        outline, layer, key = self.outline, self._layers[name], self._keys[name]
        with torch.no_grad():
            facts = examine(outline.graph, name, layer, outputs, key, outline.seed)
        if outline.locality.pairing == "reversible" and (
            problems := reversible_problems(outline.graph, name, layer, facts, key)
        ):
            raise NetworkError(*problems)
        self.plans[name] = outline.node_spec(name, layer, facts, self._fitter)
        output = Form(tuple(facts.output.shape), facts.output.dtype)
        return Examined(tuple(tuple(a.shape) for a in facts.inputs), output, layer.invertible)

    def check_losses(self, targets: Tensor) -> None:
        """The losses of this actor's layers must fit these targets, an example of those to come."""
        self.targets = targets.to(self.device)
        for node, spec in self.outline.losses.items():
            if spec.layer in self.plans:
                with torch.no_grad():
                    check_loss(node, spec, self.plans[spec.layer].facts.output, self.targets)

    def _tensor(self, output: Tensor | Form) -> Tensor:
        if isinstance(output, Tensor):
            return output.to(self.device)
        return torch.zeros(output.shape, dtype=output.dtype, device=self.device)
