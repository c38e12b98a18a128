"""Files that are there as a whole or not at all, whatever happens while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path`, in its folder, which is made; what is written there replaces `path` at the end.

    After an error or a signal, also one that kills, what stood at `path` stands there still. Who may read it, says
    the user's umask, whatever writes there. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.unlink(missing_ok=True)
    try:
        beside.touch()
        mode = beside.stat().st_mode
        yield beside
        if beside.stat().st_mode != mode:
            beside.chmod(mode)
        _on_disk(beside)
        os.replace(beside, path)
        _on_disk(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """A text file, all of it or nothing. Raises OSError."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _on_disk(path: Path) -> None:
    """Waits until what a file or a folder holds is on its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
