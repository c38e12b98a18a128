"""Tables in text files, a row a line."""

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch

from hamdist.errors import Problem, StreamError
from hamdist.streams.listing import listed
from hamdist.streams.settings import existing_file
from hamdist.streams.table import Row, Table

OTHERS = (",", ";", "\t", "|", " ", ":")
"""Delimiters that a file may have instead."""
BYTES_COUNTED = 16 * 2**20  # a file up to this size is gone through to count its rows


class CSV(Table):
    """A file of comma-separated values, read line by line; see `Table` for the columns.

    header:    the first line names the columns; without it they are called 0, 1, 2, …
    delimiter: the character between two values
    """

    def __init__(
        self,
        path: str | Path,
        target: str | int | None,
        features: Sequence[str | int] | None = None,
        classes: Sequence[object] | None = None,
        kind: str = "class",
        header: bool = True,
        delimiter: str = ",",
        batch_size: int = 1,
        samples: int | None = None,
        missing_target: str = "refuse",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        file = existing_file("path", path)
        if len(delimiter) != 1:
            raise StreamError(Problem("delimiter", f"must be one character, not {delimiter!r}"))
        self._header, self._delimiter = header, delimiter
        self._names = self._read_names(file)
        asked = [str(name) for name in (*(() if target is None else (target,)), *(features or ()))]
        self._check_delimiter(file, asked)
        super().__init__(
            file,
            self._names,
            None if target is None else str(target),
            None if features is None else [str(name) for name in features],
            classes,
            kind,
            batch_size,
            samples,
            missing_target,
            dtype,
        )

    @property
    def available(self) -> int | None:
        """Counted in a file of which that is no work."""
        if self.path.stat().st_size > BYTES_COUNTED:
            return None
        return sum(1 for _ in self._lines(self.path, self._delimiter)) - self._header

    def rows(self, start: int = 0) -> Iterator[Row]:
        positions = [self._names.index(name) for name in self.columns]
        lines = self._lines(self.path, self._delimiter)
        for number, nodes in islice(lines, start + self._header, None):
            place = f"{self.path}:{number}"
            if len(nodes) != len(self._names):
                raise StreamError(
                    f"{place}: {len(nodes)} values, where the first line has {len(self._names)}"
                )
            yield Row(place, [nodes[position].strip() for position in positions])

    def _read_names(self, path: Path) -> list[str]:
        first = self._first(path, self._delimiter)
        if not first:
            raise StreamError(f"{path} is empty")
        names = self._columns(first)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise StreamError(f"{path}:1: the header names a column twice: {listed(twice)}")
        return names

    def _check_delimiter(self, path: Path, asked: Sequence[str]) -> None:
        """StreamError where columns asked for are missing, and another delimiter would make them of the first line."""
        if not asked or (set(asked) <= set(self._names) and len(self._names) > 1):
            return
        for other in OTHERS:
            names = self._columns(self._first(path, other))
            if len(names) > 1 and set(asked) <= set(names):
                found = f"{path} has the columns {listed(self._names)} when split at {self._delimiter!r}"
                raise StreamError(Problem("delimiter", f"{found}; is it {other!r}?"))

    def _first(self, path: Path, delimiter: str) -> list[str]:
        """The nodes of the first line."""
        return next(self._lines(path, delimiter), (0, []))[1]

    def _columns(self, first: list[str]) -> list[str]:
        """The names of the columns, by the first line."""
        if not self._header:
            return [str(number) for number in range(len(first))]
        return [name.strip() for name in first]

    def _lines(self, path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """Number and nodes of every line that is not blank."""
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter)
            try:
                yield from ((reader.line_num, nodes) for nodes in reader if nodes)
            except (csv.Error, UnicodeDecodeError) as error:
                raise StreamError(f"{path}:{reader.line_num + 1}: cannot be read as CSV: {error}") from error
