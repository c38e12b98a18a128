"""The plain PyTorch model behind a network: the same layers under the same names, in one ordinary forward pass."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from hamdist.errors import NetworkError
from hamdist.network.graph import SOURCE, Graph, chain, sorted_nodes
from hamdist.network.network import Network
from hamdist.physics.pure_module import Join, joined


def plain_model(network: Network, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The model that an exported state_dict loads into: an nn.Sequential for a chain, a PlainGraph otherwise.

    Relaxing layers stand at their equilibrium φ(a). Raises NetworkError for a network with feedback, which one
    pass cannot compute.
    """
    graph = network.graph
    if graph.has_feedback:
        loops = ", ".join(edge.name for edge in graph.edges if edge.feedback)
        raise NetworkError(
            f"a network with feedback ({loops}) has no plain model: its output depends on the past"
        )
    modules = {spec.name: spec.make(seed, dtype, torch.device("cpu")).pure.module for spec in network.layers}
    between = [e for e in graph.edges if e.source != SOURCE and e.target in modules]
    if {e.name for e in between} == {e.name for e in chain(network.names)}:
        return nn.Sequential(OrderedDict(modules))
    return PlainGraph(graph, modules, {spec.name: spec.join for spec in network.layers})


class PlainGraph(nn.Module):
    """Layers by name, each fed by its in-edges; the output is that of the last listed layer."""

    def __init__(self, graph: Graph, modules: Mapping[str, nn.Module], joins: Mapping[str, Join]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.graph = graph
        self.joins = dict(joins)

    def forward(self, x: Tensor) -> Tensor:
        def call(name: str, inputs: tuple[Tensor, ...]) -> Tensor:
            module = self.get_submodule(name)
            return module(*joined(inputs, self.joins[name]))

        return forward_pass(self.graph, call, x)[self.graph.layers[-1]]


def forward_pass(
    graph: Graph,
    call: Callable[[str, tuple[Tensor, ...]], Tensor],
    x: Tensor,
    silence: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Every layer's output for one input, all at once; feedback edges bring their `silence`, by edge name."""
    outputs = {SOURCE: x}
    for name in sorted_nodes(graph.nodes, graph.forward, "has no start"):
        if name in graph.layers:
            outputs[name] = call(
                name,
                tuple((silence or {})[e.name] if e.feedback else outputs[e.source] for e in graph.into(name)),
            )
    return outputs
