"""A network: layers by name, how they are joined, and the losses on them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hamdist.errors import NetworkError
from hamdist.naming import layer_name_problem
from hamdist.network.edges import EdgeLike, edges_of
from hamdist.network.given_layers import Layers, specs_of
from hamdist.network.graph import LOSS, SOURCE, Edge, Graph, chain, connect
from hamdist.network.layer_spec import LayerSpec, residual_blocks
from hamdist.network.losses import Losses, LossSpec, losses_of
from hamdist.network.names import Names, repeated
from hamdist.network.wording import all_of
from hamdist.physics.layers import Relaxing


@dataclass(frozen=True)
class Network:
    """Layers in the order listed, losses by node name, and the edges between layers (the chain if None).

    losses: LossSpecs, or what `losses_of` takes.  edges: Edges, or what `edge_of` takes.  tau: the step of time in
    which its plain model moves memories on; a Learner, and a run, move them by their own τ, and say it here.
    """

    layers: tuple[LayerSpec, ...]
    losses: Mapping[str, LossSpec]
    edges: tuple[Edge, ...] | None = None
    tau: float = 1.0
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", _layer_specs(self.layers))
        names = Names(layer.name for layer in self.layers)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "edges", edges_of(self.edges, names))
        object.__setattr__(self, "losses", losses_of(self.losses, names, self.edges))
        problems = [
            *(
                f"layer {name!r} is listed twice: give every layer a name of its own"
                for name in repeated(names)
            ),
            *(f"a layer cannot be called {name!r}" for name in names if name in {SOURCE, LOSS, *self.losses}),
            *(problem for name in names if (problem := layer_name_problem(name))),
            *(
                f"layer {spec.layer!r} bears a loss but does not exist; the layers are {all_of(names)}"
                for spec in self.losses.values()
                if spec.layer not in names
            ),
        ]
        if problems:
            raise NetworkError(*problems)

    @property
    def graph(self) -> Graph:
        """The graph, delays still open."""
        edges = chain(self.names) if self.edges is None else self.edges
        latencies = {spec.name: Relaxing.latency for spec in self.layers if spec.relaxing is not None}
        return connect(self.names, {node: spec.layer for node, spec in self.losses.items()}, edges, latencies)

    @property
    def relaxing(self) -> dict[str, float]:
        """The time constants of the relaxing layers."""
        return {spec.name: spec.relaxing for spec in self.layers if spec.relaxing is not None}

    @classmethod
    def of(cls, layers: Layers, loss: Losses, edges: Iterable[EdgeLike] | None = None) -> "Network":
        """A network from modules, from functions that build them, or from an nn.Sequential.

        A module keeps its weights and is copied; a builder draws them from the run's seed. Names are those of the
        Sequential or mapping, else the indices. One loss is on the last layer; several go by the layers that bear
        them, or by names of their own, each with an edge to it, as `losses_of` says.

            Network.of({"a": …, "b": …}, {"b": "cross_entropy", "a": {"type": "mse", "weight": 0.3}}, ["a->b"])
            Network.of({"a": …, "b": …}, {"classes": "cross_entropy"}, ["a->b", "b->classes"])
        """
        return cls(specs_of(layers), loss, edges)  # type: ignore[arg-type]  # which it parses


def _layer_specs(layers: Any) -> tuple[LayerSpec, ...]:
    """Raises NetworkError for what is not made of LayerSpecs, and where there are none."""
    specs = tuple(layers) if isinstance(layers, list | tuple) else ()
    if not isinstance(layers, list | tuple) or not all(isinstance(spec, LayerSpec) for spec in specs):
        raise NetworkError("a Network is made of LayerSpecs; Network.of makes one of modules")
    if not specs:
        raise NetworkError("a network needs at least one layer")
    blocks = residual_blocks(specs)
    return tuple(replace(spec, blocks=blocks) for spec in specs)
