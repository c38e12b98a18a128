"""One layer as it was when somebody looked."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hamdist.physics.step import Carry


@dataclass(frozen=True)
class LayerView:
    """Copies of a layer's weights and costates by name, of its state by component; of the mean of its weights where
    one is kept."""

    name: str
    weights: dict[str, Tensor]
    weight_costate: dict[str, Tensor]
    state: tuple[Tensor, ...]
    state_costate: tuple[Tensor, ...]
    average: dict[str, Tensor]

    @classmethod
    def of(cls, name: str, carry: Carry) -> "LayerView":
        parts = (
            carry.parameters,
            carry.weight_costate,
            carry.state,
            carry.state_costate,
            carry.mean.tensors,
        )
        return cls(name, *tree_map(torch.clone, parts))

    def cpu(self) -> "LayerView":
        """The same in host memory."""
        parts = (self.weights, self.weight_costate, self.state, self.state_costate, self.average)
        return LayerView(self.name, *tree_map(Tensor.cpu, parts))
