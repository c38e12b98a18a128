"""NumPy's files of arrays, .npy and .npz."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hamdist.errors import Problem, StreamError, did_you_mean
from hamdist.streams.listing import listed
from hamdist.streams.npz import keys_of, read_member
from hamdist.streams.position import Counted, Reading, counted
from hamdist.streams.row_order import RowOrder, in_turn
from hamdist.streams.sample import tensor_of
from hamdist.streams.settings import existing_file, held_out_rows
from hamdist.streams.stream import Batch, make_batch


class Arrays(Counted):
    """Rows of an array of inputs [N, ...] and, if there is one, of an array of targets [N, ...].

    An .npy file is mapped into memory: of it only the rows of a batch are read. An .npz file is read whole.

    inputs:      path of an .npy or .npz file
    targets:     likewise; None: the targets are in the .npz file of the inputs, and with an .npy file there are none
    inputs_key:  name of the array of inputs in an .npz file
    targets_key: name of the array of targets in an .npz file; None: there are no targets in the inputs' file
    holdout:     which fraction of the rows to hold out, from the end
    """

    def __init__(
        self,
        inputs: str | Path,
        targets: str | Path | None = None,
        inputs_key: str = "x",
        targets_key: str | None = "y",
        batch_size: int = 16,
        samples: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        holdout: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        file = existing_file("inputs", inputs)
        self._inputs = open_array("inputs", file, inputs_key)
        self._targets = self._open_targets(file, targets, targets_key)
        self._streamed = len(self._inputs) - held_out_rows(holdout, len(self._inputs))
        self._order = RowOrder(self._streamed, batch_size, samples, shuffle, seed)
        self._dtype = dtype
        self.samples = self._order.presented

    def _after(self, start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
        return counted(map(self._fetch, self._order.batches(start.taken)), start)

    def _facts(self) -> dict[str, Any]:
        return self._order.facts

    def holdout(self) -> Iterator[Batch] | None:
        if self._streamed == len(self._inputs):
            return None
        return map(self._fetch, in_turn(self._streamed, len(self._inputs), self._order.batch_size))

    def _open_targets(self, inputs: Path, targets: str | Path | None, key: str | None) -> np.ndarray | None:
        if targets is None and (key is None or inputs.suffix != ".npz"):
            return None
        file = existing_file("targets", inputs if targets is None else targets)
        found = open_array("targets", file, key or "y")
        if len(found) != len(self._inputs):
            lengths = f"{len(found)} rows, where the inputs have {len(self._inputs)}"
            raise StreamError(Problem("targets", f"{file} has {lengths}"))
        return found

    def _fetch(self, rows: np.ndarray) -> Batch:
        inputs = tensor_of(self._inputs[rows], "inputs")
        targets = None if self._targets is None else tensor_of(self._targets[rows], "targets")
        return make_batch(inputs, targets, self._dtype)


def open_array(setting: str, path: Path, key: str) -> np.ndarray:
    """The array in an .npy file, mapped into memory, or the one called `key` in an .npz file; it holds numbers."""
    if path.suffix not in (".npy", ".npz"):
        raise StreamError(Problem(setting, f"{path} is neither an .npy nor an .npz file"))
    try:
        array = np.load(path, mmap_mode="r") if path.suffix == ".npy" else _from_npz(setting, path, key)
    except StreamError:
        raise
    except Exception as error:  # a file may be wrong in any way
        raise StreamError(
            Problem(setting, f"{path} cannot be read: {error or type(error).__name__}")
        ) from error
    if array.dtype.kind not in "biufc" or array.ndim == 0:
        shape = f"shape {array.shape} and dtype {array.dtype}"
        raise StreamError(Problem(setting, f"{path} has {shape}; expected rows of numbers, [N, ...]"))
    return array.view(np.ndarray)  # still mapped


def _from_npz(setting: str, path: Path, key: str) -> np.ndarray:
    keys = keys_of(path)
    if key in keys:
        return read_member(path, key)
    message = f"{path} has no array {key!r}; it has {listed(keys)}{did_you_mean(key, keys)}"
    if setting == "targets":
        message += " (targets_key: null for a stream without targets)"
    raise StreamError(Problem(f"{setting}_key", message))
