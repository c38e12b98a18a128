"""Two runs side by side: the largest difference, or every bit."""

import torch
from torch import Tensor

from hamdist.engine.inline import InlineRuntime
from hamdist.engine.layer_node import LayerNode


def largest_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest absolute difference over all entries; the keys must agree."""
    assert ours.keys() == theirs.keys()
    return max((ours[key] - theirs[key]).abs().max().item() for key in ours)


def everything(node: LayerNode) -> dict[str, Tensor]:
    """All that a layer carries, by "<part>.<name>": θ, ω, buffers, moments, ξ, p, the count of updates and the mean."""
    carry = node.carry
    named = {
        f"{part}.{key}": tensor
        for part in ("parameters", "weight_costate", "buffers", "moments")
        for key, tensor in getattr(carry, part).items()
    }
    states = {
        f"{part}.{i}": t for part in ("state", "state_costate") for i, t in enumerate(getattr(carry, part))
    }
    mean = {f"mean.{key}": tensor for key, tensor in carry.mean.tensors.items()}
    counts = {"updates": carry.updates, "span": carry.mean.span}
    return {key: tensor.clone() for key, tensor in {**named, **states, **counts, **mean}.items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The keys whose tensors are not the same to the last bit."""
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


def same_bits(ours: InlineRuntime, theirs: InlineRuntime) -> bool:
    """Whether two runs hold the same carries to the last bit."""
    return all(
        not changed(everything(ours.nodes[name]), everything(theirs.nodes[name])) for name in ours.nodes
    )
