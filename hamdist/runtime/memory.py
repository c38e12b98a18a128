"""How much memory this process took, and whether it keeps what it frees."""

import ctypes
import resource
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # that glibc takes


def peak_memory_bytes() -> int:
    """The largest resident memory of this process so far, device memory not counted."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> None:
    """Tells glibc's allocator to keep what is freed, where it is glibc's.

    Ticks need the same large tensors again and again. Given back to the system and fetched again page by page, they
    cost an 8 × 1024 network up to a quarter of its time, and a compiled tick of a 32 × 64 network half of it or more.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, 2**30)
        mallopt(_TOP_PAD, 64 * 2**20)
