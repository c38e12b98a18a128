"""A folder of files, on a disk or wherever fsspec reaches."""

import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from hamdist.errors import UserError
from hamdist.runs.whole_file import whole_file


class Folder:
    """url: the path of a folder, or a URL such as s3://bucket/run. It travels between processes.

    A file on a disk is there as a whole or not at all; elsewhere as the store has it. All raise OSError where something
    cannot be done, whatever the store raises, and FileNotFoundError for what is not there.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)

    def __reduce__(self) -> tuple[Any, ...]:
        return Folder, (self.url,)

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.path / name) if self.local else Folder(f"{self.url.rstrip('/')}/{name}")

    @property
    def local(self) -> bool:
        """Whether it is on a disk of this machine."""
        return "://" not in self.url or self.url.startswith("file://")

    @property
    def path(self) -> Path:
        """On this machine."""
        return Path(self.url.removeprefix("file://"))

    def make(self) -> None:
        """It is there afterwards, and can be written to. Raises UserError."""
        try:
            if self.local:
                self.path.mkdir(parents=True, exist_ok=True)
            else:
                self._store.makedirs(self._inside, exist_ok=True)
        except Exception as error:
            raise UserError(f"{self} cannot hold checkpoints: {error}") from error

    def names(self) -> list[str]:
        """Of what is in it; none where there is no such folder."""
        if self.local:
            return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []
        try:
            self._store.invalidate_cache()
            return sorted(
                str(found).rstrip("/").rpartition("/")[2]
                for found in self._store.ls(self._inside, detail=False)
            )
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._failed(error) from error

    def read(self, name: str) -> bytes:
        if self.local:
            return (self.path / name).read_bytes()
        try:
            return bytes(self._store.cat_file(f"{self._inside}/{name}"))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    def write(self, name: str, data: bytes) -> None:
        """The file afterwards holds this and nothing else."""
        if self.local:
            with whole_file(self.path / name) as beside:
                beside.write_bytes(data)
            return
        try:
            self._store.makedirs(self._inside, exist_ok=True)
            self._store.pipe_file(f"{self._inside}/{name}", data)
        except Exception as error:
            raise self._failed(error) from error

    def remove(self, name: str) -> None:
        """A file or a folder in it, with all that is in that."""
        if self.local:
            found = self.path / name
            shutil.rmtree(found) if found.is_dir() else found.unlink(missing_ok=True)
            return
        try:
            self._store.rm(f"{self._inside}/{name}", recursive=True)
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._failed(error) from error

    @cached_property
    def _found(self) -> tuple[Any, str]:
        """The store, and where the folder is in it. Raises UserError for what fsspec does not know."""
        from fsspec.core import url_to_fs  # takes a while, and most runs write to a disk

        try:
            store, inside = url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UserError(f"{self} cannot hold checkpoints: {error}") from error
        return store, str(inside).rstrip("/")

    @property
    def _store(self) -> Any:
        return self._found[0]

    @property
    def _inside(self) -> str:
        return self._found[1]

    def _failed(self, error: Exception) -> Exception:
        """What to raise: UserError for what fsspec does not know, OSError for all else."""
        if isinstance(error, UserError):
            return error
        return error if isinstance(error, OSError) else OSError(f"{type(error).__name__}: {error}")
