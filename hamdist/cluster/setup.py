"""From actors that have made their layers to actors that can run: shapes and facts, who hosts what, links.

Every actor examines its own layers, upstream first; what travels for that are the first batch, and facts.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import torch
from torch import Tensor

from hamdist.cluster.handle import Handle, results
from hamdist.cluster.layout import Layout
from hamdist.cluster.worker import Worker
from hamdist.cluster.worker_group import AnyStream, Peer, WorkerGroup
from hamdist.engine.build import LayerBuilder
from hamdist.engine.message import Form
from hamdist.engine.spec import Outline
from hamdist.network.survey import Facts, Heard
from hamdist.transport.base import Wiring

MakeWiring = Callable[[], Wiring]


class RemoteBuilder(LayerBuilder):
    """Layers that the workers of a group have made.  hosts: node → number of its worker.  seconds: for an answer.

    heard: what each layer was examined with, for others that take over.
    """

    def __init__(
        self, group: WorkerGroup[AnyStream], outline: Outline, hosts: Mapping[str, int], seconds: float
    ):
        self._workers, self._outline, self._hosts, self._seconds = group.workers, outline, hosts, seconds
        self.heard: dict[str, Mapping[str, Heard]] = {}

    def examine(self, name: str, heard: Mapping[str, Heard]) -> Facts:
        self.heard[name] = heard
        (facts,) = results(
            [self._workers[self._hosts[name]].call(Worker.examine, name, heard)], self._seconds
        )
        return facts

    def check_losses(self, targets: Tensor) -> None:
        hosting = sorted({self._hosts[node] for node in self._outline.losses})
        results([self._workers[actor].call(Worker.check_losses, targets) for actor in hosting], self._seconds)

    def make_plans(self) -> None:
        results([worker.call(Worker.make_plans) for worker in self._workers], self._seconds)


def taken_over(
    worker: Handle[Worker], layers: Sequence[str], heard: Mapping[str, Mapping[str, Heard]], targets: Tensor
) -> list[Future[Any]]:
    """The calls that ready a worker which has made the layers of a lost one.  heard: by layer, as it was examined."""
    examined = [worker.call(Worker.examine, name, heard[name]) for name in layers]
    return [*examined, worker.call(Worker.check_losses, targets), worker.call(Worker.make_plans)]


def layout_of(
    outline: Outline,
    hosts: Mapping[str, int],
    names: Sequence[str],
    devices: Sequence[torch.device],
    facts: Mapping[str, Facts],
    first_batch: tuple[Tensor, Tensor],
    prompt: bool = False,
) -> Layout:
    """names, devices: of every actor, the stream's last.  prompt: as of a layout."""
    inputs, targets = first_batch
    outputs = {name: Form(found.says.shape, found.says.dtype) for name, found in facts.items()}
    return Layout(
        outline, hosts, tuple(names), tuple(devices), outputs, _form(inputs), _form(targets), prompt
    )


def wire(
    group: WorkerGroup[AnyStream], layout: Layout, wirings: Sequence[MakeWiring], seconds: float
) -> dict[int, str]:
    """Joins everyone; wirings: what makes each one's. Returns the addresses at which they listen, by edge."""
    calls = [peer.call(Peer.listen, layout, make) for peer, make in zip(group.everyone, wirings, strict=True)]
    addresses: dict[int, str] = {}
    for found in results(calls, seconds):
        addresses |= found
    results([peer.call(Peer.connect, addresses) for peer in group.everyone], seconds)
    return addresses


def _form(tensor: Tensor) -> Form:
    return Form(tuple(tensor.shape), tensor.dtype)
