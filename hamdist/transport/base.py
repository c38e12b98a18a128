"""What a link is: one end of one edge between two actors, for one generation; first in, first out, both ways.

A generation is one start of a run's actors. There is no reconnection: a link that has failed stays failed, and a
restarted run gets new links with the next generation's number.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.engine.message import Form, Stretch, Token
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
    """A frame that does not belong here: malformed, of another edge or generation, or out of order."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What one end of an edge says in one tick.

    tick: the sender's own, counted from 0.  token: of which samples it speaks.  tensors: of a signal (y,), of a costate
    (∂H/∂a, the output it speaks of); None where there is none.  final: the run's last tick, once the sender knows it.
    """

    tick: int
    token: Token
    tensors: tuple[Tensor | None, ...] = ()
    final: int = -1


class Frames(NamedTuple):
    """What one end of an edge says in successive ticks.  tick: the first of them.  final: as of a frame."""

    tick: int
    stretch: Stretch
    final: int = -1

    @classmethod
    def of(cls, frame: Frame) -> "Frames":
        """A single one."""
        return cls(frame.tick, Stretch((frame.token,), frame.tensors), frame.final)

    def single(self) -> "list[Frames]":
        """Tick by tick."""
        return [Frames(self.tick + k, one, self.final) for k, one in enumerate(self.stretch.single())]

    def frame(self) -> Frame:
        """That of the only tick."""
        return Frame(self.tick, self.stretch.tokens[0], self.stretch.tensors, self.final)


@dataclass(frozen=True)
class Patience:
    """How long a wait may last.

    heartbeat_seconds: without any sign of life from the other end's process.  progress_seconds: without a frame,
    though it lives: it may be compiling, or waiting itself.
    """

    heartbeat_seconds: float = 5.0
    progress_seconds: float = 300.0


@dataclass(frozen=True)
class End:
    """One end of an edge that leads to another actor.

    edge: the edge's index in the graph.  name: "block1->block2".  forward: True at the edge's source, which sends
    signals and hears costates; False at its target.  peer: the other actor's number.  peer_name: what errors call it.
    capacity: frames that may be under way in each direction, 2d + 1 or more.  sends, receives: the forms of the tensors
    of a frame that this end sends and gets, one per place in Frame.tensors; a place may also hold None in a frame.
    partial: whether tensors may have fewer rows, along the first dimension, than the forms.
    device: where received tensors are wanted (sent ones may be on any device).
    """

    edge: int
    name: str
    forward: bool
    peer: int
    peer_name: str
    capacity: int
    sends: tuple[Form, ...] = ()
    receives: tuple[Form, ...] = ()
    partial: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Link(ABC):
    """One end of one edge. `send` and `receive` belong to one thread; `close` may come from any."""

    @abstractmethod
    def send(self, frame: Frame) -> None:
        """Takes a frame on its way and returns, at once unless `capacity` frames are under way already.

        Its tensors must not be written to afterwards. Raises PeerLostError, StalledError, ClosedError.
        """

    @abstractmethod
    def receive(self) -> Frame:
        """The next frame, its tensors contiguous, 64-byte aligned, on the end's device, and the receiver's own.

        Frames that arrived before the other end went away are still handed out. Raises PeerLostError, StalledError,
        ClosedError, RefusedError.
        """

    def send_all(self, frames: Frames) -> None:
        """As `send` of every one of them."""
        for each in frames.single():
            self.send(each.frame())

    def receive_all(self) -> Frames:
        """The next frame, with those that follow it if they came in one piece."""
        return Frames.of(self.receive())

    @abstractmethod
    def close(self) -> None:
        """Lets go of everything; a wait on this end, in any thread, ends with ClosedError. May be called twice.

        What was sent before still reaches an other end that lives.
        """


class Wiring(ABC):
    """Makes the links of one actor: first `listen`, then, when every actor's addresses are known, `connect`."""

    @abstractmethod
    def listen(self, ends: Sequence[End]) -> dict[int, str]:
        """Where the other ends will find those that wait for them (those that are not `forward`), by edge."""

    @abstractmethod
    def connect(self, addresses: Mapping[int, str]) -> dict[int, Link]:
        """A link for every end, by edge; `addresses`: those that the actors at the other ends returned, by edge."""

    @abstractmethod
    def close(self) -> None:
        """Closes every link, and what was made for them."""
