"""Which layer's numbers ran away, and what to lower."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from hamdist.engine.extent import Extent, extents, ran_away
from hamdist.engine.failed_loss import FailedLoss, explained
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.loss_node import LossNode
from hamdist.engine.message import Signal
from hamdist.engine.skipped_losses import SkippedLosses
from hamdist.engine.state import PartitionState
from hamdist.errors import DivergenceError


def diagnosis(tick: int, failed: FailedLoss | None, layers: Sequence[Extent]) -> str:
    """What was not finite first, the tick, and the remedy.

    failed: the loss that is not finite, None where weights ran away before any loss told of it.
    """
    if failed is None:
        return _grown(tick, None, layers)
    grew = failed.grew if failed.grew is not None else ran_away(layers)
    return _grown(tick, failed, layers) if grew else explained(tick, failed, layers)


def _grown(tick: int, failed: FailedLoss | None, layers: Sequence[Extent]) -> str:
    """Says which layer has the largest numbers, the tick, and the remedy.

    failed: the loss that is not finite, None where weights ran away before any loss told of it.
    """
    worst = max(layers, key=lambda layer: layer.largest)
    seen = "" if failed is None else f"the loss of {failed.samples} is {failed.value}; "
    grows = "" if worst.radius is None else f" (a step multiplies its state by up to {worst.radius:.3g})"
    return (
        f"diverged at tick {tick}: {seen}layer {worst.layer!r} is the furthest off, with weights or costates up to "
        f"{worst.largest:.3g}{grows}: {remedy_for(worst, layers)}"
    )


def remedy_for(worst: Extent, layers: Sequence[Extent]) -> str:
    """What to lower, and what else may help.  worst: the layer that is the furthest off."""
    remedy = "lower learning.beta"
    if worst.block > 1:
        remedy += f" (the losses of {worst.block} ticks add up)"
    if worst.forward:
        remedy += ", raise learning.dissipation.state, or set learning.clip"
    if any(layer.unscaled for layer in layers):
        remedy += ", or set learning.rate: delay-scaled"
    if worst.momentum:
        remedy += ", or raise learning.dissipation.weight (less momentum)"
    return remedy


def check_judged(
    tick: int, judge: LossNode, output: Signal, target: Signal, nodes: Mapping[str, LayerNode]
) -> None:
    """Raises DivergenceError where the loss of this tick is not finite; where such a loss is left out, only if weights
    of these layers are not finite either, or no loss is any more. On a GPU the tick's work so far is awaited here.
    """
    loss, skipped = judge.loss, judge.skipped
    assert loss is not None, "only a loss that was judged is looked at"
    if skipped is None and torch.isfinite(loss):
        return
    if skipped is not None and not (judge.left_out and _spoilt(skipped, nodes)):
        return
    assert target.value is not None
    failed = FailedLoss.of(judge.spec, loss.item(), output, judge.spec.own(target.value))
    raise DivergenceError(diagnosis(tick, failed, extents(nodes)), failed)


def _spoilt(skipped: SkippedLosses, nodes: Mapping[str, LayerNode]) -> bool:
    """Whether it is not a sample that is bad."""
    return skipped.endless or any(layer.broken for layer in extents(nodes))


def check_finite(tick: int, layers: Sequence[Extent]) -> None:
    """Raises DivergenceError where a weight or costate is not finite, though no loss has told of it yet."""
    if any(layer.largest == float("inf") for layer in layers):
        raise DivergenceError(diagnosis(tick, None, layers))


def unfinite(state: PartitionState) -> str:
    """Of which layer a weight, costate, state or moment is not finite, or along which edge what is under way, in words;
    "" where all are. What a layer says may be infinite, as a mask, but not NaN.
    """
    for name, node in state.nodes.items():
        # A mask may well be infinite, and so its mean.
        carry = node.carry._replace(buffers={}, mean=node.carry.mean._replace(tensors={}))
        if not _all(torch.isfinite, carry):
            return f"not all numbers of layer {name!r} are finite"
    for edge, costates in state.costates.items():
        if not _all(torch.isfinite, [message.tensors[:1] for message in costates]):
            return f"not all costates along edge {edge} are finite"
    for edge, signals in state.signals.items():
        if not _all(lambda tensor: ~torch.isnan(tensor), signals):
            return f"not all signals along edge {edge} are numbers"
    return ""


def _all(fit: Callable[[Tensor], Tensor], tree: Any) -> bool:
    """Whether all numbers of it are."""
    return all(_each(fit, leaf) for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _each(fit: Callable[[Tensor], Tensor], tensor: Tensor) -> bool:
    """Whether all its numbers are. Mostly their sum tells, which takes a tenth of the time: where one of them is not,
    it is not either. It may be too large with all of them finite, and then they are looked at.
    """
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    return bool(fit(tensor.sum())) or bool(fit(tensor).all())
