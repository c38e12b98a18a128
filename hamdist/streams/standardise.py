"""Online standardisation: every feature to zero mean and unit variance, as far as is known by then."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hamdist.errors import StreamError
from hamdist.streams.position import check_state, count, state_of
from hamdist.streams.stream import Batch, Stream
from hamdist.streams.wrapped import Wrapped


@dataclass(frozen=True)
class Moments:
    """How many samples there were; of each feature, the mean and the sum of squared deviations from it, float64."""

    count: int
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Moments":
        """Those of a state. Raises KeyError, TypeError, ValueError, StreamError."""
        mean, squares = (np.asarray(told[key], dtype=np.float64) for key in ("mean", "squares"))
        if mean.shape != squares.shape:
            raise ValueError(f"means of {mean.shape}, and squares of {squares.shape}")
        return cls(count(told["count"]), mean, squares)

    def with_batch(self, inputs: Tensor) -> "Moments":
        """The moments after the rows of a batch, [R, ...], R ≥ 1.

        Welford's update, for a batch (Chan, Golub and LeVeque): deviations are taken from the mean so far, or at
        first from the first row, so that a constant feature has no variance at all, not even by rounding.
        """
        rows = inputs.double().numpy(force=True)
        origin = self.mean if self.count else rows[0]
        deviations = rows - origin
        shift = deviations.sum(axis=0) / len(rows)
        count = self.count + len(rows)
        within = np.square(deviations - shift).sum(axis=0)
        between = np.square(shift) * (self.count * len(rows) / count)
        return Moments(count, origin + shift * (len(rows) / count), self.squares + within + between)

    def standardise(self, inputs: Tensor) -> Tensor:
        """(x − mean) / √variance as float64, with the population's variance; 0 where the variance is 0."""
        deviations = inputs.double().numpy(force=True) - self.mean
        spread = np.sqrt(self.squares / max(self.count, 1))
        scaled = np.divide(deviations, spread, out=np.zeros_like(deviations), where=spread > 0)
        return torch.from_numpy(scaled).to(inputs.device)


class Standardise(Wrapped):
    """The same stream with standardised inputs.

    A batch updates the moments with all its rows and is transformed with the updated ones; the numbers are
    those of River's StandardScaler, learn_one or learn_many first and transform_one or transform_many then. A
    hold-out is transformed with the moments reached when it is asked for, and leaves them alone.

    dtype: that of the inputs, and of targets that are numbers, in the end; None: as they come. What the stream has lost
    by its own dtype is lost: seconds since 1970 need a stream of float64.
    """

    def __init__(self, stream: Stream, dtype: torch.dtype | None = None) -> None:
        super().__init__(stream)
        self._dtype = dtype
        self._moments: Moments | None = None
        self._loaded = False

    def __iter__(self) -> Iterator[Batch]:
        if not self._loaded:
            self._moments = None
        self._loaded = False
        return self._batches(iter(self._stream))

    def _batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            known = self._moments or nothing_known(batch.inputs)
            self._moments = known.with_batch(batch.inputs)
            yield self._standardised(batch, self._moments)

    def state_dict(self) -> dict[str, Any]:
        told = None if self._moments is None else vars(self._moments).copy()
        return {"stream": self._stream.state_dict(), "moments": told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, {"stream": {}, "moments": None}, {})
        with state_of(type(self).__name__):
            told = state["moments"]
            moments = None if told is None else Moments.of(told)
        self._stream.load_state_dict(state["stream"])
        self._moments, self._loaded = moments, True

    def holdout(self) -> Iterator[Batch] | None:
        held_out, moments = self._stream.holdout(), self._moments
        if held_out is None:
            return None
        return (self._standardised(batch, moments or nothing_known(batch.inputs)) for batch in held_out)

    def _standardised(self, batch: Batch, moments: Moments) -> Batch:
        targets = batch.targets
        if targets is not None and targets.is_floating_point():
            targets = targets.to(self._dtype or targets.dtype)
        inputs = moments.standardise(batch.inputs).to(self._dtype or batch.inputs.dtype)
        return batch._replace(inputs=inputs, targets=targets)


def nothing_known(inputs: Tensor) -> Moments:
    """The moments before the first sample of inputs like these, [R, ...]."""
    if not inputs.is_floating_point():
        raise StreamError(f"standardise needs floating inputs, and these are {inputs.dtype}; leave it out")
    zeros = np.zeros(inputs.shape[1:])
    return Moments(0, zeros, zeros)
