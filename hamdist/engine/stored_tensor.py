"""One tensor as a file can hold it, and back, to the bit and to the order in memory."""

from functools import cache
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

StoredTensor = list[Any]
"""[] for a tensor as it is; else [dtype, dims]: the dtype that it had, and the order of its dimensions in memory,
where that is not their own."""

_DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


def stored(tensor: Tensor) -> tuple[Tensor, StoredTensor]:
    """A tensor on the CPU, contiguous, in memory of its own, of a dtype that files have; and how to make the first of
    it. Raises TypeError for a layout or a dtype that has no such form.
    """
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise TypeError(f"a tensor of dtype {tensor.dtype} and layout {tensor.layout} cannot be written")
    found = tensor.detach().resolve_conj().resolve_neg()
    dims = _dims(found)
    found = found.permute(dims).cpu()
    kept = found.untyped_storage().nbytes() == found.nbytes and found.is_contiguous()
    plain = _of_a_file(found if kept else found.clone(memory_format=torch.contiguous_format))
    in_order = dims == sorted(dims)
    if plain.dtype == tensor.dtype and in_order:
        return plain, []
    return plain, [str(tensor.dtype), dims]


def taken(plain: Tensor, how: StoredTensor, device: torch.device) -> Tensor:
    """The tensor that `stored` was given, in memory of its own, aligned as torch aligns."""
    found = torch.empty(plain.shape, dtype=plain.dtype, device=device).copy_(plain)
    if not how:
        return found
    dtype, dims = _DTYPES[how[0]], how[1]
    if found.dtype != dtype:
        found = torch.view_as_complex(found) if dtype.is_complex else found.view(dtype)
    return found.permute([dims.index(dim) for dim in range(len(dims))])


def _dims(tensor: Tensor) -> list[int]:
    """The order of its dimensions in memory, where they fill it; else their own."""
    own, strides = list(range(tensor.dim())), tensor.stride()
    if tensor.is_contiguous():
        return own
    order = sorted(own, key=lambda dim: (-strides[dim], dim))
    return order if tensor.permute(order).is_contiguous() else own


def _of_a_file(tensor: Tensor) -> Tensor:
    """Complex numbers as pairs [..., 2], what files do not have as bytes."""
    if tensor.is_complex():
        return torch.view_as_real(tensor)
    if _written(tensor.dtype):
        return tensor
    if tensor.dtype.itemsize != 1:
        raise TypeError(f"a tensor of dtype {tensor.dtype} cannot be written")
    return tensor.view(torch.uint8)


@cache
def _written(dtype: torch.dtype) -> bool:
    """Whether a file of tensors can have the dtype."""
    try:
        load(save({"": torch.empty(0, dtype=dtype)}))
    except Exception:
        return False
    return True
