"""A network's layers as one ordinary module: a forward pass along its edges, all at once."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor, nn

from hamdist.network.given_layers import specs_of
from hamdist.network.graph import SOURCE, Edge, Graph, sorted_nodes
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.network import Network
from hamdist.physics.pure_module import joined


class PlainLayers(nn.Module):
    """Layers by name, each fed by its in-edges; what it says is what the layer of the first loss does."""

    def __init__(self, network: Network, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.graph = network.graph
        self.joins = {spec.name: spec.join for spec in network.layers}
        self.says = next(iter(network.losses.values())).layer

    def _passed(self, x: Tensor, call: Callable[[str, tuple[Tensor, ...]], Tensor]) -> Tensor:
        """What it says, where every layer says what `call` gives for its name and arguments."""

        def called(name: str, inputs: tuple[Tensor, ...]) -> Tensor:
            return call(name, joined(inputs, self.joins[name]))

        return forward_pass(self.graph, called, x)[self.says]

    def specs(self) -> tuple[LayerSpec, ...]:
        """Its layers, as a Learner takes them, which copies them."""
        specs = specs_of({name: self.get_submodule(name) for name in self.graph.layers})
        return tuple(replace(spec, join=self.joins[spec.name]) for spec in specs)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Those into its layers."""
        return tuple(edge for edge in self.graph.edges if edge.target in self.graph.layers)


class PlainGraph(PlainLayers):
    """Of inputs [B, …] the outputs [B, …]."""

    def forward(self, x: Tensor) -> Tensor:
        return self._passed(x, lambda name, arguments: self.get_submodule(name)(*arguments))


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
