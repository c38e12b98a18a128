"""Who owns which memory: what two layers share would part ways, for each may live on a device of its own."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hamdist.errors import NetworkError, Problem


class Held(NamedTuple):
    """A parameter or buffer of a layer.  learns: whether it is moved by what the layer learns."""

    layer: str
    name: str
    tensor: Tensor
    learns: bool

    def __str__(self) -> str:
        return f"{self.layer}.{self.name}"

    @property
    def looks(self) -> object:
        """The same for what can be one: views of the same memory, in the same form, both of which learn or not."""
        tensor = self.tensor
        return self.start, tensor.dtype, tensor.shape, tensor.stride(), type(tensor), self.learns

    @property
    def start(self) -> int:
        return self.tensor.data_ptr()

    @property
    def end(self) -> int:
        pairs = zip(self.tensor.shape, self.tensor.stride(), strict=True)
        return self.start + (1 + sum((n - 1) * stride for n, stride in pairs)) * self.tensor.itemsize


def check_owned(modules: Mapping[str, nn.Module]) -> None:
    """Raises NetworkError where what learns lies in the memory of another parameter or buffer, of any layer."""
    for one, other in _overlaps(modules):
        if not (one.learns or other.learns):
            continue
        if one.layer == other.layer:
            raise NetworkError(
                f"layer {one.layer!r}: {one.name!r} and {other.name!r} lie in the same memory, in part or in another "
                "order: use one parameter in both places, or compute one from the other in forward"
            )
        first, second = sorted((one, other), key=lambda held: list(modules).index(held.layer))
        raise NetworkError(
            f"layers {first.layer!r} and {second.layer!r} share weights: each layer must own its weights "
            f"({first} and {second} lie in the same memory; weights cannot be tied between layers: put both uses "
            "into one layer, or give each layer a copy of its own)"
        )


def shared_buffers(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, str]]:
    """By layer: each of its buffers that lies in the memory of another one, with the name of that one.

    That does no harm as long as none of them moves.
    """
    found: dict[str, dict[str, str]] = {name: {} for name in modules}
    for one, other in _overlaps(modules):
        found[one.layer][one.name] = str(other)
        found[other.layer][other.name] = str(one)
    return found


def check_still(name: str, moves: Iterable[str], shared: Mapping[str, str], key: str = "") -> None:
    """Raises NetworkError where a layer moves a buffer that others have as well.

    moves: the buffers that it moves.  shared: as of `shared_buffers`.
    """
    if moved := next((buffer for buffer in moves if buffer in shared), None):
        message = (
            f"layer {name!r} moves {moved!r}, which lies in the memory of {shared[moved]!r} and would part ways with "
            "it: give each a buffer of its own, or put both uses into one layer"
        )
        raise NetworkError(Problem(key, message))


def ties(module: nn.Module) -> dict[str, str]:
    """Parameters and buffers that are views of the same memory, each with the first name under which that stands."""
    first: dict[object, str] = {}
    found: dict[str, str] = {}
    for held in _held("", module):
        if (name := first.setdefault(held.looks, held.name)) != held.name:
            found[held.name] = name
    return found


def tie(module: nn.Module, names: Mapping[str, str]) -> None:
    """What stands under the second name becomes what stands under the first, so that it also moves with it."""
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    for name, first in names.items():
        owner, _, key = name.rpartition(".")
        part = module.get_submodule(owner)
        there: dict[str, Any] = part._parameters if key in part._parameters else part._buffers
        there[key] = tensors[first]


def _held(layer: str, module: nn.Module) -> Iterator[Held]:
    """What has memory of its own: each tensor once."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not is_lazy(tensor) and tensor.layout == torch.strided and tensor.numel() and not tensor.is_meta:
            yield Held(layer, name, tensor, isinstance(tensor, nn.Parameter) and tensor.requires_grad)


def _overlaps(modules: Mapping[str, nn.Module]) -> Iterator[tuple[Held, Held]]:
    """Pairs in the same memory, but for ties within a layer; all by their addresses, so that few are compared."""
    everything = sorted(
        (held for layer, module in modules.items() for held in _held(layer, module)),
        key=lambda held: (str(held.tensor.device), held.start),
    )
    reaching: list[Held] = []
    for held in everything:
        reaching = [
            other
            for other in reaching
            if other.tensor.device == held.tensor.device and other.end > held.start
        ]
        for other in reaching:
            tied = other.layer == held.layer and other.looks == held.looks
            if not tied and _meet(other, held):
                yield other, held
        reaching.append(held)


def _meet(one: Held, other: Held) -> bool:
    """Whether two tensors whose memory begins before the other's ends have a number in common."""
    if one.tensor.is_contiguous() and other.tensor.is_contiguous():
        return True
    return bool(torch.isin(_places(one), _places(other)).any())


def _places(held: Held) -> Tensor:
    """The address of every number."""
    places = torch.zeros((), dtype=torch.int64)
    for n, stride in zip(held.tensor.shape, held.tensor.stride(), strict=True):
        places = places.unsqueeze(-1) + torch.arange(n) * stride
    return held.start + places.flatten() * held.tensor.itemsize
