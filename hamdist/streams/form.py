"""The form of a stream's samples, shape and dtype, which must not change midway."""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hamdist.errors import StreamError
from hamdist.streams.missing import REMEDY


class TensorForm(NamedTuple):
    """What one sample's inputs or targets look like."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"shape {self.shape} and {str(self.dtype).removeprefix('torch.')}"


class SampleForm(NamedTuple):
    """What one sample looks like; `targets` is None where there are none."""

    inputs: TensorForm
    targets: TensorForm | None


def form_of_sample(inputs: Tensor, targets: Tensor | None) -> SampleForm:
    """The form of one sample."""
    return SampleForm(_form(inputs.shape, inputs), None if targets is None else _form(targets.shape, targets))


def form_of_rows(inputs: Tensor, targets: Tensor | None) -> SampleForm:
    """The form of a batch's rows, [R, ...]."""
    return SampleForm(
        _form(inputs.shape[1:], inputs), None if targets is None else _form(targets.shape[1:], targets)
    )


def require_same_form(was: SampleForm, now: SampleForm, where: str) -> None:
    """StreamError that says at which sample (`where`) what changed, what it was and what it is."""
    if was == now:
        return
    if was.inputs != now.inputs:
        raise StreamError(f"{where}: the input has {now.inputs}, where it had {was.inputs} before")
    if now.targets is None or was.targets is None:
        if now.targets is None:
            raise StreamError(f"{where} has no target, where the samples before had one; {REMEDY}")
        raise StreamError(f"{where} has a target, where the samples before had none")
    raise StreamError(f"{where}: the target has {now.targets}, where it had {was.targets} before")


@lru_cache(maxsize=8)
def form_told(form: SampleForm | None) -> dict[str, Any] | None:
    """As numbers and text, not to be written into."""
    return None if form is None else {name: _told(each) for name, each in form._asdict().items()}


def told_form(told: Any) -> SampleForm | None:
    """The form of what `form_told` gave. Raises KeyError, TypeError, ValueError, AttributeError for anything else."""
    if told is None:
        return None
    inputs, targets = _told_form(told["inputs"]), _told_form(told["targets"])
    if inputs is None:
        raise ValueError("a form without inputs")
    return SampleForm(inputs, targets)


def _told(form: TensorForm | None) -> dict[str, Any] | None:
    if form is None:
        return None
    return {"shape": list(form.shape), "dtype": str(form.dtype).removeprefix("torch.")}


def _told_form(told: Any) -> TensorForm | None:
    if told is None:
        return None
    dtype = getattr(torch, told["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{told['dtype']!r} is no dtype")
    return TensorForm(tuple(int(size) for size in told["shape"]), dtype)


def _form(shape: torch.Size, values: Tensor) -> TensorForm:
    return TensorForm(tuple(shape), values.dtype)
