"""Layers at work that take up other weights."""

from collections.abc import Mapping
from typing import Any

from hamdist.engine.layer_node import LayerNode


def load_weights(nodes: Mapping[str, LayerNode], state: Mapping[str, Mapping[str, Any]]) -> None:
    """Each the state_dict of its layer; all else of them stays, costates and moments, too.

    Raises what a module's own code raises in loading it; no layer has changed then.
    """
    carries = {}
    for name, node in nodes.items():
        carry = node.carry
        parameters, buffers = node.spec.layer.pure.loaded(
            carry.parameters, carry.buffers, state.get(name, {})
        )
        carries[name] = carry._replace(parameters=parameters, buffers=buffers)
    for name, carry in carries.items():
        nodes[name].carry = carry
