"""Randomness that a recomputation can repeat: every draw comes from a seed derived from names and numbers."""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

_generators = threading.RLock()  # torch's are the whole process's


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order, the same on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


BEYOND_TORCH = ("python", "numpy")
"""Generators of the whole process that are not torch's: of the module `random`, and of `numpy.random`."""


@contextmanager
def seeded(
    seed: int | None, device: torch.device | None = None, beyond: tuple[str, ...] = ()
) -> Iterator[None]:
    """Torch's generators of the CPU and of `device`, and those named in `beyond`, start from `seed` inside and are as
    they were outside.

    A seed of None leaves them alone.
    """
    if seed is None:
        yield
        return
    gpus = [device] if device is not None and device.type == "cuda" else []
    with _generators, torch.random.fork_rng(devices=gpus), _seeded_beyond(seed) if beyond else nullcontext():
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def _seeded_beyond(seed: int) -> Iterator[None]:
    """Of both, since to seed one that is not drawn from changes nothing."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class Draws:
    """Which of the generators have been drawn from since it was made, on the CPU and on `device`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = self._states()

    def __call__(self) -> tuple[str, ...]:
        """ "torch", "python" and "numpy", as far as they have."""
        return tuple(name for name, state in self._states().items() if state != self._before[name])

    def _states(self) -> dict[str, object]:
        cuda = [torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else []
        _, keys, place, *rest = np.random.get_state()
        return {
            "torch": [state.numpy().tobytes() for state in (torch.get_rng_state(), *cuda)],
            "python": random.getstate(),
            "numpy": (np.asarray(keys).tobytes(), place, *rest),
        }
