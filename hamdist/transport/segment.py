"""Memory that two processes of one host share. It has no name anywhere, so it ends with them, however they end.

One end makes it; the other one finds it among the first one's open files, where the same user alone may look, and says
so in its first byte. Before that the first one must not count on it.
"""

import fcntl
import os
import threading
from mmap import mmap

from hamdist.transport.codec import Part

HEAD_BYTES = 4096  # before what is shared: a page, of which one byte is used
POSSIBLE = hasattr(os, "memfd_create")  # on Linux

_NAME = "hamdist"  # in the lists of a process's open files and mapped memory, and nowhere else
_FOUND = 1


class Segment:
    """One end's view of it.  size: in bytes, with the head. `close` may come from any thread."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Takes over the file behind it. Raises OSError where it cannot be mapped."""
        self._descriptor = descriptor
        self._busy = threading.Lock()
        try:
            self._memory = memoryview(mmap(descriptor, size))
        except OSError:
            os.close(descriptor)
            raise
        self._closed = False

    @classmethod
    def made(cls, size: int) -> "Segment":
        """A new one, of which nothing but the head is reserved. Raises OSError where there is none to be had."""
        descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.fchmod(descriptor, 0o600)
            os.ftruncate(descriptor, size)
            fcntl.fcntl(
                descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK
            )  # who reads beyond the end is killed
            os.posix_fallocate(descriptor, 0, HEAD_BYTES)
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor, size)

    @classmethod
    def found(cls, note: str, size: int) -> "Segment":
        """The one of the other end's note. Raises OSError where it is not there."""
        process, number, *identity = map(int, note.split(":"))
        descriptor = os.open(f"/proc/{process}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        if [status.st_dev, status.st_ino, status.st_size] != [*identity, size]:
            os.close(descriptor)
            raise OSError("another file is in its place")
        segment = cls(descriptor, size)
        segment._memory[0] = _FOUND
        return segment

    @property
    def note(self) -> str:
        """Where the other end finds it: process, descriptor; and which file that must be."""
        status = os.fstat(self._descriptor)
        return f"{os.getpid()}:{self._descriptor}:{status.st_dev}:{status.st_ino}"

    @property
    def shared(self) -> bool:
        """Whether the other end found it, or was found."""
        return self._memory[0] == _FOUND

    def reserve(self, at: int, size: int) -> None:
        """Memory for these bytes. Raises OSError where there is too little; to write there nevertheless would kill."""
        with self._busy:
            if self._closed:
                raise OSError("it was closed")
            os.posix_fallocate(self._descriptor, at, size)

    def write(self, at: int, part: Part) -> None:
        self._memory[at : at + len(part)] = part

    def read(self, at: int, size: int) -> memoryview:
        """These bytes, not copied."""
        return self._memory[at : at + size]

    def close(self) -> None:
        """Reserves no more; the memory goes when nobody refers to it any more. May be called twice."""
        with self._busy:
            if not self._closed:
                self._closed = True
                os.close(self._descriptor)
