"""A guard around any stream, so that what is behind it can rely on what comes out."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hamdist.errors import StreamError
from hamdist.streams.form import SampleForm, form_of_rows, form_told, require_same_form, told_form
from hamdist.streams.missing import NO_FORM, REMEDY, missing_rows, nothing
from hamdist.streams.not_finite import Odd, odd_in, odd_in_targets, with_one_more
from hamdist.streams.position import check_state, count, counts, state_of
from hamdist.streams.stream import Batch, Stream
from hamdist.streams.wrapped import Wrapped


class Checked(Wrapped):
    """The same stream, with a StreamError where it breaks a promise.

    It is empty, changes shape or dtype, has targets now and then, holds a NaN or
    an infinity, has batches of unequal size before the last, or restart flags that are not one a row.

    on_bad: "stop": a batch that is not finite is a mistake; "skip": it is left out, as a whole, and counted.
    missing_target: "refuse": a target that is NaN is a mistake; "predict": as a whole it may be, and is missing. The
    class −100 says so in either case.
    """

    def __init__(self, stream: Stream, missing_target: str = "refuse", on_bad: str = "stop") -> None:
        super().__init__(stream)
        self._missing_target = missing_target
        self._leave_out = self._left_out if on_bad == "skip" else None
        self._skipped: Mapping[str, int] = {}
        self._any = False  # batches that were handed out
        self._number = 0  # of the next sample
        self._form: SampleForm | None = None
        self._loaded = False

    @property
    def skipped(self) -> Mapping[str, int]:
        own = self._skipped
        inner = super().skipped
        return {what: own.get(what, 0) + inner.get(what, 0) for what in {**inner, **own}}

    def __iter__(self) -> Iterator[Batch]:
        if not self._loaded:
            self._number, self._form, self._skipped, self._any = 0, None, {}, False
        self._loaded = False
        return self._guarded(iter(self._stream))

    def _guarded(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        known = self._number, self._form, self._leave_out
        for batch in guarded(batches, "sample", self._missing_target, *known):
            self._number += len(batch.inputs)
            self._form = self._form or form_of_rows(batch.inputs, batch.targets)
            self._any = True
            yield batch
        if not self._any:
            left_out = sum(self.skipped.values())
            why = f", but for {left_out} samples that are not finite and were left out" if left_out else ""
            raise StreamError(f"the stream is empty{why}; expected one sample at least")

    def _left_out(self, odd: Odd, where: str, rows: int) -> None:
        self._skipped = with_one_more(self._skipped, odd, where, rows)
        self._number += rows

    def state_dict(self) -> dict[str, Any]:
        told = {"samples": self._number, "form": form_told(self._form), "skipped": self._skipped}
        return {"stream": self._stream.state_dict(), **told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_state(state, self.state_dict(), {})
        with state_of(type(self).__name__):
            number, form, skipped = (
                count(state["samples"]),
                told_form(state["form"]),
                counts(state["skipped"]),
            )
        self._stream.load_state_dict(state["stream"])
        self._number, self._form, self._loaded = number, form, True
        self._skipped, self._any = skipped, number > sum(skipped.values())

    def holdout(self) -> Iterator[Batch] | None:
        held_out = self._stream.holdout()
        if held_out is None:
            return None
        leave_out = self._left_out_of_holdout if self._leave_out else None
        return guarded(held_out, "hold-out sample", self._missing_target, leave_out=leave_out)

    def _left_out_of_holdout(self, odd: Odd, where: str, rows: int) -> None:
        kind = odd._replace(what=f"hold-out {odd.what}")
        self._skipped = with_one_more(self._skipped, kind, where, rows)


def guarded(
    batches: Iterator[Batch],
    noun: str,
    missing_target: str = "refuse",
    number: int = 0,
    form: SampleForm | None = None,
    leave_out: Callable[[Odd, str, int], None] | None = None,
) -> Iterator[Batch]:
    """The batches, each after its checks; errors call a sample `noun` and its number.

    number: of the first.  form: of those before, if there were any.  leave_out: is told of a batch that is not finite,
    by the sample in which it is not and its rows; None: it is a mistake.
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
        odd = _odd(batch, noun, number, missing_target)
        if odd is not None and leave_out is None:
            raise StreamError(f"{noun} {number + odd.row}: {odd.told}; expected finite numbers")
        if batch.restarts is not None:
            check_flags(batch.restarts, rows, where)
        if odd is None:
            yield batch
        elif leave_out is not None:
            leave_out(odd, f"{noun} {number + odd.row}", rows)
        number, last = number + rows, rows


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


def _odd(batch: Batch, noun: str, number: int, missing_target: str) -> Odd | None:
    """What of it is not finite. Raises StreamError for a target that is missing where none may be."""
    odd = odd_in(batch.inputs, "input")
    if odd is not None or batch.targets is None:
        return odd
    missing = missing_rows(batch.targets)
    if missing_target != "predict" and missing.any():
        row = int(missing.nonzero()[0])
        raise StreamError(f"{noun} {number + row}: the target is missing (nan); {REMEDY}")
    return odd_in_targets(batch.targets)
