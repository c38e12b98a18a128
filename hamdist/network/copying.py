"""A module of the user's as a layer's own: what is copied of it, and what hangs on it that would be lost."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer

from hamdist.errors import NetworkError, Problem, first_line
from hamdist.network.ownership import tie, ties


def copied(name: str, module: nn.Module) -> nn.Module:
    """A copy with weights of its own, tied to each other as they are.

    Raises NetworkError for what hangs on a weight, and for what cannot be copied.
    """
    check_hooks(name, module)
    memo = _replacements(name, module)
    try:
        with torch.no_grad():  # scripted modules clone their weights where autograd sees it
            copy_of = copy.deepcopy(module, memo)
    except Exception as error:
        raise NetworkError(
            f"layer {name!r} ({type(module).__name__}) cannot be copied: {first_line(error)}: give a function that "
            "makes it (lambda: …) in its place, or take out what it keeps"
        ) from error
    for parameter, original in zip(copy_of.parameters(), module.parameters(), strict=True):
        if parameter.requires_grad != original.requires_grad:
            parameter.requires_grad_(original.requires_grad)
    tie(copy_of, ties(module))
    return copy_of


def check_hooks(name: str, module: nn.Module, key: str = "") -> None:
    """Raises NetworkError for hooks on parameters: gradients are not accumulated there, so they would not run."""
    for parameter, tensor in module.named_parameters():
        if tensor._backward_hooks or tensor._post_accumulate_grad_hooks:
            message = (
                f"layer {name!r}: a gradient hook hangs on {parameter!r}, which would not run: its drive is no .grad. "
                "Mask or scale the weight in forward (torch.nn.utils.parametrize, torch.nn.utils.prune), or set its "
                "rate with learning.beta_scale; hooks of modules do run"
            )
            raise NetworkError(Problem(key, message))


def _replacements(name: str, module: nn.Module) -> dict[int, Any]:
    """What takes the place of tensors that deepcopy refuses, by their identity."""
    replaced: dict[int, Any] = {}
    for path, part in module.named_modules():
        recomputed = {getattr(hook, key, None) for hook in part._forward_pre_hooks.values() for key in _KEYS}
        for key, value in vars(part).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                if key not in recomputed:
                    raise NetworkError(
                        f"layer {name!r} keeps in {f'{path}.{key}'.lstrip('.')!r} what was computed from weights, and "
                        "would not follow them: compute it in forward, or detach it"
                    )
                replaced[id(value)] = value.detach().clone()
        for buffer in part._buffers.values():
            if isinstance(buffer, UninitializedBuffer):
                replaced[id(buffer)] = UninitializedBuffer(  # type: ignore[call-arg]
                    device=buffer.device, dtype=buffer.dtype
                )
            elif buffer is not None and buffer.grad_fn is not None:
                replaced[id(buffer)] = buffer.detach().clone()
    return replaced


_KEYS = "name", "_tensor_name"
"""Where torch's weight_norm, spectral_norm and pruning say which tensor they make anew for every evaluation."""
