"""Which edges lead from one actor to another, and what each end must know of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from hamdist.engine.message import Form
from hamdist.engine.spec import Outline
from hamdist.network.graph import SOURCE, Edge
from hamdist.transport.base import End, Link
from hamdist.transport.bundled import Bundled, bundled_forms

WINDOW_TICKS = 16
WINDOW_BYTES = 64 * 2**20
CHUNKS_TOLD = 8  # by the stream in one message, where they are small
TOLD_BYTES = 2**20


@dataclass(frozen=True)
class Layout:
    """Who hosts what, and what travels.

    hosts: node → number of its actor; a loss lives with its layer, the source with the stream, which is the last one.
    names: what errors call each actor.  outputs: the form of what every node says.  inputs, targets: of the source.
    devices: of each actor.  prompt: whether the stream says every tick at once, since nobody knows when the next comes.
    """

    outline: Outline
    hosts: Mapping[str, int]
    names: tuple[str, ...]
    devices: tuple[torch.device, ...]
    outputs: Mapping[str, Form]
    inputs: Form
    targets: Form
    prompt: bool = False

    @property
    def stream(self) -> int:
        """The number of the stream's actor."""
        return self.hosts[SOURCE]

    @property
    def window(self) -> int:
        """How many ticks the stream may run ahead of those that hear it, beyond the delay."""
        least = 3 * self.stream_ticks if self.stream_ticks > self.chunk else 2 * self.chunk
        return max(least, min(WINDOW_TICKS, WINDOW_BYTES // self.tick_bytes))

    @property
    def stream_ticks(self) -> int:
        """How many ticks the stream may say in one message, and hears of that they were heard."""
        if self.chunk == 1:
            return 1
        return self.chunk * max(
            2 if self.prompt else 1, min(CHUNKS_TOLD, TOLD_BYTES // (self.tick_bytes * self.chunk))
        )

    @property
    def tick_bytes(self) -> int:
        """What the stream says in one tick, in bytes."""
        return max(1, sum(form.size for form in (self.inputs, self.targets)))

    @cached_property
    def chunk(self) -> int:
        """Ticks that run, and cross between actors, in one go: no more than the delay of any edge that leads across."""
        delays = [edge.ticks for _, edge in self.crossing() if edge.source != SOURCE]
        return max(1, min([self.outline.execution.chunk, *delays]))

    def bundled(self, actor: int, links: Mapping[int, Link]) -> dict[int, Link]:
        """The links of an actor, by edge, as its ways use them."""
        if self.chunk == 1:
            return dict(links)
        edges = dict(self.crossing())
        bundled: dict[int, Link] = {}
        for index, link in links.items():
            edge, forward = edges[index], actor == self.hosts[edges[index].source]
            bundled[index] = Bundled(
                link, self._gathers(edge, forward), self._sends(edge, forward), self.rows
            )
        return bundled

    @property
    def rows(self) -> int:
        """Of a batch."""
        return self.inputs.shape[0]

    def signal(self, edge: Edge) -> Form:
        """What the edge carries forward."""
        if edge.source != SOURCE:
            return self.outputs[edge.source]
        return self.targets if edge.target in self.outline.losses else self.inputs

    def costate(self, edge: Edge) -> tuple[Form, ...]:
        """What it carries back: ∂H/∂a, of a window of time where costates go through one, and, under `reversible`, the
        input used; nothing to the source."""
        if edge.source == SOURCE:
            return ()
        form, horizon = self.signal(edge), self.outline.locality.horizon
        if horizon is not None:
            return (Form((horizon.ticks, *form.shape), form.dtype),)
        return (form,) * (2 if self.outline.locality.pairing == "reversible" else 1)

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

    def _sends(self, edge: Edge, forward: bool) -> tuple[Form, ...]:
        """What a frame carries, forward or back."""
        return (self.signal(edge),) if forward else self.costate(edge)

    def _gathers(self, edge: Edge, forward: bool) -> int:
        """How many frames make a message; 1: as many as are sent together, up to `stream_ticks`."""
        if edge.source != SOURCE or self.stream_ticks == self.chunk:
            return self.chunk
        return 1 if forward else self.stream_ticks

    def _end(self, index: int, edge: Edge, forward: bool) -> End:
        sends, receives, partial = self._sends(edge, forward), self._sends(edge, not forward), False
        capacity = 2 * edge.ticks + 1 + (self.window if edge.source == SOURCE else 0)
        if self.chunk > 1:
            partial = edge.source == SOURCE and self.stream_ticks > self.chunk
            most = self.stream_ticks if partial else self.chunk
            sends, receives = (bundled_forms(forms, most, self.rows) for forms in (sends, receives))
            capacity = capacity if partial else capacity // self.chunk + 2
        here, there = self.hosts[edge.source], self.hosts[edge.target]
        here, there = (here, there) if forward else (there, here)
        return End(
            edge=index,
            name=edge.name,
            forward=forward,
            peer=there,
            peer_name=self.names[there],
            capacity=capacity,
            sends=sends,
            receives=receives,
            partial=partial,
            device=self.devices[here],
        )


def hosts_of(outline: Outline, actors: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    """Node → number of its actor; the stream's is the one after the last."""
    hosts = {name: number for number, names in enumerate(actors) for name in names}
    losses = {node: hosts[spec.layer] for node, spec in outline.losses.items()}
    return {**hosts, **losses, SOURCE: len(actors)}
