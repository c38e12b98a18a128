"""The device that a name in a config means on this machine; how much memory this process took, and what it keeps."""

import ctypes
import resource
import sys

import torch
from torch import Tensor

from hamdist.errors import ConfigError, Problem


def local_device(name: str) -> torch.device:
    """`auto`: a GPU where there is one. Raises ConfigError for a device that this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(
            Problem("placement.device", f"there is no {name}: this machine has {found} GPUs torch can use")
        )
    return device


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; from host memory a GPU fetches it out of pinned memory, and nobody waits for that."""
    if device.type == "cuda" and tensor.is_cpu:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


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
