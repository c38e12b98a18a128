"""A cut by node, so that any placement can read it: a node's state, and what it said that is still under way."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hamdist.engine.state import LossState, NodeState, PartitionState, Said
from hamdist.network.graph import Edge


class NodePart(NamedTuple):
    """state: of a layer or of a loss.  signals: by edge that leaves it, what it said in the last d ticks.  costates: by
    edge into it, what it returned in them.
    """

    state: NodeState | LossState
    signals: Said
    costates: Said


def parts_of(state: PartitionState, edges: Iterable[Edge]) -> dict[str, NodePart]:
    """By node, layers and losses.  edges: those of the network that touch them, others beside."""
    parts = {node: NodePart(own, {}, {}) for node, own in (state.nodes | state.losses).items()}
    for edge in edges:
        if edge.source in parts and edge.name in state.signals:
            parts[edge.source].signals[edge.name] = state.signals[edge.name]
        if edge.target in parts and edge.name in state.costates:
            parts[edge.target].costates[edge.name] = state.costates[edge.name]
    return parts


def joined_parts(tick: int, parts: Mapping[str, NodePart]) -> PartitionState:
    """What they are parts of, or some of these."""
    found = parts.values()
    return PartitionState(
        tick,
        nodes={node: part.state for node, part in parts.items() if isinstance(part.state, NodeState)},
        losses={node: part.state for node, part in parts.items() if isinstance(part.state, LossState)},
        signals={edge: said for part in found for edge, said in part.signals.items()},
        costates={edge: said for part in found for edge, said in part.costates.items()},
    )
