"""The folder of an actor's sockets on its host; what processes that were killed have left of theirs goes."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "hamdist-ipc-"
_LONGEST = 80  # bytes of a folder: a socket's path may have 107


class SocketFolder:
    """A new folder that this user alone can enter, with a path short enough for the sockets in it.

    It is locked for as long as this process lives; where folders cannot be locked, nobody's are removed by others.
    """

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        if len(str(parent)) > _LONGEST - len(f"/{PREFIX}12345678"):
            parent = Path("/tmp")
        remove_abandoned(parent)
        made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
        self._file = _opened(made)
        with suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Nobody looks at it before it is locked.
        self.path = made.rename(parent / made.name.removeprefix("."))

    def remove(self) -> None:
        """It is gone; somebody else may have removed it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._file)


def remove_abandoned(parent: Path) -> None:
    """Removes this user's folders there whose processes are gone."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            file = _opened(folder)
            try:
                if os.fstat(file).st_uid == os.getuid():
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(file)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
