"""What an actor keeps of its cuts: in memory, so that it needs no disk to go back, and written beside the ticks."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hamdist.engine.divergence import unfinite
from hamdist.engine.state import PartitionState
from hamdist.errors import RunError

Tree = TypeVar("Tree")
Write = Callable[[PartitionState], tuple[Any, ...]]
"""Writes the parts of a cut, one a node, where the run keeps them; what it returns of them goes to the driver."""

WRITTEN_SECONDS = 60.0  # for a file in work to be ended before other ticks follow


@dataclass(frozen=True)
class PartNews:
    """An actor's part of a cut.

    files: what its writer returned.  problem: why the cut cannot be used, "" where it can.  paused: seconds for which
    its ticks stood still.  seconds: from then on until it was written.
    """

    tick: int
    files: tuple[Any, ...] = ()
    problem: str = ""
    paused: float = 0.0
    seconds: float = 0.0


class CutKeeper:
    """The newest cut known whole, and those after it.

    `keep` and `go_back` belong to the actor's thread, the others to any.  write: None where nothing is written.
    """

    def __init__(self) -> None:
        self.write: Write | None = None
        self._kept: dict[int, PartitionState] = {}
        self._news: deque[PartNews] = deque()
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._generation = 0

    def keep(self, state: PartitionState, paused: float) -> None:
        """A cut that was copied while the ticks stood still for so many seconds; it is looked at and written in the
        background.
        """
        self._kept[state.tick] = state
        arguments = (state, paused, self._generation)
        threading.Thread(target=self._look, args=arguments, daemon=True, name="hamdist-cut").start()

    def take(self) -> tuple[PartNews, ...]:
        """Those since the last call."""
        with self._lock:
            news = tuple(self._news)
            self._news.clear()
        return news

    def whole(self, tick: int) -> None:
        """The cut of this tick is whole; those before it are needed no more."""
        for older in [known for known in tuple(self._kept) if known < tick]:
            self._kept.pop(older, None)

    def give_up(self, tick: int) -> None:
        """The cut of this tick will not be whole."""
        self._kept.pop(tick, None)

    def keeps(self, tick: int) -> bool:
        """Whether that cut is kept."""
        return tick in self._kept

    def at(self, tick: int) -> PartitionState:
        """Raises RunError where it was not kept."""
        if tick not in self._kept:
            raise RunError(f"no cut of tick {tick} is kept here, but of {sorted(self._kept) or 'none'}")
        return self._kept[tick]

    def go_back(self, tick: int) -> None:
        """What came after this tick never was."""
        if self._writing.acquire(timeout=WRITTEN_SECONDS):
            self._writing.release()
        with self._lock:
            self._generation += 1
            self._news.clear()
        for newer in [known for known in self._kept if known > tick]:
            del self._kept[newer]

    def _look(self, state: PartitionState, paused: float, generation: int) -> None:
        started = time.perf_counter()
        files: tuple[Any, ...] = ()
        with self._writing:
            state = self._on_host(state)
            problem = unfinite(state)
            if not problem and self.write is not None:
                try:
                    files = self.write(state)
                except Exception as error:
                    problem = f"it could not be written: {error}"
        news = PartNews(state.tick, files, problem, paused, time.perf_counter() - started)
        with self._lock:
            if generation == self._generation:
                self._news.append(news)

    def _on_host(self, state: PartitionState) -> PartitionState:
        """The same in host memory, where it is kept from now on."""
        state = moved_to(torch.device("cpu"), state)
        if state.tick in self._kept:
            self._kept[state.tick] = state
        return state


def moved_to(device: torch.device, state: Tree) -> Tree:
    """The same on a device."""
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, state)
