"""Samples as lines of JSON, from standard input or any other text file."""

import json
import os
import stat
import sys
from collections.abc import Iterator
from typing import TextIO

import torch

from hamdist.errors import StreamError
from hamdist.streams.batching import in_batches
from hamdist.streams.live_lines import LiveLines
from hamdist.streams.missing import CHOICES
from hamdist.streams.position import Counted, Reading
from hamdist.streams.sample import Sample, parse_sample
from hamdist.streams.settings import check_choice, check_counts
from hamdist.streams.stream import Batch

EXPECTED = 'expected {"x": [...], "y": ...}'


class JSONLines(Counted):
    """A line {"x": [...], "y": ...} a sample, in batches that are handed out as soon as they are full; perhaps endless.

    x is a number or a list of numbers, all floating here. y is a whole number: a class; a number with a point
    or a list: numbers; or it is left out. Blank lines are skipped. The lines can be gone through once only.

    file: None: standard input; where that is a pipe, the stream is live and tells when each sample arrived
    """

    def __init__(
        self,
        file: TextIO | None = None,
        batch_size: int = 1,
        samples: int | None = None,
        missing_target: str = "refuse",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_counts(batch_size=batch_size, samples=samples)
        check_choice("missing_target", missing_target, CHOICES)
        self._missing_target = missing_target
        self._file = file
        self._name = "standard input" if file is None else getattr(file, "name", "the text")
        self._batch_size, self._dtype = batch_size, dtype
        self._spent = False
        self._pipe = _pipe_of(sys.stdin) if file is None else None
        self.samples, self.live = samples, self._pipe is not None

    @property
    def seeks(self) -> bool:
        return False

    def _after(self, start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
        if self._spent:
            raise StreamError(f"{self._name} can be gone through once")
        self._spent = True
        samples = self._single_samples()
        return in_batches(
            samples, self._batch_size, self.samples, self._dtype, self._missing_target, start, self.skips
        )

    def _single_samples(self) -> Iterator[Sample]:
        for number, (line, arrived) in enumerate(self._lines(), start=1):
            if line.strip():
                place = f"{self._name}:{number}"
                sample = parse_sample(_parse(line, place), self._dtype, place)
                yield sample._replace(place=place, arrived=arrived)

    def _lines(self) -> Iterator[tuple[str, float | None]]:
        file = self._file or sys.stdin
        if file is None:
            raise StreamError("there is no standard input")
        try:
            if self._pipe is None:
                yield from ((line, None) for line in iter(file.readline, ""))
            else:
                yield from LiveLines(self._pipe, file.encoding)
        except UnicodeDecodeError as error:
            raise StreamError(f"{self._name} is not {error.encoding} text: {error}") from error


def _pipe_of(file: TextIO | None) -> int | None:
    """Its descriptor, where lines come through it in their own time; None where they lie in a file, or in memory."""
    if file is None:  # a process may have no standard input
        return None
    try:
        descriptor = file.fileno()
    except OSError:
        return None
    return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor


def _parse(line: str, place: str) -> dict[str, object]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise StreamError(f"{place}:{error.colno}: not JSON: {error.msg}; {EXPECTED}") from error
    except (ValueError, RecursionError) as error:
        raise StreamError(f"{place}: cannot be read: {error}; {EXPECTED}") from error
    if not isinstance(found, dict):
        raise StreamError(f"{place}: not an object; {EXPECTED}")
    return found
