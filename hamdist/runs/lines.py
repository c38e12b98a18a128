"""A file that grows line by line, and goes on after a line."""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


class Lines:
    """Each line is on disk at once; where there is no room for more, the file ends with a whole line.

    keep: how many of its lines stay that are there already; None: all that are whole.  kept: how many there were.
    last: the last of these, "" where there is none.
    """

    def __init__(self, path: Path, keep: int | None = 0) -> None:
        going_on = keep != 0 and path.is_file()
        self._file = path.open("r+b" if going_on else "wb", buffering=0)
        self.kept, self.last, self._length = 0, "", 0
        if going_on:
            try:
                self._go_on(keep)
            except OSError:
                self._file.close()
                raise

    def _go_on(self, keep: int | None) -> None:
        """What follows the lines that stay goes: others, and one that was torn."""
        with open(self._file.fileno(), "rb", closefd=False) as file:
            self.kept, self._length, self.last = _whole_lines(file, keep)
        os.ftruncate(self._file.fileno(), self._length)
        self._file.seek(self._length)

    def add(self, line: str) -> None:
        """Raises OSError; nothing of the line is there then."""
        data = memoryview(f"{line}\n".encode())
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError:
            with suppress(OSError):  # what has gone into a pipe has gone
                os.ftruncate(self._file.fileno(), self._length)
                self._file.seek(self._length)
            raise
        self._length += written

    def close(self) -> None:
        """No line follows."""
        with suppress(OSError):
            self._file.close()


def _whole_lines(file: BinaryIO, most: int | None) -> tuple[int, int, str]:
    """How many lines are whole, at most so many, the bytes that they take, and the last of them."""
    count, length, last = 0, 0, b""
    while most is None or count < most:
        line = file.readline()
        if not line.endswith(b"\n"):
            break
        count, length, last = count + 1, length + len(line), line
    return count, length, last.decode(errors="replace").rstrip("\n")
