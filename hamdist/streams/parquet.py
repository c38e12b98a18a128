"""Tables in Parquet files."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hamdist.errors import MissingExtraError, StreamError
from hamdist.streams.settings import at_most, existing_file
from hamdist.streams.table import Row, Table

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

ROWS_IN_MEMORY = 1024
"""How many rows are decoded at a time, whatever the size of a batch."""


class Parquet(Table):
    """A Parquet file, read a record batch at a time, and of it only the columns that are asked for; see `Table`."""

    def __init__(
        self,
        path: str | Path,
        target: str | None,
        features: Sequence[str] | None = None,
        classes: Sequence[object] | None = None,
        kind: str = "class",
        batch_size: int = 1,
        samples: int | None = None,
        missing_target: str = "refuse",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        file = existing_file("path", path)
        with _open(file) as parquet:
            names, rows = list(parquet.schema_arrow.names), parquet.metadata.num_rows
        super().__init__(
            file, names, target, features, classes, kind, batch_size, samples, missing_target, dtype
        )
        self.samples, self._rows = at_most(samples, rows), rows

    @property
    def available(self) -> int | None:
        return self._rows

    def rows(self, start: int = 0) -> Iterator[Row]:
        with _open(self.path) as parquet:
            groups, begins = _groups_from(parquet, start)
            batches = parquet.iter_batches(ROWS_IN_MEMORY, groups, self.columns)
            values = chain.from_iterable(map(self._values, batches))
            for number, row in enumerate(islice(values, start - begins, None), start):
                yield Row(f"{self.path}:row {number}", row)

    def _values(self, batch: "RecordBatch") -> Iterator[tuple[Any, ...]]:
        return zip(*(batch.column(name).to_pylist() for name in self.columns), strict=True)


def _groups_from(parquet: "ParquetFile", start: int) -> tuple[list[int], int]:
    """The groups of rows from that on which holds this row, and the number of its first."""
    groups, begins = list(range(parquet.metadata.num_row_groups)), 0
    while groups and begins + (rows := parquet.metadata.row_group(groups[0]).num_rows) <= start:
        groups, begins = groups[1:], begins + rows
    return groups, begins


def _open(path: Path) -> "ParquetFile":
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise MissingExtraError("the parquet stream", "parquet") from error
    try:
        return ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise StreamError(f"{path} cannot be read as Parquet: {error}") from error
