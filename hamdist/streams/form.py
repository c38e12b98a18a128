"""The form of a stream's samples, shape and dtype, which must not change midway."""

from typing import NamedTuple

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


def _form(shape: torch.Size, values: Tensor) -> TensorForm:
    return TensorForm(tuple(shape), values.dtype)
