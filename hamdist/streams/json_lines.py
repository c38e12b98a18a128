"""Samples as lines of JSON, from standard input or any other text file."""

import json
import sys
from collections.abc import Iterator
from typing import TextIO

import torch

from hamdist.errors import StreamError
from hamdist.streams.batching import in_batches
from hamdist.streams.sample import Sample, parse_sample
from hamdist.streams.settings import check_counts
from hamdist.streams.stream import Batch, Stream

EXPECTED = 'expected {"x": [...], "y": ...}'


class JSONLines(Stream):
    """A line {"x": [...], "y": ...} a sample, in batches that are handed out as soon as they are full; perhaps endless.

    x is a number or a list of numbers, all floating here. y is a whole number: a class; a number with a point
    or a list: numbers; or it is left out. Blank lines are skipped. The lines can be gone through once only.

    file: None: standard input
    """

    def __init__(
        self,
        file: TextIO | None = None,
        batch_size: int = 1,
        samples: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_counts(batch_size=batch_size, samples=samples)
        self._file = file
        self._name = "standard input" if file is None else getattr(file, "name", "the text")
        self._batch_size, self._dtype = batch_size, dtype
        self._spent = False
        self.samples = samples

    def __iter__(self) -> Iterator[Batch]:
        if self._spent:
            raise StreamError(f"{self._name} can be gone through once")
        self._spent = True
        return in_batches(self._single_samples(), self._batch_size, self.samples, self._dtype)

    def _single_samples(self) -> Iterator[Sample]:
        for number, line in enumerate(self._lines(), start=1):
            if line.strip():
                place = f"{self._name}:{number}"
                yield parse_sample(_parse(line, place), self._dtype, place)._replace(place=place)

    def _lines(self) -> Iterator[str]:
        file = self._file or sys.stdin
        try:
            yield from iter(file.readline, "")
        except UnicodeDecodeError as error:
            raise StreamError(f"{self._name} is not {error.encoding} text: {error}") from error


def _parse(line: str, place: str) -> dict[str, object]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise StreamError(f"{place}:{error.colno}: not JSON: {error.msg}; {EXPECTED}") from error
    if not isinstance(found, dict):
        raise StreamError(f"{place}: not an object; {EXPECTED}")
    return found
