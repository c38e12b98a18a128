"""All that moves of a node, as one tree: what a step takes and gives, what a cut copies, what a checkpoint saves.

A step may consume the state that it is given: weights, rings and what junctions keep are written over. Whoever wants a
state to last takes a `copied` one. Leaves are tensors, and numbers and flags of tokens and counts.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hamdist.engine.junction import Met
from hamdist.engine.ledger import Ledger
from hamdist.engine.message import Costate, Message, Signal, Token
from hamdist.errors import RunError
from hamdist.physics.layers import Point
from hamdist.physics.step import Carry, Evaluation
from hamdist.report.metrics import Sums

State = TypeVar("State")
Item = TypeVar("Item")
Said = dict[str, tuple[Message, ...]]
"""By the name of an edge, the messages of some ticks, the oldest first."""


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
    said: under a schedule that moves a layer once a hold, its output of the samples that it hears.
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
    said: Tensor | None = None


class LossState(NamedTuple):
    """Of a loss's node: its scores, and the costates that wait for the end of a block of ticks."""

    prequential: Sums
    holdout: Sums
    waiting: tuple[Costate, ...] = ()


class SourceState(NamedTuple):
    """Of the source: ticks said, samples that entered, and whether the next batch begins an episode in every row.

    recent: the tokens of its last ticks, the oldest first.  signals: by edge, what it said in the last d ticks along
    edges of delay d ≥ 1.
    """

    tick: int = 0
    samples: int = 0
    begins: bool = True
    recent: tuple[Token, ...] = ()
    signals: Said = {}  # noqa: RUF012 - nobody writes into a state


class PartitionState(NamedTuple):
    """Of all that one process hosts, before a tick; the parts of all processes make up the whole network.

    tick: the number of ticks done.  nodes, losses: by name.  signals: by edge, what hosted nodes said in the last d
    ticks along their out-edges of delay d ≥ 1.  costates: what they returned along their in-edges, but to the source.
    """

    tick: int
    nodes: dict[str, NodeState]
    losses: dict[str, LossState]
    signals: Said
    costates: Said


class RuntimeState(NamedTuple):
    """Of a whole network, its source included."""

    partition: PartitionState
    source: SourceState


def united(parts: Sequence[PartitionState]) -> PartitionState:
    """Parts of the same tick, put together. Raises RunError for those of different ticks."""
    ticks = sorted({part.tick for part in parts})
    if len(ticks) != 1:
        raise RunError(f"parts of a cut must be of one tick, and these are of {ticks}")
    return PartitionState(
        ticks[0],
        nodes=_merged([part.nodes for part in parts]),
        losses=_merged([part.losses for part in parts]),
        signals=_merged([part.signals for part in parts]),
        costates=_merged([part.costates for part in parts]),
    )


def _merged(dicts: Sequence[dict[str, Item]]) -> dict[str, Item]:
    return {name: each for one in dicts for name, each in one.items()}


def copied(state: State, device: torch.device | None = None) -> State:
    """The same in memory of its own, on a device if one is named. What is shared within it stays so.

    Pullbacks that are kept stay out: they are made anew from point and weights.
    """
    copies: dict[int, Tensor] = {}

    def copy(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return None if callable(leaf) else leaf
        if id(leaf) not in copies:
            copies[id(leaf)] = leaf.detach().to(device or leaf.device, copy=True)
        return copies[id(leaf)]

    return tree_map(copy, state)
