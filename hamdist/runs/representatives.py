"""Layers of which one stands for all that are described alike and hear alike: to find mistakes, not to run."""

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from hamdist.config.network_schema import LayerConfig
from hamdist.engine.build import LayerBuilder, LocalBuilder
from hamdist.engine.spec import Outline
from hamdist.network.graph import SOURCE, Edge
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.survey import Facts, Heard, Like, like


class Representatives(LayerBuilder):
    """Makes a layer when it is the first of its kind to be examined; the others are taken to be as it is.

    kinds: how each layer is described, by name. Raises NetworkError as LocalBuilder.
    """

    def __init__(
        self,
        outline: Outline,
        specs: Sequence[LayerSpec],
        kinds: Mapping[str, Hashable],
        device: torch.device,
    ) -> None:
        self._outline, self._device, self._kinds = outline, device, kinds
        self._specs = {spec.name: spec for spec in specs}
        self._bearers = {loss.layer for loss in outline.losses.values()}
        self._made: dict[Hashable, tuple[LocalBuilder, Facts]] = {}

    def examine(self, name: str, heard: Mapping[str, Heard]) -> Facts:
        kind = self._kind(name, heard)
        if kind not in self._made:
            builder = LocalBuilder(self._outline, [self._specs[name]], self._device)
            self._made[kind] = builder, builder.examine(name, heard)
        return self._made[kind][1]

    def check_losses(self, targets: Tensor) -> None:
        for builder, _ in self._made.values():
            builder.check_losses(targets)

    def make_plans(self) -> None:
        for builder, _ in self._made.values():
            builder.make_plans()

    def _kind(self, name: str, heard: Mapping[str, Heard]) -> Hashable:
        """All that what is found of a layer can depend on, but for its weights."""
        graph = self._outline.graph
        hears = tuple(_heard_along(edge, heard) for edge in graph.into(name))
        bears = name if name in self._bearers else ""
        return self._kinds[name], hears, len(graph.out_of(name)), bears


def kinds_of(layers: Sequence[LayerConfig]) -> dict[str, Hashable]:
    """How each layer is described, but for its name."""
    return {
        name: kind
        for layer in layers
        for kind in [layer.model_dump_json(exclude={"name", "repeat"})]
        for name in layer.names
    }


def _heard_along(edge: Edge, heard: Mapping[str, Heard]) -> tuple[bool, tuple[int, ...] | None, Like | None]:
    """Whether from the source; of feedback the shape, of anything else what it looks like."""
    if edge.feedback:
        return False, edge.shape, None
    signal = heard[edge.source]
    return edge.source == SOURCE, None, like(signal) if isinstance(signal, Tensor) else signal
