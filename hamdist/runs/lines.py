"""A file that grows line by line."""

import os
from contextlib import suppress
from pathlib import Path


class Lines:
    """Each line is on disk at once; where there is no room for more, the file ends with a whole line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._length = 0

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
            raise
        self._length += written

    def close(self) -> None:
        """No line follows."""
        with suppress(OSError):
            self._file.close()
