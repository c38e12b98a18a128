"""A guard around any stream, so that what is behind it can rely on what comes out."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hamdist.errors import StreamError
from hamdist.streams.form import SampleForm, form_of_rows, form_told, require_same_form, told_form
from hamdist.streams.missing import NO_FORM, REMEDY, missing_rows, nothing
from hamdist.streams.position import check_state, count, state_of
from hamdist.streams.stream import Batch, Stream


class Checked(Stream):
    """The same stream, with a StreamError where it breaks a promise.

    It is empty, changes shape or dtype, has targets now and then, holds a NaN or
    an infinity, has batches of unequal size before the last, or restart flags that are not one a row.

    missing_target: "refuse": a target that is NaN is a mistake; "predict": as a whole it may be, and is missing. The
    class −100 says so in either case.
    """

    def __init__(self, stream: Stream, missing_target: str = "refuse") -> None:
        self._stream, self._missing_target = stream, missing_target
        self.samples, self.classes, self.live = stream.samples, stream.classes, stream.live
        self._number = 0  # of the next sample
        self._form: SampleForm | None = None
        self._loaded = False

    @property
    def seeks(self) -> bool:
        return self._stream.seeks

    @property
    def taken(self) -> int:
        return self._stream.taken

    @property
    def skipped(self) -> Mapping[str, int]:
        return self._stream.skipped

    def __iter__(self) -> Iterator[Batch]:
        if not self._loaded:
            self._number, self._form = 0, None
        self._loaded = False
        return self._guarded(iter(self._stream))

    def _guarded(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in guarded(batches, "sample", self._missing_target, self._number, self._form):
            self._number += len(batch.inputs)
            self._form = self._form or form_of_rows(batch.inputs, batch.targets)
            yield batch
        if self._number == 0:
            raise StreamError("the stream is empty; expected one sample at least")

    def state_dict(self) -> dict[str, Any]:
        told = {"samples": self._number, "form": form_told(self._form)}
        return {"stream": self._stream.state_dict(), **told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, self.state_dict(), {})
        with state_of(type(self).__name__):
            number, form = count(state["samples"]), told_form(state["form"])
        self._stream.load_state_dict(state["stream"])
        self._number, self._form, self._loaded = number, form, True

    @property
    def available(self) -> int | None:
        return self._stream.available

    def holdout(self) -> Iterator[Batch] | None:
        held_out = self._stream.holdout()
        return None if held_out is None else guarded(held_out, "hold-out sample", self._missing_target)


def guarded(
    batches: Iterator[Batch],
    noun: str,
    missing_target: str = "refuse",
    number: int = 0,
    form: SampleForm | None = None,
) -> Iterator[Batch]:
    """The batches, each after its checks; errors call a sample `noun` and its number.

    number: of the first.  form: of those before, if there were any.
    """
    full: int | None = None
    last: int | None = None
    for batch in batches:
        rows, where = len(batch.inputs), f"{noun} {number}"
        if missing_target == "predict" and batch.targets is None:
            batch = _with_nothing(batch, form, where)
        form = form or form_of_rows(batch.inputs, batch.targets)
        _check_form(batch, form, where)
        full = full or rows
        _check_rows(rows, last or full, full, where)
        _check_finite(batch.inputs, "input", noun, number)
        if batch.targets is not None:
            _check_targets(batch.targets, noun, number, missing_target)
        if batch.restarts is not None:
            check_flags(batch.restarts, rows, where)
        number, last = number + rows, rows
        yield batch


def check_flags(restarts: Tensor, rows: int, where: str) -> None:
    """StreamError where restart flags are not booleans, one a row."""
    if restarts.dtype != torch.bool or restarts.shape != (rows,):
        given = f"{list(restarts.shape)} {str(restarts.dtype).removeprefix('torch.')}"
        raise StreamError(
            f"{where}: restart flags of {given}, where {rows} booleans, one a row, are expected"
        )


def _check_form(batch: Batch, form: SampleForm, where: str) -> None:
    require_same_form(form, form_of_rows(batch.inputs, batch.targets), where)
    if batch.targets is not None and len(batch.targets) != len(batch.inputs):
        lengths = f"{len(batch.inputs)} rows of inputs and {len(batch.targets)} of targets"
        raise StreamError(f"{where}: a batch of {lengths}; expected as many of either")


def _check_rows(rows: int, last: int, full: int, where: str) -> None:
    if not rows:
        raise StreamError(f"{where}: a batch of 0 rows; expected one at least")
    if rows > full or last < full:
        odd = rows if rows > full else last
        raise StreamError(
            f"{where}: a batch of {odd} where the first one had {full}; only the last batch may be shorter "
            "(drop_last=True in a DataLoader)"
        )


def _with_nothing(batch: Batch, form: SampleForm | None, where: str) -> Batch:
    """A batch whose targets are missing, in the form of those before."""
    if form is None or form.targets is None:
        raise StreamError(f"{where}: {NO_FORM}")
    return batch._replace(targets=nothing((len(batch.inputs), *form.targets.shape), form.targets.dtype))


def _check_targets(targets: Tensor, noun: str, number: int, missing_target: str) -> None:
    """They are finite, or NaN in whole rows where targets may be missing."""
    missing = missing_rows(targets)
    if not missing.any():
        _check_finite(targets, "target", noun, number)
    elif missing_target == "predict":
        _check_finite(
            targets.masked_fill(missing.reshape(-1, *[1] * (targets.dim() - 1)), 0), "target", noun, number
        )
    else:
        row = int(missing.nonzero()[0])
        raise StreamError(f"{noun} {number + row}: the target is missing (nan); {REMEDY}")


def _check_finite(values: Tensor, what: str, noun: str, number: int) -> None:
    if not values.is_floating_point() or math.isfinite(values.sum()):
        return
    if not (values - values).any():  # all are finite, and it is their sum that is too large
        return
    row, *index = torch.nonzero(~torch.isfinite(values))[0].tolist()
    feature = index[0] if len(index) == 1 else tuple(index)
    value = values[(row, *index)].item()
    raise StreamError(
        f"{noun} {number + row}: feature {feature} of the {what} is {value}; expected finite numbers"
    )
