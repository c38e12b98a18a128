"""One array of an .npz file, of which the header is believed only as far as the file goes."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_member(path: Path, key: str) -> np.ndarray:
    """The array called `key`. Raises KeyError where there is none, ValueError for one that cannot be, or is too large.

    What is wrong with the zip file itself, zipfile says.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        member = f"{key}.npy" if f"{key}.npy" in names else key
        with archive.open(archive.getinfo(member)) as file:
            _check_header(file, archive.getinfo(member).file_size)
    with np.load(path) as arrays:
        return arrays[key]


def keys_of(path: Path) -> list[str]:
    """The names of its arrays."""
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _check_header(file: IO[bytes], size: int) -> None:
    """size: of the whole member, in bytes, once it is unpacked."""
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"an array of the .npy format {version}; expected (1, 0) or (2, 0)")
    shape, _, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects (pickled), which are not read: save numbers")
    declared = math.prod(shape) * dtype.itemsize
    if declared > (there := size - file.tell()):
        raise ValueError(f"its header declares {declared:,} bytes, {list(shape)}, but there are {there:,}")
    if declared > (most := memory_bytes()):
        raise ValueError(
            f"it takes {declared:,} bytes, and the memory has {most:,}: save it as an .npy file, which is mapped"
        )


def memory_bytes() -> int:
    """Of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
