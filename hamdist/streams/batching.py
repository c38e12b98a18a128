"""Single samples into batches."""

from collections.abc import Iterable, Iterator
from itertools import islice

import torch

from hamdist.streams.form import SampleForm, form_of_sample, require_same_form
from hamdist.streams.sample import Sample
from hamdist.streams.stream import Batch, make_batch


def in_batches(
    samples: Iterable[Sample], batch_size: int, limit: int | None, dtype: torch.dtype
) -> Iterator[Batch]:
    """Batches of `batch_size` samples, each handed out as soon as it is full, until `limit` samples were taken.

    A sample whose form differs from the first one's is a StreamError with its number.
    """
    form: SampleForm | None = None
    waiting: list[Sample] = []
    for number, sample in enumerate(islice(samples, limit)):
        now = form_of_sample(sample.inputs, sample.targets)
        form = form or now
        require_same_form(
            form, now, f"{sample.place}: sample {number}" if sample.place else f"sample {number}"
        )
        waiting.append(sample)
        if len(waiting) == batch_size:
            yield _stack(waiting, dtype)
            waiting = []
    if waiting:
        yield _stack(waiting, dtype)


def _stack(samples: list[Sample], dtype: torch.dtype) -> Batch:
    inputs = torch.stack([sample.inputs for sample in samples])
    targets = [sample.targets for sample in samples if sample.targets is not None]
    flags = [sample.restart for sample in samples]
    restarts = torch.tensor(flags) if any(flags) else None
    batch = make_batch(inputs, torch.stack(targets) if targets else None, dtype, restarts)
    return batch._replace(arrivals=tuple(s.arrived for s in samples if s.arrived is not None))
