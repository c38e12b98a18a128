"""Randomness that a recomputation can repeat: every draw comes from a seed derived from names and numbers."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_generators = threading.RLock()  # torch's are the whole process's


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order, the same on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(seed: int | None, device: torch.device | None = None) -> Iterator[None]:
    """The generators of the CPU and of `device` start from `seed` inside and are as they were outside.

    A seed of None leaves them alone.
    """
    if seed is None:
        yield
        return
    gpus = [device] if device is not None and device.type == "cuda" else []
    with _generators, torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
