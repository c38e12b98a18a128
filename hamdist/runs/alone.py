"""A folder that one process has at a time."""

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path

from hamdist.errors import UserError

FILE = ".running"


class Alone:
    """Keeps other processes from a folder until it is released, or this process ends, however it does.

    Raises UserError where another process has it. Where files cannot be locked nobody is kept from anything.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._close = weakref.finalize(self, os.close, file)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            self._close()
            raise UserError(f"{folder} is another process's, which is at work there") from error
        except OSError:
            return

    def release(self) -> None:
        """Another one may have it."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._close()
