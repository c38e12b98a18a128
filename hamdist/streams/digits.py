"""Handwritten digits: 1797 images of 8×8 pixels in ten classes, in the order of scikit-learn's `load_digits`.

The test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49, licensed under CC BY 4.0; digits.npz holds it, compressed.
"""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import torch

from hamdist.streams.position import Counted, Reading, counted
from hamdist.streams.row_order import RowOrder, in_turn
from hamdist.streams.settings import held_out_rows
from hamdist.streams.stream import Batch, make_batch

MEAN, DEVIATION = 4.884, 6.017
"""Of the pixels of all images, which are 0 … 16."""


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """The pixels of all images, [1797, 64] float64 with whole numbers 0 … 16, and their classes, [1797] int64."""
    with files("hamdist.streams").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        return arrays["pixels"].astype(np.float64), arrays["labels"].astype(np.int64)


class Digits(Counted):
    """Images with pixels of mean 0 and deviation 1, [R, 64] or, not `flat`, [R, 1, 8, 8]; classes [R].

    Which images are held out depends on the seed: a mean over seeds is one over hold-outs, too.
    """

    classes = 10

    def __init__(
        self,
        batch_size: int = 16,
        samples: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        holdout: float = 0.2,
        flat: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        pixels, labels = load_digits()
        rows = np.random.default_rng(seed).permutation(len(labels))
        shape = (64,) if flat else (1, 8, 8)
        images = ((pixels[rows] - MEAN) / DEVIATION).reshape(-1, *shape)
        self._data = make_batch(torch.from_numpy(images), torch.from_numpy(labels[rows]), dtype)
        self._streamed = len(rows) - held_out_rows(holdout, len(rows))
        self._order = RowOrder(self._streamed, batch_size, samples, shuffle, seed)
        self.samples = self._order.presented

    def _after(self, start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
        return counted(map(self._fetch, self._order.batches(start.taken)), start)

    def _facts(self) -> dict[str, Any]:
        return {**self._order.facts, "seed": self._order.seed}  # which draws the hold-out, too

    def holdout(self) -> Iterator[Batch] | None:
        total = len(self._data.inputs)
        if self._streamed == total:
            return None
        return map(self._fetch, in_turn(self._streamed, total, self._order.batch_size))

    def _fetch(self, rows: np.ndarray) -> Batch:
        assert self._data.targets is not None
        chosen = torch.from_numpy(rows)
        return Batch(self._data.inputs[chosen], self._data.targets[chosen])
