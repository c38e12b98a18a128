"""Which rows of a batch have no target: NaN among numbers, among classes what torch's losses ignore."""

import torch
from torch import Tensor

IGNORED = -100  # torch's own ignore_index, unless a loss has another


def absent(targets: Tensor, ignored: int = IGNORED) -> Tensor:
    """Where there is none, as booleans [R, …].  ignored: a class that is none, beside the usual one."""
    if targets.is_floating_point() or targets.is_complex():
        return torch.isnan(targets)
    return targets == IGNORED if ignored == IGNORED else (targets == IGNORED) | (targets == ignored)


def unlabelled(targets: Tensor, ignored: int = IGNORED) -> Tensor:
    """The rows [R] in which there is none at all, as booleans; rows of no width have theirs."""
    missing = absent(targets, ignored)
    if missing.dim() == 1:
        return missing
    return missing.flatten(1).all(1) if missing.numel() else missing.new_zeros(len(missing))


def represented(targets: Tensor, ignored: int = IGNORED) -> Tensor:
    """The targets with the first that there is in the place of those that are missing; as they are where none is."""
    missing = unlabelled(targets, ignored)
    if not missing.any() or missing.all():
        return targets
    whole = targets.clone()
    whole[missing] = targets[int((~missing).nonzero()[0])]
    return whole
