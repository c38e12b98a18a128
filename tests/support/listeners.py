"""Those who read a source, as it sees them: they take every message, and keep what came."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hamdist.cluster.layout import Layout, hosts_of
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.engine.message import INVALID, Form, Message, Token
from hamdist.engine.spec import Execution, outline_of
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.network import Network
from hamdist.physics.dynamics import Dynamics
from hamdist.transport.base import Endpoint, Link, Wiring

ROWS = 2
Tick = tuple[Token, tuple[Tensor | None, ...]]


def layout_of_chain(depth: int = 3, chunk: int = 1, **locality: Any) -> Layout:
    """Of a chain of layers l0, l1, …, one on each actor, that read rows of three numbers and say four."""
    layers = {f"l{number}": nn.Linear(4, 4) for number in range(depth)}
    network = Network.of(layers, nn.functional.cross_entropy)
    rule, execution = Learning(Dynamics()), Execution(stacked=chunk > 1, chunk=chunk)
    outline = outline_of(network, Locality(**locality), rule, 0, torch.float32, execution)
    hosts = hosts_of(outline, tuple((name,) for name in layers))
    form = Form((ROWS, 4), torch.float32)
    return Layout(
        outline,
        hosts,
        (*(f"actor {number}" for number in range(depth)), "the stream"),
        (torch.device("cpu"),) * (depth + 1),
        dict.fromkeys(layers, form),
        Form((ROWS, 3), torch.float32),
        Form((ROWS,), torch.int64),
    )


class Listener(Link):
    """Acknowledges everything at once.  on_message: is told of each that comes."""

    def __init__(self, endpoint: Endpoint, on_message: Callable[[Message], None]) -> None:
        self.endpoint, self.messages, self._on_message = endpoint, list[Message](), on_message

    def send(self, message: Message) -> None:
        self.messages.append(message)
        self._on_message(message)

    def receive(self) -> Message:
        return Message((INVALID,), ())

    def close(self) -> None: ...

    @property
    def ticks(self) -> list[Tick]:
        """All that came, tick by tick."""
        return [(tick.tokens[0], tick.tensors) for message in self.messages for tick in message.single()]


class Listeners(Wiring):
    """By the name of an edge."""

    def __init__(self, on_message: Callable[[Message], None] = lambda _: None) -> None:
        self.by_edge: dict[str, Listener] = {}
        self._on_message = on_message

    def listen(self, endpoints: Sequence[Endpoint]) -> dict[int, str]:
        self._endpoints = list(endpoints)
        return {}

    def connect(self, addresses: Mapping[int, str]) -> dict[int, Link]:
        self.by_edge = {each.name: Listener(each, self._on_message) for each in self._endpoints}
        return {each.edge: self.by_edge[each.name] for each in self._endpoints}

    def close(self) -> None: ...

    @property
    def messages(self) -> list[Message]:
        """Those of the first edge."""
        return next(iter(self.by_edge.values())).messages


def said(
    worker: StreamWorker, layout: Layout, on_message: Callable[[Message], None] = lambda _: None
) -> Listeners:
    """All that a stream says from where it stands to its end."""
    listeners = Listeners(on_message)
    worker.listen(layout, lambda: listeners)
    worker.connect({})
    outcome = worker.run()
    assert outcome.error is None, outcome.details
    return listeners


def same(one: Sequence[Tick], other: Sequence[Tick]) -> bool:
    """Whether two say the same, bit for bit."""
    return len(one) == len(other) and all(
        a[0] == b[0] and len(a[1]) == len(b[1]) and all(map(_equal, a[1], b[1]))
        for a, b in zip(one, other, strict=True)
    )


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and torch.equal(one, other)
