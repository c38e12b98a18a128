"""Makes layers, examines them on the first batch, and plans them: all of a network here, or those of one actor.

No process ever holds a layer of another one's; what one must know of the others is their Facts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hamdist.engine.fused.eligibility import Fitter
from hamdist.engine.node_spec import NodeSpec
from hamdist.engine.spec import PLAIN, Execution, Outline, outline_of
from hamdist.errors import NetworkError, Problem
from hamdist.network.entrance import Entrance
from hamdist.network.exact import exact_problems
from hamdist.network.graph import Graph
from hamdist.network.layer_spec import LayerSpec, make_layers
from hamdist.network.learning import Learning, check_scales
from hamdist.network.locality import Locality
from hamdist.network.loss_fit import check_loss, check_targets
from hamdist.network.network import Network
from hamdist.network.ownership import check_still
from hamdist.network.reversible import check_some_reversible, reversible_problems
from hamdist.network.survey import Facts, Heard, examine, survey, tensors_like
from hamdist.physics.layers import Layer
from hamdist.physics.targets import represented


class LayerBuilder(ABC):
    """Layers that have been made, here or elsewhere, and are to be examined and planned."""

    @abstractmethod
    def examine(self, name: str, heard: Mapping[str, Heard]) -> Facts:
        """What one layer does. heard: for every node it hears of forward, its output, or what that looks like.

        Raises NetworkError.
        """

    @abstractmethod
    def check_losses(self, targets: Tensor) -> None:
        """The losses must fit these targets, an example of those to come. Raises NetworkError."""

    @abstractmethod
    def make_plans(self) -> None:
        """All layers, once they have been examined. Raises NetworkError for those that cannot run."""


def examine_all(
    outline: Outline, builder: LayerBuilder, first: tuple[Tensor, Tensor | None]
) -> dict[str, Facts]:
    """Facts and plans of every layer, upstream first. first: inputs [B, …] and targets [B, …] as they will come.

    Raises NetworkError for whatever cannot run.
    """
    inputs, targets = first
    facts = survey(outline.graph, builder.examine, inputs)
    learning = [f"{name}.{each}" for name in outline.graph.layers for each in facts[name].learns]
    check_scales(outline.learning.beta_scale, learning)
    check_targets(next(iter(outline.losses.values())), targets)
    assert targets is not None
    builder.check_losses(targets)
    if outline.locality.pairing == "reversible":
        check_some_reversible(outline.graph, any(found.invertible for found in facts.values()))
    builder.make_plans()
    return facts


class LocalBuilder(LayerBuilder):
    """Layers by name, made at once in this process; `plans` are there once they are made.

    Raises NetworkError with the problems of all layers that cannot be made.
    """

    def __init__(self, outline: Outline, specs: Sequence[LayerSpec], device: torch.device) -> None:
        self.outline = outline
        self.device = device
        self.plans: dict[str, NodeSpec] = {}
        self.targets: Tensor | None = None
        self._keys = {spec.name: spec.key for spec in specs}
        self._facts: dict[str, Facts] = {}
        self._layers, self._shared = make_layers(
            specs, outline.seed, outline.dtype, device, outline.learning.dynamics.tau
        )

    def examine(self, name: str, heard: Mapping[str, Heard]) -> Facts:
        outline, layer, key = self.outline, self._layers[name], self._keys[name]
        outputs = tensors_like(heard, self.device)
        with torch.no_grad():
            facts = examine(outline.graph, name, layer, outputs, key, outline.seed)
        check_still(name, facts.moves, self._shared[name], key)
        self._facts[name] = facts
        return facts

    def check_losses(self, targets: Tensor) -> None:
        self.targets = represented(targets.to(self.device), self.outline.absence.ignored)
        for node, spec in self.outline.losses.items():
            if spec.layer in self._layers:
                with torch.no_grad():
                    check_loss(node, spec, self._facts[spec.layer].output, self.targets)

    def make_plans(self) -> None:
        place = self.outline.locality
        if place.pairing == "reversible":
            self._check(partial(reversible_problems, self.outline.graph))
        if place.exact:
            self._check(exact_problems)
        fitter = Fitter()
        self.plans = {
            name: self.outline.node_spec(name, layer, self._facts[name], fitter)
            for name, layer in self._layers.items()
        }

    def _check(self, problems_of: Callable[[str, Layer, Facts, str], list[Problem]]) -> None:
        """Raises NetworkError with what is found of all layers."""
        problems = [
            problem
            for name, layer in self._layers.items()
            for problem in problems_of(name, layer, self._facts[name], self._keys[name])
        ]
        if problems:
            raise NetworkError(*problems)


@dataclass(frozen=True)
class Program:
    """A network ready to run in this process.  targets: those of the first batch."""

    outline: Outline
    nodes: Mapping[str, NodeSpec]
    targets: Tensor

    @property
    def graph(self) -> Graph:
        return self.outline.graph

    @property
    def locality(self) -> Locality:
        return self.outline.locality

    @property
    def learning(self) -> Learning:
        return self.outline.learning

    @property
    def drain(self) -> int:
        return self.outline.drain

    @property
    def entrance(self) -> Entrance:
        """What targets are looked at for."""
        return self.outline.entrance({name: plan.facts.says.shape for name, plan in self.nodes.items()})


def build(outline: Outline, specs: Sequence[LayerSpec], first: tuple[Tensor, Tensor | None]) -> Program:
    """All layers in this process, checked as far as they can be before the first tick.

    first: inputs [B, …] and targets [B, …] as the stream will give them, on the device to run on.
    Raises NetworkError for whatever cannot run.
    """
    builder = LocalBuilder(outline, specs, first[0].device)
    examine_all(outline, builder, first)
    assert builder.targets is not None
    return Program(outline, builder.plans, builder.targets)


def program(
    network: Network,
    locality: Locality,
    learning: Learning,
    first: tuple[Tensor, Tensor | None],
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    execution: Execution = PLAIN,
) -> Program:
    """`build` of a network, with the outline it gives."""
    outline = outline_of(network, locality, learning, seed, dtype, execution)
    return build(outline, network.layers, first)
