"""Layers and a stream that a config names by path, for tests over Ray: they tell where they are, or come to harm."""

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn


class Marked(nn.Linear):
    """Leaves a file named by its process in a folder when it is built."""

    def __init__(self, folder: str, name: str, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        Path(folder, f"{name}.{os.getpid()}").touch()


def builders(folder: Path) -> set[int]:
    """Who built layers with marks, this process apart, which builds one to see what it costs."""
    return {int(file.suffix[1:]) for file in folder.iterdir()} - {os.getpid()}


def gone(processes: set[int]) -> bool:
    """Whether all of them have ended, within a minute each."""
    return all(ended(pid) for pid in processes)


def ended(pid: int) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 60)[0])
    finally:
        os.close(process)


class Refuses(nn.Module):
    """Cannot be built."""

    def __init__(self) -> None:
        super().__init__()
        raise ValueError("not in this house")


SURVEY = 11  # evaluations of a layer before a run, those of its copies not counted


class Fails(nn.Linear):
    """Raises at its n-th evaluation."""

    def __init__(self, at: int, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.at, self.evaluations = at, 0

    def forward(self, x: Tensor) -> Tensor:
        self.evaluations += 1
        if self.evaluations == self.at:
            raise ArithmeticError("out of numbers")
        return super().forward(x)


def exits() -> Iterator[tuple[list[float], int]]:
    """Forty samples; then it would end its process."""
    for k in range(40):
        yield [float(k % 3 == j) for j in range(6)], k % 3
    sys.exit(3)
