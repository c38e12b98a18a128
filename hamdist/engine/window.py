"""A layer whose costates go back through a window of time (`time: backward`): what its second half does there."""

from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.engine.ledger import Ledger
from hamdist.engine.message import NO_COSTATE, Costate, Token
from hamdist.engine.node_spec import NodeSpec
from hamdist.engine.state import NodeState
from hamdist.physics.bptt import swept
from hamdist.physics.memory import WindowMemory
from hamdist.physics.step import learn


def sweep(
    spec: NodeSpec, memory: WindowMemory, state: NodeState, token: Token, q: Tensor
) -> tuple[NodeState, list[Costate]]:
    """A costate [K, B, …] speaks of the sample of its token and of the K − 1 before it, the latest last.

    Where fewer were, the first places are of nothing, and zero.
    """
    assert spec.horizon is not None
    ticks = spec.horizon.ticks
    driving = [t for t in state.undriven if t.tick <= token.tick]
    points = memory.window(state.kept, token.tick, ticks if spec.horizon.slid else len(driving), state.carry)
    with spec.motion.computing:
        carry, partials = swept(
            spec.step_back, state.carry, points, q[ticks - len(points) :].unbind(), spec.motion.wanted
        )
    with spec.motion.integrating:
        carry = learn(carry, partials, spec.dynamics) if token.teaches else carry
    ledger = _drove_all(state.ledger, driving, token.teaches)
    return state._replace(carry=carry, undriven=state.undriven[len(driving) :], ledger=ledger), [
        Costate(token, None if value is None else aligned(_whole(value, ticks))) if forward else NO_COSTATE
        for forward, value in zip(spec.inward.forward, partials.inputs, strict=True)
    ]


def _drove_all(ledger: Ledger, driving: list[Token], teaches: bool) -> Ledger:
    """What was evaluated up to the samples of a token drives the layer, or passes: a block, or a single tick."""
    if not teaches:
        return reduce(Ledger.passed, driving, ledger)
    in_order = all(before.first + before.rows == after.first for before, after in pairwise(driving))
    rows = sum(token.rows for token in driving)
    return ledger.drove_in_a_row(1, rows, driving[0], driving[-1], in_order)


def _whole(window: Tensor, ticks: int) -> Tensor:
    """With zeros in the places of nothing."""
    missing = ticks - len(window)
    return window if not missing else torch.cat([window.new_zeros(missing, *window.shape[1:]), window])
