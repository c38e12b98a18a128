"""The layers and losses that one actor hosts: made, examined, and asked of between ticks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.engine.build import LocalBuilder
from hamdist.engine.device import local_device
from hamdist.engine.extent import Extent, extents
from hamdist.engine.free_run import FreeLayer
from hamdist.engine.kept import Kept, check_kept, kept_of
from hamdist.engine.layer_view import LayerView
from hamdist.engine.loading import extra_states_of, forms_of, load_weights, take_extra_states
from hamdist.engine.partition import Partition
from hamdist.engine.spec import Outline
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.survey import Facts, Heard


@dataclass(frozen=True)
class WorkerSpec:
    """One actor's part of a run. It builds `layers` and knows of the others only what `outline` says.

    actor: its number.  name: what errors call it.  device: as in placement.device.  threads: within one operation.
    metrics_every: samples between two windows of metrics.  profile: whether to record where its time goes.
    labels: of the classes, where predictions are wanted; None where they are not.
    """

    actor: int
    name: str
    outline: Outline
    layers: tuple[LayerSpec, ...]
    device: str = "cpu"
    threads: int = 1
    metrics_every: int = 1000
    profile: bool = False
    labels: tuple[Any, ...] | None = None


class HostedLayers:
    """Before the first tick, between ticks, and after the last.  partition: they at work, once they have joined the
    others.

    Raises NetworkError for layers that cannot be made, ConfigError for a device that is not there.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.partition: Partition | None = None
        self._builder = LocalBuilder(spec.outline, spec.layers, local_device(spec.device))
        self._free: dict[str, FreeLayer] = {}

    # Before the first tick

    @property
    def device(self) -> torch.device:
        return self._builder.device

    def examine(self, name: str, heard: Mapping[str, Heard]) -> Facts:
        """As a LayerBuilder's."""
        return self._builder.examine(name, heard)

    def check_losses(self, targets: Tensor) -> None:
        """As a LayerBuilder's."""
        self._builder.check_losses(targets)

    def make_plans(self) -> None:
        """As a LayerBuilder's."""
        self._builder.make_plans()

    @property
    def _ready(self) -> Partition:
        assert self.partition is not None, "connect comes first"
        return self.partition

    # Between ticks, and after the last

    def extents(self) -> list[Extent]:
        """How far off each of its layers is."""
        return extents(self._ready.nodes)

    def tensors(self, name: str) -> dict[str, Any]:
        """The state_dict of one of its layers, on the CPU."""
        found = self._ready.nodes[name].tensors()
        return {key: value.cpu() if isinstance(value, Tensor) else value for key, value in found.items()}

    def load_weights(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Its layers take up the state_dicts of these, of which it may host some."""
        load_weights(self._ready.nodes, state)

    def forms(self) -> dict[str, dict[str, str]]:
        """Of its layers' weights and buffers."""
        return forms_of(self._ready.nodes)

    def extra_states(self) -> dict[str, dict[str, Any]]:
        """What its layers' modules keep beside tensors."""
        return extra_states_of(self._ready.nodes)

    def take_extra_states(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """Its layers' modules take up these."""
        take_extra_states(self._ready.nodes, states)

    def kept(self, name: str) -> Kept:
        """What a run keeps of one of its layers."""
        return kept_of(self._ready.nodes[name])

    def check_kept(self) -> None:
        """Raises NetworkError naming a layer that a run could not keep."""
        for plan in self._builder.plans.values():
            check_kept(plan)

    def view(self, name: str) -> LayerView:
        """One of its layers as it is now, on the CPU."""
        return LayerView.of(name, self._ready.nodes[name].carry).cpu()

    def execution(self) -> dict[str, Any]:
        """How its ticks run, and which layers are not traced or not stacked, and why."""
        return self._ready.execution

    def seen_once(self, samples: int) -> bool:
        """Whether each of so many samples drove each of its layers exactly once."""
        return all(node.ledger.seen_once(samples) for node in self._ready.nodes.values())

    def remembers(self) -> bool:
        """Whether one of its layers has a memory."""
        return any(node.spec.layer.remembers for node in self._ready.nodes.values())

    def prequential(self, node: str) -> dict[str, float]:
        """The means of a loss since the start."""
        return self._ready.losses[node].prequential.total()

    def holdout(self, node: str) -> dict[str, float]:
        """The means of a loss over the hold-out samples that came since the last time."""
        return self._ready.losses[node].holdout.window()

    # The network on its own

    def begin_free_run(self) -> None:
        """Its layers, with the weights that they have now, begin anew, apart from those that learn."""
        self._free = {name: FreeLayer.of(node) for name, node in self._ready.nodes.items()}

    def free_step(self, name: str, inputs: tuple[Tensor, ...], restarts: Tensor | None = None) -> Tensor:
        """What one of these layers says; its state moves on."""
        flags = None if restarts is None else restarts.to(self.device)
        return self._free[name](tuple(aligned(x.to(self.device)) for x in inputs), flags).cpu()

    def end_free_run(self) -> None:
        """They are dropped."""
        self._free = {}
