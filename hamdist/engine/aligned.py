"""Signals that are the same bits wherever they come from: contiguous, and aligned to 64 bytes.

Kernels choose their way by strides and by alignment, and so do sums in their last bits: a signal that came over a link
and one that stayed in its process must look alike.
"""

import torch
from torch import Tensor

BYTES = 64


def settled(tensor: Tensor) -> Tensor:
    """The tensor, or a copy where it begins at an address that is not aligned in the memory of another."""
    offset = tensor.storage_offset() * tensor.element_size()
    return tensor.clone(memory_format=torch.contiguous_format) if offset % BYTES else tensor.contiguous()


def aligned(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy in plain order at an aligned address."""
    if (
        tensor.is_contiguous()
        and tensor.data_ptr() % BYTES == 0
        and not (tensor.is_conj() or tensor.is_neg())
    ):
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
