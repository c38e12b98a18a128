"""Tensors and names in a sentence."""

from collections.abc import Sequence

from torch import Tensor


def describe(tensor: Tensor) -> str:
    """ "[16, 64] float32"."""
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def all_of(names: Sequence[str], most: int = 50) -> str:
    """ "a, b, c": all names, or of very many the first."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
