"""What a link is: one end of one edge between two actors, for one generation; first in, first out, both ways.

A generation is one start of a run's actors. There is no reconnection: a link that has failed stays failed, and a
restarted run gets new links with the next generation's number.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from hamdist.engine.message import Form, Message
from hamdist.errors import RunError


class LinkError(RunError):
    """A link that cannot go on; the message names the edge and the other end."""


class PeerLostError(LinkError):
    """The other end died, froze, or went away: it gave no sign of life for `heartbeat_seconds`, or hung up."""


class StalledError(LinkError):
    """The other end lives, but nothing came, or nothing could be sent, for `progress_seconds`."""


class ClosedError(LinkError):
    """This end was closed, perhaps while somebody waited on it."""


class RefusedError(LinkError):
    """A message that does not belong here: malformed, changed, of another edge or generation, or out of order."""


@dataclass(frozen=True)
class Patience:
    """How long a wait may last.

    heartbeat_seconds: without any sign of life from the other end's process.  progress_seconds: without a message,
    though it lives: it may be compiling, or waiting itself.
    """

    heartbeat_seconds: float = 5.0
    progress_seconds: float = 300.0


@dataclass(frozen=True)
class Endpoint:
    """One end of an edge that leads to another actor.

    edge: the edge's index in the graph.  name: "block1->block2".  forward: True at the edge's source, which sends
    signals and hears costates; False at its target.  peer: the other actor's number.  peer_name: what errors call it.
    capacity: messages that may be under way in each direction.  rows: of a batch.  sends, receives: the forms of the
    tensors of one tick, [B, …] each, that this end sends and gets, one per place in Message.tensors; a place may also
    hold None.  ticks: of a message, at most.  gathers: whether what this end sends waits until a message has all its
    ticks; otherwise what is given together goes together.  device: where received tensors are wanted (sent ones may be
    on any device).
    """

    edge: int
    name: str
    forward: bool
    peer: int
    peer_name: str
    capacity: int
    rows: int
    sends: tuple[Form, ...] = ()
    receives: tuple[Form, ...] = ()
    ticks: int = 1
    gathers: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def sends_in(self, ticks: int) -> tuple[Form, ...]:
        """The forms of the tensors of a message of so many ticks that this end sends."""
        return tuple(form.of(ticks) for form in self.sends)

    def receives_in(self, ticks: int) -> tuple[Form, ...]:
        """The same of one that it receives."""
        return tuple(form.of(ticks) for form in self.receives)


class Link(ABC):
    """One end of one edge. `send` and `receive` belong to one thread; `close` may come from any."""

    endpoint: Endpoint

    @abstractmethod
    def send(self, message: Message) -> None:
        """Takes a message on its way and returns, at once unless `capacity` messages are under way already.

        Its ticks follow those of the one before. Its tensors must not be written to afterwards. Raises LinkError for
        tensors of other forms than the endpoint's, PeerLostError, StalledError, ClosedError.
        """

    @abstractmethod
    def receive(self) -> Message:
        """The next message, its tensors contiguous, 64-byte aligned, on the endpoint's device, and the receiver's own.

        Messages that arrived before the other end went away are still handed out. Raises PeerLostError, StalledError,
        ClosedError, RefusedError.
        """

    @abstractmethod
    def close(self) -> None:
        """Lets go of everything; a wait on this end, in any thread, ends with ClosedError. May be called twice.

        What was sent before still reaches an other end that lives.
        """


class Wiring(ABC):
    """Makes the links of one actor: first `listen`, then, when every actor's addresses are known, `connect`."""

    @abstractmethod
    def listen(self, endpoints: Sequence[Endpoint]) -> dict[int, str]:
        """Where the other ends will find those that wait for them (those that are not `forward`), by edge."""

    @abstractmethod
    def connect(self, addresses: Mapping[int, str]) -> dict[int, Link]:
        """A link for every endpoint, by edge.

        addresses: those that the actors at the other ends returned, by edge.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes every link, and what was made for them."""
