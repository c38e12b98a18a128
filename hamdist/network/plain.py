"""The plain PyTorch model behind a network: the same layers under the same names, in one ordinary forward pass."""

from collections import OrderedDict

import torch
from torch import nn

from hamdist.errors import NetworkError
from hamdist.network.graph import SOURCE, chain
from hamdist.network.network import Network
from hamdist.network.plain_graph import PlainGraph
from hamdist.network.sequence import PlainSequence
from hamdist.physics.statespace.layer import remembers


def plain_model(network: Network, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model that an exported state_dict loads into: an nn.Sequential for a chain, a PlainGraph for other graphs; of
    layers with a memory a PlainSequence, which takes sequences [B, T, …].

    Its output is that of the layer of the first loss. Relaxing layers stand at their equilibrium φ(a). Raises
    NetworkError for a network with feedback, which one pass cannot compute.
    """
    if not isinstance(network, Network):
        message = (
            "plain_model takes a Network, not a {}: Network.of makes one, and a Learner has its plain_model()"
        )
        raise NetworkError(message.format(type(network).__name__))
    graph = network.graph
    if graph.has_feedback:
        loops = ", ".join(edge.name for edge in graph.edges if edge.feedback)
        raise NetworkError(
            f"a network with feedback ({loops}) has no plain model: its output depends on the past"
        )
    modules = {spec.name: spec.make(seed, dtype, torch.device("cpu")).pure.module for spec in network.layers}
    if any(remembers(module) for module in modules.values()):
        return PlainSequence(network, modules)
    between = [e for e in graph.edges if e.source != SOURCE and e.target in modules]
    plain = PlainGraph(network, modules)
    chained = {e.name for e in between} == {e.name for e in chain(network.names)}
    return nn.Sequential(OrderedDict(modules)) if chained and plain.says == network.names[-1] else plain
