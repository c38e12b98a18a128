"""A cut by node, so that any placement can read it: a node's state, and what it said that is still under way."""

from typing import NamedTuple

from hamdist.engine.message import Message
from hamdist.engine.state import LossState, NodeState


class NodePart(NamedTuple):
    """state: of a layer or of a loss.  signals: by edge that leaves it, what it said in the last d ticks.  costates: by
    edge into it, what it returned in them.
    """

    state: NodeState | LossState
    signals: dict[str, tuple[Message, ...]]
    costates: dict[str, tuple[Message, ...]]
