"""A run directory within the log of a job, which is all that a Ray dashboard brings back.

It travels as a tar archive in base64, line by line. Every line starts with a boundary that nothing else in the log has;
the last one bears a digest of the whole. Beyond LIMIT the weights stay behind.
"""

import base64
import binascii
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from hamdist.errors import RunError
from hamdist.runs.record import WEIGHTS

LIMIT = 256 * 2**20  # bytes of files
LINE = 12 * 2**10  # bytes a line, before base64
END = "end "


def size_of(directory: Path) -> int:
    """Of all its files, in bytes."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def lines_of(directory: Path, boundary: str, limit: int = LIMIT) -> Iterator[str]:
    """The lines that bring a directory into a log; without its weights if its files have more bytes than `limit`."""
    data = _archive(directory, weights=size_of(directory) <= limit)
    for start in range(0, len(data), LINE):
        yield f"{boundary} {base64.b64encode(data[start : start + LINE]).decode()}\n"
    yield f"{boundary} {END}{hashlib.sha256(data).hexdigest()}\n"


def _archive(directory: Path, weights: bool) -> memoryview:
    """Uncompressed, since weights hardly shrink."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory)
            if path.is_file() and (weights or name.parts[0] != WEIGHTS):
                tar.add(path, str(name))
    return archive.getbuffer()


class ArchiveReader:
    """Takes a log as it comes: what belongs to the archive is kept, the rest is to be shown."""

    def __init__(self, boundary: str) -> None:
        self.boundary = boundary
        self._begun = ""
        self._words: list[str] = []
        self._digest = ""

    def feed(self, text: str) -> str:
        """A piece of the log, cut anywhere; returns what is to be shown of the lines that are complete now."""
        *lines, self._begun = (self._begun + text).split("\n")
        return "".join(self._kept(f"{line}\n") for line in lines)

    def rest(self) -> str:
        """What is to be shown of a last line that never ended."""
        rest, self._begun = self._begun, ""
        return self._kept(rest)

    def unpack(self, directory: Path) -> bool:
        """Whether there was an archive; its files are in the directory now. Raises RunError for one that is damaged."""
        if not (self._words or self._digest):
            return False
        try:
            data = b"".join(base64.b64decode(word, validate=True) for word in self._words)
        except binascii.Error as error:
            raise RunError(f"the run directory came back damaged: {error}") from error
        if hashlib.sha256(data).hexdigest() != self._digest:
            raise RunError("the run directory came back damaged, or not to its end")
        _extract(data, directory)
        return True

    def _kept(self, line: str) -> str:
        """The line, without what belongs to the archive; that may follow on a line which was only begun."""
        shown, ours, word = line.partition(f"{self.boundary} ")
        if not ours:
            return line
        if word.startswith(END):
            self._digest = word.removeprefix(END).strip()
        else:
            self._words.append(word.strip())
        return f"{shown}\n" if shown else ""


def _extract(data: bytes, directory: Path) -> None:
    """Plain files only, and none outside the directory."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                if not member.isfile():
                    raise RunError(f"what came back is no run directory: {member.name!r} is not a plain file")
            tar.extractall(directory, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise RunError(f"what came back cannot be unpacked into {directory}: {error}") from error
