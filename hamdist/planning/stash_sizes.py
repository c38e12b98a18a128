"""How much memory a layer's stash takes, in either of its forms, found by one evaluation on the first batch."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.engine.node_spec import NodeSpec
from hamdist.physics.hamiltonian import Wanted
from hamdist.physics.layers import Point
from hamdist.physics.memory import Stash, StashName, pairing_of
from hamdist.physics.step import Carry, Motion, initial_carry, valued


class StashSizes(NamedTuple):
    """Bytes kept beyond the present tick: as inputs, and as graphs, the weights of those ticks included."""

    inputs: int = 0
    graph: int = 0

    def of(self, stash: StashName) -> int:
        """Those of one form."""
        return self.graph if stash == "graph" else self.inputs


def stash_sizes(node: NodeSpec) -> StashSizes:
    """Zeros for a layer whose pairing stashes nothing. Each layer by itself: what two of them share counts twice."""
    if not isinstance(pairing_of(node.pairing, node.layer, node.depth), Stash):
        return StashSizes()
    carry = initial_carry(node.layer, node.facts.inputs, node.dynamics)
    point = Point(node.facts.inputs, carry.state, node.facts.context())
    inputs = _size(point.inputs) + _size(point.state)
    graph = inputs + _saved(node, carry, point) + _size(carry.parameters.values())
    return StashSizes(node.depth * inputs, node.depth * graph)


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _saved(node: NodeSpec, carry: Carry, point: Point) -> int:
    """The memory that an evaluation's pullback keeps beside the point, weights and buffers."""
    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        motion = Motion(node.layer, node.dynamics, Wanted(True, node.facts.wanted))
        values, _ = valued(motion, carry, point)
    others = (*point.inputs, *point.state, *carry.parameters.values(), *carry.buffers.values())
    known = {tensor.untyped_storage().data_ptr() for tensor in others}
    storages = (tensor.untyped_storage() for tensor in (*saved, values.output, *values.drift))
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    return sum(size for address, size in sizes.items() if address not in known)
