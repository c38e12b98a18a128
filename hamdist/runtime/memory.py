"""How much memory this process took."""

import resource
import sys


def peak_memory_bytes() -> int:
    """The largest resident memory of this process so far, device memory not counted."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
