"""Where predictions go as they leave the network: a file, or standard output. Each leaves once."""

import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hamdist.errors import UserError
from hamdist.runs.lines import Lines

STANDARD_OUTPUT = "-"
LEFT = "predictions.left"  # of a run directory: what has left by standard output
_NUMBER = re.compile(r'\{"sample": (\d+)')
_log = logging.getLogger(__name__)


class Answers:
    """path: of a file, which is written anew unless the run goes on, or STANDARD_OUTPUT.

    unread: whether nobody is left who reads them.  problem: why not all could be written; a run does not end for that.
    last: the number of the last sample whose prediction has left, -1 before the first; one that comes again, since
    ticks were done again, is left out.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.unread, self.problem, self.last = False, "", -1
        self._written = 0
        self._file: Lines | StandardOutput | None = None
        self._left: Left | None = None

    def open(self, goes_on: bool = False) -> None:
        """goes_on: whether what is there stays. Raises UserError where the file cannot be written."""
        if self.path == STANDARD_OUTPUT:
            self._file = StandardOutput()
            return
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._file = file = Lines(Path(self.path), None if goes_on else 0)
        except OSError as error:
            raise UserError(f"predictions cannot be written to {self.path}: {error}") from error
        self.last, self._written = max(-1, number_of(file.last)), file.kept

    def remember_in(self, directory: Path, goes_on: bool = False) -> None:
        """What leaves by standard output, which keeps nothing, is counted in the run directory."""
        if self.path != STANDARD_OUTPUT:
            return
        try:
            self._left = Left(directory / LEFT, goes_on)
        except OSError as error:
            _log.warning("%s: %s; a run that goes on may repeat predictions", directory / LEFT, error)
        else:
            self.last, self._written = self._left.last, self._left.lines

    def add(self, lines: Sequence[str]) -> None:
        """They are there, or with whoever reads them, when this returns."""
        if self._file is None or self.unread or self.problem:
            return
        new = [line for line in lines if number_of(line) > self.last]
        if not new:
            return
        try:
            self._file.add("\n".join(new))
            self._written, self.last = self._written + len(new), number_of(new[-1])
            if self._left is not None:
                self._left.note(self.last, self._written)
        except BrokenPipeError:
            self.unread = True
        except OSError as error:
            self.problem = error.strerror or str(error)
            _log.warning("%s: %s; the run goes on without its predictions", self.path, self.problem)

    def close(self) -> None:
        """None follows."""
        for file in (self._file, self._left):
            if file is not None:
                file.close()

    def told(self) -> dict[str, Any]:
        """Of a summary."""
        to = "standard output" if self.path == STANDARD_OUTPUT else self.path
        return {"predictions": {"to": to, "lines": self._written}}


def number_of(line: str) -> int:
    """That of the sample which a line speaks of; −2 for a line that speaks of none."""
    found = _NUMBER.match(line)
    return int(found[1]) if found else -2


class Left:
    """A small file that says which sample's prediction left last, and how many have left; written over in place."""

    def __init__(self, path: Path, goes_on: bool) -> None:
        told = path.read_text().split() if goes_on and path.exists() else []
        self.last, self.lines = map(int, told) if len(told) == 2 else (-1, 0)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self.note(self.last, self.lines)

    def note(self, last: int, lines: int) -> None:
        """Raises OSError."""
        os.pwrite(self._file, b"%20d %20d\n" % (last, lines), 0)

    def close(self) -> None:
        """Nothing more leaves."""
        os.close(self._file)


class StandardOutput:
    """As lines of a file."""

    def add(self, line: str) -> None:
        """Raises OSError: BrokenPipeError where nobody reads it any more."""
        try:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            _read_by_nobody()
            raise

    def close(self) -> None:
        """It stays open: it is not ours."""


def _read_by_nobody() -> None:
    """What is still to be written goes nowhere, so that the interpreter can end in order."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
