"""Tensors and errors in a sentence."""

from torch import Tensor


def describe(tensor: Tensor) -> str:
    """ "[16, 64] float32"."""
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    return (str(error) or type(error).__name__).splitlines()[0]
