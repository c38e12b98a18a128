"""Resident memory along a run: where it stands, and whether it grows."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from table import show, verdict

LIMIT_BYTES_PER_TICK = 1.0  # 1 MB in a million ticks: the noise of the allocator


def resident_bytes() -> int:
    """The resident memory of this process now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def report_memory(points: Sequence[tuple[int, int]], warm: float) -> str:
    """Shows points (tick, bytes) and judges their slope, by least squares, from tick `warm` on."""
    late = np.array([point for point in points if point[0] >= warm], dtype=float)
    slope = np.polyfit(late[:, 0], late[:, 1], 1)[0]
    shown = [points[round(i * (len(points) - 1) / 10)] for i in range(11)]
    show("Resident memory", ["tick", "MB"], [(f"{tick:,}", f"{size / 1e6:.2f}") for tick, size in shown])
    return verdict("bytes per tick", slope, LIMIT_BYTES_PER_TICK)
