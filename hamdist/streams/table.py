"""Rows of a table into samples: what CSV and Parquet share."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hamdist.errors import Problem, StreamError, did_you_mean
from hamdist.streams.batching import in_batches
from hamdist.streams.labels import Labels
from hamdist.streams.listing import listed
from hamdist.streams.missing import CHOICES, REMEDY, is_missing, nothing
from hamdist.streams.position import Counted, Reading
from hamdist.streams.sample import Sample
from hamdist.streams.settings import check_choice, check_counts
from hamdist.streams.stream import Batch

KINDS = ("class", "number")


class Row(NamedTuple):
    """One row: the file and line it stands in, and its values in the order of `Table.columns`."""

    place: str
    values: Sequence[Any]


class Table(Counted):
    """A table read row by row: the features [R, columns] are numbers, the target is a class or a number.

    target:   the column to predict; None: there is none
    features: the columns of the input, in this order; None: all but the target
    kind:     "class": the target is a label, [R] int64; "number": [R, 1]
    classes:  the labels of the classes 0, 1, …; None: numbered in the order of first appearance
    missing_target: what a row is whose target is missing: "refuse": a mistake; "predict": not to be learnt from.
              A spelling of missing, such as NA, that is listed in `classes` is a label
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        target: str | None,
        features: Sequence[str] | None,
        classes: Sequence[object] | None,
        kind: str,
        batch_size: int,
        samples: int | None,
        missing_target: str,
        dtype: torch.dtype,
    ) -> None:
        check_counts(batch_size=batch_size, samples=samples)
        check_choice("kind", kind, KINDS)
        check_choice("missing_target", missing_target, CHOICES)
        if classes is not None and kind != "class":
            raise StreamError(Problem("classes", f"a target of kind {kind} has no classes; leave them out"))
        self.path, self.target, self.samples = path, target, samples
        self.features = choose_features(path, names, target, features)
        self.columns = self.features if target is None else [*self.features, target]
        self._labels = Labels(classes) if kind == "class" else None
        self.classes = self._labels.count if self._labels else None
        self._batch_size, self._dtype, self._missing_target = batch_size, dtype, missing_target

    @abstractmethod
    def rows(self, start: int = 0) -> Iterator[Row]:
        """The rows from this one to the last, with the values of `columns`."""

    def _after(self, start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
        samples = map(self._sample, self.rows(start.taken))
        return in_batches(samples, self._batch_size, self.samples, self._dtype, start=start, skips=self.skips)

    def _facts(self) -> dict[str, Any]:
        return {"columns": self.columns}

    def _more(self) -> dict[str, Any]:
        return {"labels": self._labels.state_dict() if self._labels else {}}

    def _load_more(self, state: Mapping[str, Any]) -> None:
        if self._labels:
            self._labels.load_state_dict(state["labels"])

    def _sample(self, row: Row) -> Sample:
        width = len(self.features)
        numbers = [
            to_number(value, f"{row.place}:{name}")
            for name, value in zip(self.features, row.values[:width], strict=True)
        ]
        targets = None if self.target is None else self._target(row.values[width], row.place)
        return Sample(torch.tensor(numbers, dtype=self._dtype), targets, row.place)

    def _target(self, value: Any, place: str) -> Tensor:
        where = f"{place}:{self.target}"
        if is_missing(value) and not (self._labels and self._labels.given(value)):
            return self._missing(value, where)
        if self._labels is None:
            return torch.tensor(to_number(value, where), dtype=self._dtype)
        return torch.tensor(self._labels.number(value, where))

    def _missing(self, value: Any, where: str) -> Tensor:
        if self._missing_target == "predict":
            return nothing((), self._dtype if self._labels is None else torch.int64)
        found = "the target is missing" if value in (None, "") else f"the target is missing: {value!r}"
        listing = (
            "" if self._labels is None or value in (None, "") else ", and listed in `classes` it is a label"
        )
        raise StreamError(f"{where}: {found}; {REMEDY}{listing}")


def to_number(value: Any, where: str) -> float:
    """The number in a node; `where` opens the message of the StreamError for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        found = "the node is empty" if value is None or value == "" else f"{value!r} is not a number"
        raise StreamError(f"{where}: {found}; expected a number") from None


def choose_features(
    path: Path, names: Sequence[str], target: str | None, features: Sequence[str] | None
) -> list[str]:
    """The feature columns, after checking that every column asked for is there and that there is one at least."""
    chosen = [name for name in names if name != target] if features is None else [str(f) for f in features]
    wanted = [("features", name) for name in chosen]
    if target is not None:
        wanted.append(("target", target))
    problems = [
        Problem(key, f"{path} has no column {name!r}; it has {listed(names)}{did_you_mean(name, names)}")
        for key, name in wanted
        if name not in names
    ]
    if target in chosen:
        problems.append(Problem("features", f"the target {target!r} is among them"))
    if not chosen:
        problems.append(Problem("features", f"none are left in {path}, which has {listed(names)}"))
    if problems:
        raise StreamError(*problems)
    return chosen
