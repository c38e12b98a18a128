"""All that moves of a node, as one tree: what a step takes and gives, what a cut copies, what a checkpoint saves.

A step may consume the state that it is given: weights, rings and what junctions keep are written over. Whoever wants a
state to last takes a `copied` one. Leaves are tensors, and numbers and flags of tokens and counts.
"""

from typing import Any, NamedTuple, TypeVar

from torch import Tensor
from torch.utils._pytree import tree_map

from hamdist.engine.junction import Met
from hamdist.engine.ledger import Ledger
from hamdist.engine.message import Costate, Message, Signal, Token
from hamdist.physics.layers import Point
from hamdist.physics.step import Carry, Evaluation
from hamdist.report.metrics import Sums

State = TypeVar("State")


class Settling(NamedTuple):
    """Whether what a layer hears and holds still changes: its values a tick ago, and for how many ticks it has not."""

    before: tuple[Tensor, ...] | None = None
    still: int = 0


class NodeState(NamedTuple):
    """Of a layer's node, between two ticks or between the halves of one.

    carry: θ, ω, ξ, p, buffers, moments.  kept: what its memory keeps.  hearing, returning: what its in- and out-edges
    keep.  ledger: whom it has learnt from.  present: this tick's evaluation if it learns; none between ticks.
    trial: the state that hold-out samples move, beside ξ.  latest: the last point that learnt, where anybody asks.
    shown, held: of a layer with latency, whose samples ξ shows, and whose costate p holds.
    undriven: tokens that were evaluated and have not driven, where costates go back through windows of time.
    """

    carry: Carry
    kept: Any
    hearing: Met[Signal]
    returning: Met[Costate]
    shown: Token
    held: Token
    ledger: Ledger = Ledger()
    present: Evaluation | None = None
    trial: tuple[Tensor, ...] | None = None
    latest: Point | None = None
    settling: Settling = Settling()
    undriven: tuple[Token, ...] = ()


class LossState(NamedTuple):
    """Of a loss's node: its scores, and the costates that wait for the end of a block of ticks."""

    prequential: Sums
    holdout: Sums
    waiting: tuple[Costate, ...] = ()


class ChannelState(NamedTuple):
    """What is under way along an edge within a process, in either direction, the oldest first."""

    signals: tuple[Message, ...]
    costates: tuple[Message, ...]


class SourceState(NamedTuple):
    """Of the source: ticks said, samples that entered, and whether the next batch begins an episode in every row."""

    tick: int = 0
    samples: int = 0
    begins: bool = True


class PartitionState(NamedTuple):
    """Of all that one process hosts: nodes and losses by name, channels by the name of their edge.

    tick: the number of ticks done.
    """

    tick: int
    nodes: dict[str, NodeState]
    losses: dict[str, LossState]
    channels: dict[str, ChannelState]


class RuntimeState(NamedTuple):
    """Of a network that runs in one process, its source included."""

    partition: PartitionState
    source: SourceState


def copied(state: State) -> State:
    """The same in memory of its own. Pullbacks that are kept stay out: they are made anew from point and weights."""
    return tree_map(_copy, state)


def _copy(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.detach().clone()
    return None if callable(leaf) else leaf
