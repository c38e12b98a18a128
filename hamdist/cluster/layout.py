"""Which edges lead from one actor to another, and what each end must know of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from hamdist.engine.message import Form
from hamdist.engine.spec import Outline
from hamdist.network.entrance import Entrance
from hamdist.network.graph import SOURCE, Edge
from hamdist.transport.base import Endpoint

AHEAD_TICKS = 16  # of the stream
AHEAD_BYTES = 64 * 2**20
MESSAGE_CHUNKS = 8  # of the stream, where they are small
MESSAGE_BYTES = 2**20


@dataclass(frozen=True)
class Layout:
    """Who hosts what, and what travels.

    hosts: node → number of its actor; a loss lives with its layer, the source with the stream, which is the last one.
    names: what errors call each actor.  outputs: the form of every node's output, [B, …].  inputs, targets: of the
    source's, [B, …].  devices: of each actor.  prompt: whether the stream sends every tick at once, since nobody knows
    when the next comes.
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
    def entrance(self) -> Entrance:
        """What targets are looked at for."""
        return self.outline.entrance({name: form.shape for name, form in self.outputs.items()})

    @property
    def ahead(self) -> int:
        """How many ticks the stream may run ahead of those that read it, beyond the delay."""
        least = 3 * self.stream_ticks if self.stream_ticks > self.chunk else 2 * self.chunk
        return max(least, min(AHEAD_TICKS, AHEAD_BYTES // self.tick_bytes))

    @property
    def stream_ticks(self) -> int:
        """How many ticks of the stream go in one message, and are acknowledged in one."""
        if self.chunk == 1:
            return 1
        least = 2 if self.prompt else 1
        return self.chunk * max(least, min(MESSAGE_CHUNKS, MESSAGE_BYTES // (self.tick_bytes * self.chunk)))

    @property
    def tick_bytes(self) -> int:
        """What the stream gives in one tick, in bytes."""
        return max(1, sum(form.size for form in (self.inputs, self.targets)))

    @cached_property
    def chunk(self) -> int:
        """Ticks that run, and cross between actors, in one go: no more than the delay of any edge that leads across."""
        delays = [edge.ticks for _, edge in self.crossing() if edge.source != SOURCE]
        return max(1, min([self.outline.execution.chunk, *delays]))

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

    def endpoints(self, actor: int) -> list[Endpoint]:
        """Those of one actor, in edge order."""
        return [
            self._endpoint(index, edge, actor == self.hosts[edge.source])
            for index, edge in self.crossing()
            if actor in (self.hosts[edge.source], self.hosts[edge.target])
        ]

    def _tensors(self, edge: Edge, forward: bool) -> tuple[Form, ...]:
        """What a tick carries, forward or back."""
        return (self.signal(edge),) if forward else self.costate(edge)

    def _endpoint(self, index: int, edge: Edge, forward: bool) -> Endpoint:
        from_stream = edge.source == SOURCE
        ticks = self.stream_ticks if from_stream else self.chunk
        capacity = 2 * edge.ticks + 1 + (self.ahead if from_stream else 0)
        here, there = self.hosts[edge.source], self.hosts[edge.target]
        here, there = (here, there) if forward else (there, here)
        return Endpoint(
            edge=index,
            name=edge.name,
            forward=forward,
            peer=there,
            peer_name=self.names[there],
            capacity=capacity if ticks == 1 or ticks > self.chunk else capacity // self.chunk + 2,
            rows=self.rows,
            sends=self._tensors(edge, forward),
            receives=self._tensors(edge, not forward),
            ticks=ticks,
            gathers=not (forward and ticks > self.chunk),
            device=self.devices[here],
        )


def hosts_of(outline: Outline, actors: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    """Node → number of its actor; the stream's is the one after the last."""
    hosts = {name: number for number, names in enumerate(actors) for name in names}
    losses = {node: hosts[spec.layer] for node, spec in outline.losses.items()}
    return {**hosts, **losses, SOURCE: len(actors)}
