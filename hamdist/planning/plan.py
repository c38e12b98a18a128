"""The plan of a network: a row for every layer and edge, what is worth knowing of the whole, and a picture."""

from dataclasses import dataclass
from pathlib import Path

from hamdist.network.graph import SOURCE, Edge, Graph
from hamdist.network.tick_order import described, joint, tick_order
from hamdist.network.timing import arrivals, depths
from hamdist.report.layout import Arrow, Box
from hamdist.report.picture import draw

Shape = tuple[int, ...]


@dataclass
class LayerRow:
    """One layer. Shapes are without the batch; bytes and operations are those of a whole batch.

    inputs_shape: one shape, or a tuple of one per in-edge.  arrival: A.  depth_delay: D.  stash_bytes: what the
    pairing keeps beyond the present tick.  flops: of a tick that learns.  actor: 0 in one process.
    """

    name: str
    kind: str
    parameters: int
    inputs_shape: Shape | tuple[Shape, ...]
    output_shape: Shape
    arrival: int
    depth_delay: int
    stash_bytes: int
    flops: int
    device: str
    actor: int


@dataclass
class EdgeRow:
    """One edge; signal_bytes: what it carries forward in a tick.  lag: of feedback, in ticks."""

    source: str
    target: str
    delay: int
    kind: str
    signal_bytes: int
    lag: int | None


@dataclass(frozen=True)
class Plan:
    """The rows in the order listed, what is worth knowing of the whole, a line each."""

    layers: tuple[LayerRow, ...]
    edges: tuple[EdgeRow, ...]
    notes: tuple[str, ...]
    graph: Graph

    @property
    def order(self) -> list[str]:
        """The order of a tick, a line a turn."""
        return described(tick_order(self.graph), self.graph)

    def draw(self, path: str | Path) -> None:
        """Draws the network into a file; raises MissingExtraError without matplotlib."""
        draw(boxes(self.graph), arrows(self.graph), path)


def boxes(graph: Graph) -> list[Box]:
    """A box for every node; those of one instant in one colour."""
    arrival, depth, group = arrivals(graph), depths(graph), instants(graph)
    return [
        Box(name, arrival[name], f"D {depth[name]}" if name in depth else "", group.get(name))
        for name in graph.nodes
    ]


def arrows(graph: Graph) -> list[Arrow]:
    """An arrow for every edge, with its delay."""
    return [_arrow(graph, edge) for edge in graph.edges]


def _arrow(graph: Graph, edge: Edge) -> Arrow:
    if edge.source == SOURCE and edge.target in graph.losses:
        return Arrow(edge.source, edge.target, f"target {edge.ticks}", "target")
    return Arrow(edge.source, edge.target, str(edge.ticks), "feedback" if edge.feedback else "forward")


def instants(graph: Graph) -> dict[str, int]:
    """A number for every set of two layers or more that edges of delay 0 join; other layers have none."""
    layers = set(graph.layers)
    instant = [(e.source, e.target) for e in graph.edges if e.delay == 0 and {e.source, e.target} <= layers]
    groups = [group for group in joint(graph.layers, instant) if len(group) > 1]
    return {name: number for number, group in enumerate(groups) for name in group}
