"""Layers at work that take up other weights, and what beside them a training state has of their modules."""

from collections.abc import Mapping
from typing import Any

from hamdist.engine.layer_node import LayerNode
from hamdist.network.wording import describe
from hamdist.physics.averaging import begun_anew

Nodes = Mapping[str, LayerNode]


def load_weights(nodes: Nodes, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Each the state_dict of its layer, where a mean of the weights begins anew; all else of them stays, costates and
    moments, too.

    Raises what a module's own code raises in loading it; no layer has changed then.
    """
    carries = {}
    for name, node in nodes.items():
        carry = node.carry
        parameters, buffers = node.spec.layer.pure.loaded(
            carry.parameters, carry.buffers, state.get(name, {})
        )
        carry = carry._replace(parameters=parameters, buffers=buffers)
        carries[name] = carry._replace(mean=begun_anew(carry.mean, parameters | buffers))
    for name, carry in carries.items():
        nodes[name].carry = carry


def forms_of(nodes: Nodes) -> dict[str, dict[str, str]]:
    """ "[16, 64] float32" of every weight and buffer, by layer and name."""
    return {
        name: {key: describe(tensor) for key, tensor in (node.carry.parameters | node.carry.buffers).items()}
        for name, node in nodes.items()
    }


def extra_states_of(nodes: Nodes) -> dict[str, dict[str, Any]]:
    """What modules keep beside tensors, by layer and part, of layers that keep something."""
    found = {
        name: node.spec.layer.pure.extra_states(node.carry.parameters, node.carry.buffers)
        for name, node in nodes.items()
    }
    return {name: states for name, states in found.items() if states}


def take_extra_states(nodes: Nodes, states: Mapping[str, Mapping[str, Any]]) -> None:
    """states: as `extra_states_of` has them, also of other layers."""
    for name, node in nodes.items():
        node.spec.layer.pure.take_extra_states(states.get(name, {}))
