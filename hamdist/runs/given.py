"""What a caller of a Learner gives, arrays, lists or tensors, as tensors of one form: that of the first batch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hamdist.errors import StreamError
from hamdist.network.losses import LossSpec, called
from hamdist.network.target_parts import Part, packed, parts_of
from hamdist.streams.checked import check_flags
from hamdist.streams.form import SampleForm, TensorForm, form_of_rows, require_same_form
from hamdist.streams.missing import NO_FORM, is_missing, missing_rows, nothing, with_gaps
from hamdist.streams.sample import rows_of
from hamdist.streams.stream import as_target

Told = dict[str, list[Any] | None]


class GivenBatch(NamedTuple):
    """A batch: inputs [R, …], targets [R, …], and flags [R] where episodes begin in it."""

    inputs: Tensor
    targets: Tensor
    restarts: Tensor | None


class Reader:
    """Reads batches; whatever is wrong with one is a StreamError that begins with `where`.

    losses: by node.  dtype: of floating numbers.  first: the batch that all others are like, once it was taken.
    """

    def __init__(self, losses: Mapping[str, LossSpec], dtype: torch.dtype) -> None:
        self.losses = losses  # with their parts of the targets, once those are known
        self._dtype = dtype
        self.first: GivenBatch | None = None
        self._form: SampleForm | None = None

    def keep(self, first: GivenBatch) -> None:
        """From now on batches are as this one, which was taken: of its form, and on its device."""
        self.first = GivenBatch(first.inputs.clone(), first.targets.clone(), None)
        self._form = form_of_rows(first.inputs, first.targets)

    @classmethod
    def resumed(
        cls, losses: Mapping[str, LossSpec], dtype: torch.dtype, told: Told, first: Sequence[Tensor]
    ) -> "Reader":
        """One that goes on as another did, of which this was told, and whose first batch these tensors were."""
        parts = {node: None if part is None else Part.of_told(part) for node, part in told.items()}
        reader = cls({node: replace(spec, part=parts[node]) for node, spec in losses.items()}, dtype)
        inputs, targets = first
        reader.keep(GivenBatch(inputs, targets, None))
        return reader

    def told(self) -> Told:
        """As JSON, by loss: which part of the targets is its own."""
        return {node: None if spec.part is None else spec.part.told() for node, spec in self.losses.items()}

    def alike(self, other: "Reader") -> bool:
        """Whether both have begun with batches of one form, on one device."""
        return self.first is not None and other.first is not None and self._shape() == other._shape()

    def _shape(self) -> Any:
        assert self.first is not None
        tensors = [(t.shape, t.dtype, t.device) for t in self.first[:2]]
        return tensors, {node: spec.part for node, spec in self.losses.items()}

    def batch(self, batch: Any, where: str) -> GivenBatch:
        """That of (x, target) or (x, target, restart)."""
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            got = f"a {type(batch).__name__}" + (
                f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            )
            raise StreamError(f"{where}: a batch is (x, target) or (x, target, restart), not {got}")
        inputs = self._x(batch[0], where)
        targets = self._targets(batch[1], len(inputs), where)
        if len(inputs) != len(targets):
            raise StreamError(f"{where}: {len(inputs)} rows of x, but {len(targets)} of target")
        form = form_of_rows(inputs, targets)
        require_same_form(self._form or form, form, where)
        return GivenBatch(
            inputs, targets, self._flags(batch[2] if len(batch) == 3 else None, len(inputs), where)
        )

    def inputs(self, given: Iterable[Any], noun: str) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Inputs alone, each x or (x, restart), with its flags; once the form is known."""
        assert self._form is not None
        for number, item in enumerate(given):
            where = f"{noun} {number}"
            x, restart = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
            rows = self._x(x, where)
            require_same_form(
                self._form, SampleForm(form_of_rows(rows, None).inputs, self._form.targets), where
            )
            yield rows, self._flags(restart, len(rows), where)

    def held_out(self, batches: Iterable[Any], full: int, remembers: bool) -> Iterator[GivenBatch]:
        """Hold-out batches, in pieces of the rows of a full batch.  remembers: whether there are memories, which have
        as many rows as what they began with."""
        last = 0
        for number, batch in enumerate(batches):
            where = f"hold-out batch {number}"
            inputs, targets, flags = self.batch(batch, where)
            rows, begins = len(inputs), flags is not None and bool(flags.all())
            if remembers and not begins and (rows > full or (last and rows != last)):
                raise StreamError(
                    f"{where}: {rows} rows, where memories have {last or full}: give sequences of at most {full} rows, "
                    "one after another, each with restart=True at its start"
                )
            last = min(rows, full)
            pieces = inputs.split(full), targets.split(full)
            split = [None] * len(pieces[0]) if flags is None else flags.split(full)
            yield from map(GivenBatch, *pieces, split)

    # Targets

    def _targets(self, target: Any, rows: int, where: str) -> Tensor:
        """Those of all losses; where each has its own, packed."""
        if isinstance(target, Mapping):
            return packed(self._own_targets(target, rows, where))
        if self._form is None:
            self.losses = {node: replace(spec, part=None) for node, spec in self.losses.items()}
        if target is not None and any(spec.part for spec in self.losses.values()):
            raise StreamError(
                f"{where}: targets are given by loss, {{name: target}}, as the first batch had them"
            )
        if _is_missing(target):
            return self._nothing(rows, f"{where}: target")
        return self._target(target, f"{where}: target", self._form and self._form.targets)

    def _target(self, target: Any, what: str, form: TensorForm | None) -> Tensor:
        """That of one loss, in which rows may be missing."""
        told = with_gaps(target) if isinstance(target, list | tuple) else target
        return as_target(self._tensor(told, what, form, may_be_missing=True))

    def _nothing(self, rows: int, what: str) -> Tensor:
        """Rows without a target, of the form that the first batch had."""
        if self._form is None or self._form.targets is None or self.first is None:
            raise StreamError(f"{what} is missing: {NO_FORM}")
        parts = {node: spec.part for node, spec in self.losses.items() if spec.part is not None}
        if parts:
            return packed({node: self._absent(part, rows) for node, part in parts.items()})
        return self._absent(self._form.targets, rows)

    def _absent(self, form: TensorForm | Part, rows: int) -> Tensor:
        assert self.first is not None
        return nothing((rows, *form.shape), form.dtype).to(self.first.inputs.device)

    def _own_targets(self, target: Mapping[Any, Any], rows: int, where: str) -> dict[str, Tensor]:
        """The targets by the node of their loss; at first they say which part of packed ones is whose."""
        names = self._names(target, where)
        own = {
            node: self._own_target(node, target[name], rows, f"{where}: target {name!r}")
            for node, name in names.items()
        }
        lengths = [len(each) for each in own.values()]
        if len(set(lengths)) > 1:
            raise StreamError(f"{where}: targets of {', '.join(map(str, lengths))} rows")
        parts = parts_of(own)
        if self._form is None:
            self.losses = {node: replace(spec, part=parts[node]) for node, spec in self.losses.items()}
        for node, name in names.items():
            if (expected := self.losses[node].part) != parts[node]:
                was = "the same for all losses" if expected is None else f"of {expected}"
                raise StreamError(f"{where}: target {name!r} is of {parts[node]}, where it was {was} before")
        return own

    def _own_target(self, node: str, target: Any, rows: int, what: str) -> Tensor:
        part = self.losses[node].part
        if not _is_missing(target):
            return self._target(target, what, None)
        if part is None or self.first is None:
            raise StreamError(f"{what} is missing: {NO_FORM}")
        return self._absent(part, rows)

    def _names(self, target: Mapping[Any, Any], where: str) -> dict[str, str]:
        """What these targets call the losses, by node: what users call them, or the nodes."""
        names = {node: called(node, spec) for node, spec in self.losses.items()}
        if target.keys() == names.keys():
            return {node: node for node in names}
        if target.keys() != set(names.values()):
            given, known = ", ".join(map(str, target)), ", ".join(names.values())
            raise StreamError(f"{where}: targets of {given or 'nothing'}, where the losses are {known}")
        return names

    # Tensors

    def _x(self, x: Any, where: str) -> Tensor:
        """Inputs, where booleans are numbers, as those of streams are."""
        inputs = self._tensor(x, f"{where}: x", self._form and self._form.inputs)
        return inputs.to(self._dtype) if inputs.dtype == torch.bool else inputs

    def _flags(self, restart: Any, rows: int, where: str) -> Tensor | None:
        """One flag a row; None where there is none."""
        if restart is None or restart is False:
            return None
        try:
            flags = torch.as_tensor(restart)
        except (TypeError, ValueError, RuntimeError):
            raise StreamError(f"{where}: restart is a flag, or one a row, not {restart!r}") from None
        if flags.dim() == 0 and flags.dtype == torch.bool:
            return torch.full((rows,), True) if flags else None
        check_flags(flags, rows, where)
        return flags.cpu()

    def _tensor(
        self, values: Any, what: str, form: TensorForm | None = None, may_be_missing: bool = False
    ) -> Tensor:
        """A tensor of the network's dtype where it is floating, on its device; batches have their rows first.

        form: of a row, where it is known: a list of whole numbers is floating where numbers are.  may_be_missing:
        rows may be NaN as a whole.
        """
        tensor = rows_of(values, what)
        _check_kind(tensor, what)
        listed = not isinstance(values, Tensor | np.ndarray)
        floats = listed and form is not None and form.dtype.is_floating_point and not tensor.is_complex()
        if tensor.is_floating_point() or floats:
            tensor = tensor.to(self._dtype)
            finite = torch.isfinite(tensor)
            if not finite.all() and not (may_be_missing and finite[~missing_rows(tensor)].all()):
                raise StreamError(f"{what} holds values that are not finite")
        return tensor if self.first is None else tensor.to(self.first.inputs.device)


def _is_missing(target: Any) -> bool:
    """Whether there is no target for any row; tensors and arrays say it row by row."""
    return target is None or (isinstance(target, list | tuple | float) and is_missing(target))


def _check_kind(tensor: Tensor, what: str) -> None:
    """Raises StreamError for what is no batch of numbers that are at hand."""
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise StreamError(f"{what} is a {kind} tensor: give a dense one, with one shape for all rows")
    if tensor.is_quantized or tensor.is_meta:
        kind, remedy = (
            ("quantised", "its dequantize()") if tensor.is_quantized else ("meta", "one with numbers")
        )
        raise StreamError(f"{what} is a {kind} tensor: give {remedy}")
    if tensor.dim() == 0:
        raise StreamError(f"{what} must be a batch, its first dimension the rows, not a single number")
    if not len(tensor):
        raise StreamError(f"{what} has no rows: a batch has one at least")
