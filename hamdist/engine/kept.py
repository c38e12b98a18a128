"""What can be kept of a layer in a file that holds tensors and text, and nothing that would have to be pickled."""

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from hamdist.engine.layer_node import LayerNode
from hamdist.engine.node_spec import NodeSpec
from hamdist.errors import NetworkError
from hamdist.physics.pure_module import Tensors


@dataclass(frozen=True)
class Kept:
    """A layer's state_dict, on the CPU.

    tensors: by name.  told: what is no tensor, as JSON, by name.  lost: by name, why something cannot be kept.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)


def kept_of(node: LayerNode) -> Kept:
    """What there is of a layer now: of the mean of its weights, where one is kept."""
    return _kept(node.spec, *node.carry.averaged)


def check_kept(spec: NodeSpec) -> None:
    """Raises NetworkError naming the layer where not all of its state_dict could be kept."""
    pure = spec.layer.pure
    if lost := _kept(spec, pure.parameters(), pure.buffers()).lost:
        told = "; ".join(f"{name}: {why}" for name, why in lost.items())
        raise NetworkError(f"layer {spec.name!r} could not be written at the end of a run: {told}")


def _kept(spec: NodeSpec, parameters: Tensors, buffers: Tensors) -> Kept:
    """Where the module's own code fails in making its state_dict, its weights and buffers by their names."""
    pure, lost = spec.layer.pure, {}
    try:
        found = pure.state_dict(parameters, buffers)
    except Exception as error:
        found = pure.persistent(parameters, buffers)
        lost = {"state_dict()": f"{type(error).__name__}: {error}"}
    kept = Kept(lost=lost)
    for name, value in found.items():
        _keep(kept, name, value)
    return kept


def _keep(kept: Kept, name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        try:
            kept.tensors[name] = _plain(value)
        except Exception as error:
            kept.lost[name] = f"{type(error).__name__}: {error}"
        return
    try:
        text = json.dumps(value, allow_nan=False)
        same = _alike(json.loads(text), value)
    except Exception:
        same = False
    if same:
        kept.told[name] = text
    else:
        kept.lost[name] = (
            f"an object of type {type(value).__name__} would have to be pickled; return a tensor, or what JSON has: "
            "numbers, text, lists and dicts with text for keys"
        )


def _plain(tensor: Tensor) -> Tensor:
    """Contiguous and on the CPU. Raises TypeError for another layout, or a dtype that files do not have."""
    dtype = tensor.dtype.to_real() if tensor.is_complex() else tensor.dtype
    if tensor.layout is not torch.strided or not _written(dtype):
        raise TypeError(
            f"a tensor of dtype {tensor.dtype} and layout {tensor.layout} has no place in a safetensors file"
        )
    return tensor.cpu().contiguous()


@cache
def _written(dtype: torch.dtype) -> bool:
    """Whether a file of tensors can have the dtype."""
    try:
        save({"": torch.empty(0, dtype=dtype)})
    except Exception:
        return False
    return True


def _alike(one: Any, other: Any) -> bool:
    """Whether two are the same to their types: JSON makes a list of a tuple, and text of a key."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)
