"""What travels to workers on other machines: hamdist as it is here, and the Python of the current folder.

It is copied first. Ray's `excludes` cannot say "these files and no others": it is asked of folders by their bare names,
too, so that "*" leaves out all there is.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HAMDIST = Path(__file__).parents[2]
FILES = ("*.py", "*.json", "*.yaml", "*.yml", "*.toml")
OWN_FILES = (*FILES, "*.npz")  # the digits among them
NOT_FOLDERS = (".*", "venv", "site-packages", "node_modules", "runs", "__pycache__", "hamdist-code-*")


@contextmanager
def shipment() -> Iterator[dict[str, Any]]:
    """A runtime environment for Ray, to be handed over within."""
    with TemporaryDirectory(prefix="hamdist-code-") as folder:
        code = Path(folder)
        copy_code(Path.cwd(), code / "here")
        shutil.rmtree(
            code / "here" / HAMDIST.name, ignore_errors=True
        )  # of a checkout; it would hide what follows
        copy_code(HAMDIST, code / HAMDIST.name, OWN_FILES)
        yield {"working_dir": str(code / "here"), "py_modules": [str(code / HAMDIST.name)]}


def copy_code(source: Path, target: Path, patterns: Sequence[str] = FILES) -> None:
    """The files of a folder whose names fit, in the same places; the target is made."""
    target.mkdir()
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not _fits(name, NOT_FOLDERS)]
        wanted = [name for name in names if _fits(name, patterns) and not name.startswith(".")]
        if wanted:
            there = target / Path(folder).relative_to(source)
            there.mkdir(parents=True, exist_ok=True)
            for name in wanted:
                shutil.copyfile(Path(folder, name), there / name)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
