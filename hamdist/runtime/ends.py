"""Which edges lead from one actor to another, and what each end must know of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from hamdist.network.graph import SOURCE, Edge
from hamdist.runtime.links.contract import End, Form
from hamdist.runtime.outline import Outline

WINDOW_TICKS = 16
WINDOW_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Layout:
    """Who hosts what, and what travels.

    hosts: node → number of its actor; a loss lives with its layer, the source with the stream, which is the last one.
    names: what errors call each actor.  outputs: the form of what every node says.  inputs, targets: of the source.
    devices: of each actor.
    """

    outline: Outline
    hosts: Mapping[str, int]
    names: tuple[str, ...]
    devices: tuple[torch.device, ...]
    outputs: Mapping[str, Form]
    inputs: Form
    targets: Form

    @property
    def stream(self) -> int:
        """The number of the stream's actor."""
        return self.hosts[SOURCE]

    @property
    def window(self) -> int:
        """How many ticks the stream may run ahead of those that hear it, beyond the delay."""
        size = sum(form.size for form in (self.inputs, self.targets))
        return max(1, min(WINDOW_TICKS, WINDOW_BYTES // max(size, 1)))

    def signal(self, edge: Edge) -> Form:
        """What the edge carries forward."""
        if edge.source != SOURCE:
            return self.outputs[edge.source]
        return self.targets if edge.target in self.outline.losses else self.inputs

    def costate(self, edge: Edge) -> tuple[Form, ...]:
        """What it carries back: ∂H/∂a and, under `reversible`, the input used; nothing to the source."""
        if edge.source == SOURCE:
            return ()
        places = 2 if self.outline.locality.pairing == "reversible" else 1
        return (self.signal(edge),) * places

    def crossing(self) -> Iterator[tuple[int, Edge]]:
        """The edges between different actors, with their index in the graph."""
        for index, edge in enumerate(self.outline.graph.edges):
            if self.hosts[edge.source] != self.hosts[edge.target]:
                yield index, edge

    def ends(self, actor: int) -> list[End]:
        """The ends of one actor, in edge order."""
        return [
            self._end(index, edge, actor == self.hosts[edge.source])
            for index, edge in self.crossing()
            if actor in (self.hosts[edge.source], self.hosts[edge.target])
        ]

    def _end(self, index: int, edge: Edge, forward: bool) -> End:
        signal, costate = (self.signal(edge),), self.costate(edge)
        here, there = self.hosts[edge.source], self.hosts[edge.target]
        here, there = (here, there) if forward else (there, here)
        return End(
            edge=index,
            name=edge.name,
            forward=forward,
            peer=there,
            peer_name=self.names[there],
            capacity=2 * edge.ticks + 1 + (self.window if edge.source == SOURCE else 0),
            sends=signal if forward else costate,
            receives=costate if forward else signal,
            device=self.devices[here],
        )


def hosts_of(outline: Outline, actors: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    """Node → number of its actor; the stream's is the one after the last."""
    hosts = {name: number for number, names in enumerate(actors) for name in names}
    losses = {node: hosts[spec.layer] for node, spec in outline.losses.items()}
    return {**hosts, **losses, SOURCE: len(actors)}
