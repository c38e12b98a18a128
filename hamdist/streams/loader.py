"""The batches of a DataLoader, pass after pass, from any of them on."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hamdist.errors import Problem, StreamError
from hamdist.streams.own_state import keeps_state, own_state
from hamdist.streams.sample import split_sample
from hamdist.streams.stream import Batch, make_batch


def is_loader(source: Any) -> bool:
    """A DataLoader, or what is like one and says where it is, such as torchdata's StatefulDataLoader."""
    return isinstance(source, DataLoader) or (keeps_state(source) and hasattr(source, "batch_sampler"))


class LoadedBatches:
    """A loader that says where it is goes on there by itself. Of any other one the batches before are loaded again and
    left out, after torch's random numbers, and those of its own generators, were put where they were when the pass
    began: so a shuffled pass has the same order.
    """

    def __init__(self, loader: Any, batch_size: int | None) -> None:
        _check(loader, batch_size)
        self._loader = loader
        self._loaded = 0  # batches of this pass
        self._random: dict[str, Tensor] | None = None  # when it began
        self._goes_on = False

    def state_dict(self) -> dict[str, Any]:
        """Where it is."""
        own = own_state(self._loader)
        random = self._random if self._random is not None else self._states()
        return {"loaded": self._loaded, "random": random if own is None else {}, "own": own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises KeyError and TypeError for what is none."""
        self._loaded, self._random, self._goes_on = int(state["loaded"]), dict(state["random"]), True
        if keeps_state(self._loader):
            self._loader.load_state_dict(state["own"])

    def batches(self, samples: int | None, dtype: torch.dtype, done: int) -> Iterator[Batch]:
        """Until `samples` rows were handed out, None: one pass.  done: rows so far."""
        if not self._goes_on:
            self._loaded, self._random = 0, None
        return self._batches(samples, dtype, done)

    def _batches(self, samples: int | None, dtype: torch.dtype, done: int) -> Iterator[Batch]:
        while samples is None or done < samples:
            before, again = done, self._goes_on
            for loaded in self._pass():
                whole = _parts(loaded, f"the batch at sample {done}")
                left = None if samples is None else samples - done
                inputs, targets, restarts = (None if part is None else part[:left] for part in whole)
                assert inputs is not None
                batch = make_batch(inputs, targets, dtype, restarts)
                done += len(batch.inputs)
                yield batch
                if done == samples:
                    return
            if samples is None or (done == before and not again):
                return

    def _pass(self) -> Iterator[Any]:
        """What is left of the pass that was gone on with, or a new one."""
        if self._goes_on:
            self._set_random()
        else:
            self._loaded, self._random = 0, self._states()
        again = self._loaded if self._goes_on and not keeps_state(self._loader) else 0
        self._goes_on = False
        for loaded in islice(iter(self._loader), again, None):
            self._loaded += 1
            yield loaded

    def _generators(self) -> dict[str, torch.Generator]:
        """All that its order may come of."""
        sampler = getattr(self._loader, "sampler", None)
        own = {"loader": self._loader, "sampler": sampler}
        found = {name: getattr(each, "generator", None) for name, each in own.items()}
        return {"torch": torch.default_generator} | {n: g for n, g in found.items() if g is not None}

    def _states(self) -> dict[str, Tensor]:
        """Of these, now."""
        return {name: generator.get_state() for name, generator in self._generators().items()}

    def _set_random(self) -> None:
        for name, generator in self._generators().items():
            if self._random and name in self._random:
                generator.set_state(self._random[name])


def _parts(loaded: Any, where: str) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Inputs, targets and restarts, as they were loaded."""
    x, y, restarts = split_sample(tuple(loaded) if isinstance(loaded, list) else loaded, where)
    restarts = None if restarts is False else restarts
    for name, value in (("x", x), ("y", y), ("restart", restarts)):
        if not isinstance(value, Tensor) and not (name != "x" and value is None):
            raise StreamError(f"{where}: {name} is a {type(value).__name__}; expected a tensor of rows")
    return x, y, restarts


def _check(loader: Any, batch_size: int | None) -> None:
    if loader.batch_sampler is None:
        raise StreamError("the DataLoader makes no batches (batch_size=None); pass its dataset instead")
    own = getattr(loader, "batch_size", None)
    if batch_size is not None and own is not None and batch_size != own:
        message = f"the DataLoader makes its own batches of {own}, not of {batch_size}; set it to {own}"
        raise StreamError(Problem("batch_size", message))
