"""Where predictions go as they leave the network: a file, or standard output."""

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hamdist.errors import UserError
from hamdist.runs.lines import Lines

STANDARD_OUTPUT = "-"
_log = logging.getLogger(__name__)


class Answers:
    """path: of a file, which is written anew, or STANDARD_OUTPUT.

    unread: whether nobody is left who reads them.  problem: why not all could be written; a run does not end for that.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.unread, self.problem = False, ""
        self._written = 0
        self._file: Lines | StandardOutput | None = None

    def open(self) -> None:
        """Raises UserError where the file cannot be written."""
        if self.path == STANDARD_OUTPUT:
            self._file = StandardOutput()
            return
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._file = Lines(Path(self.path))
        except OSError as error:
            raise UserError(f"predictions cannot be written to {self.path}: {error}") from error

    def add(self, lines: Sequence[str]) -> None:
        """They are there, or with whoever reads them, when this returns."""
        if self._file is None or not lines or self.unread or self.problem:
            return
        try:
            self._file.add("\n".join(lines))
            self._written += len(lines)
        except BrokenPipeError:
            self.unread = True
        except OSError as error:
            self.problem = error.strerror or str(error)
            _log.warning("%s: %s; the run goes on without its predictions", self.path, self.problem)

    def close(self) -> None:
        """None follows."""
        if self._file is not None:
            self._file.close()

    def told(self) -> dict[str, Any]:
        """Of a summary."""
        to = "standard output" if self.path == STANDARD_OUTPUT else self.path
        return {"predictions": {"to": to, "lines": self._written}}


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
