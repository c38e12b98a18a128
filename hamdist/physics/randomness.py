"""Randomness that a recomputation can repeat: every draw comes from a seed derived from names and numbers."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order, the same on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Torch's generators start from `seed` inside and are as they were outside; None leaves them alone."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(device_type="cuda"):
        torch.manual_seed(seed)
        yield
