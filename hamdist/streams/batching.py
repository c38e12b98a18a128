"""Single samples into batches."""

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from hamdist.errors import StreamError
from hamdist.streams.form import SampleForm, TensorForm, form_of_sample, require_same_form
from hamdist.streams.missing import NO_FORM, REMEDY, nothing
from hamdist.streams.not_finite import odd_in_sample, with_one_more
from hamdist.streams.position import Reading
from hamdist.streams.sample import Sample
from hamdist.streams.stream import Batch, make_batch

START = Reading()


def in_batches(
    samples: Iterable[Sample],
    batch_size: int,
    limit: int | None,
    dtype: torch.dtype,
    missing_target: str = "refuse",
    start: Reading = START,
    skips: bool = False,
) -> Iterator[tuple[Batch | None, Reading]]:
    """Batches of `batch_size` samples, each handed out as soon as it is full, until `limit` samples were taken; and
    where each of them ends.

    samples: those after `start`.  skips: whether those that are not finite are left out; where any were after the last
    batch, no batch comes with where that ends.

    A sample whose form differs from the first one's is a StreamError with its number. So is one that has no target,
    where others have one, unless these are to be predicted; a stream may also have none at all.
    """
    form, skipped = start.form, start.skipped
    waiting: list[Sample] = []
    number = start.taken - 1
    left = None if limit is None else max(limit - start.taken, 0)
    for number, sample in enumerate(islice(samples, left), start.taken):
        where = f"{sample.place}: sample {number}" if sample.place else f"sample {number}"
        now = form_of_sample(sample.inputs, sample.targets)
        form = form or now
        if missing_target == "predict":
            form, now = _but_for_missing(form, now)
        elif sample.missing:
            raise StreamError(f"{where}: the target is missing; {REMEDY}")
        require_same_form(form, now, where)
        if skips and (odd := odd_in_sample(sample.inputs, sample.targets)):
            skipped = with_one_more(skipped, odd, where)
            continue
        waiting.append(sample)
        if len(waiting) == batch_size:
            batch = _stack(waiting, dtype, form.targets, where, missing_target)
            yield batch, Reading(number + 1, form, skipped)
            waiting = []
    if waiting:
        assert form is not None
        batch = _stack(waiting, dtype, form.targets, where, missing_target)
        yield batch, Reading(number + 1, form, skipped)
    elif skips:
        yield None, Reading(number + 1, form, skipped)


def _but_for_missing(form: SampleForm, now: SampleForm) -> tuple[SampleForm, SampleForm]:
    """Both, with the target of the other where one has none."""
    return (
        form._replace(targets=form.targets or now.targets),
        now._replace(targets=now.targets or form.targets),
    )


def _stack(
    samples: list[Sample], dtype: torch.dtype, form: TensorForm | None, where: str, missing_target: str
) -> Batch:
    """form: of a target.  where: the last sample's place."""
    if form is None and missing_target == "predict":
        raise StreamError(f"{where}: {NO_FORM}")
    inputs = torch.stack([sample.inputs for sample in samples])
    targets = None if form is None else torch.stack([_target(sample, form) for sample in samples])
    flags = [sample.restart for sample in samples]
    restarts = torch.tensor(flags) if any(flags) else None
    batch = make_batch(inputs, targets, dtype, restarts)
    return batch._replace(arrivals=tuple(s.arrived for s in samples if s.arrived is not None))


def _target(sample: Sample, form: TensorForm) -> Tensor:
    return nothing(form.shape, form.dtype) if sample.targets is None else sample.targets
