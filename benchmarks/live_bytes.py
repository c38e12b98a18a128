"""How many bytes of tensors are alive: of all that operations make, and of what autograd saves for derivatives."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Under it, the storages that operations make, from their making until they are freed.

    A storage counts once, however many tensors view it. What was made before, and what is ignored, does not count; nor
    does what a kernel uses inside itself.  now: bytes alive.  peak: the most since it was last set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages(tree_leaves((args, kwargs)))}
        for storage in _storages(tree_leaves(result)):
            if storage._cdata not in given and storage._cdata not in self._sizes:
                self._begin(storage)
        return result

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Their storages count no more."""
        for storage in _storages(tensors):
            self._end(storage._cdata)

    def _begin(self, storage: torch.UntypedStorage) -> None:
        self._sizes[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._end, storage._cdata)

    def _end(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Under it, what autograd saves, from then until the graph lets go of it; a storage counts once.

    apart: tensors whose storages do not count, the weights.  peak: the most bytes at a time. It sees nothing of what
    torch.utils.checkpoint saves, which has hooks of its own.
    """

    def __init__(self, apart: Iterable[Tensor]) -> None:
        super().__init__(self._pack, _Saved.tensor)
        self.now = self.peak = 0
        self._apart = {storage._cdata for storage in _storages(apart)}
        self._times: dict[int, int] = {}

    def _pack(self, tensor: Tensor) -> "_Saved":
        saved, storage = _Saved(tensor), tensor.untyped_storage()
        if storage._cdata not in self._apart:
            times = self._times.get(storage._cdata, 0)
            self._times[storage._cdata] = times + 1
            self.now += 0 if times else storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(saved, self._end, storage._cdata, storage.nbytes())
        return saved

    def _end(self, key: int, size: int) -> None:
        self._times[key] -= 1
        self.now -= 0 if self._times[key] else size


class _Saved:
    """A saved tensor; detached, so that its graph is not kept alive by itself."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.detach()

    def tensor(self) -> Tensor:
        return self._tensor


def _storages(leaves: Iterable[Any]) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in leaves if isinstance(leaf, Tensor)]
