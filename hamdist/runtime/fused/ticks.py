"""The operations of a part's regular ticks, made when they first come: traced, and compiled if asked for."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from hamdist.physics.compiled import Compiling
from hamdist.physics.traced import Traced

HOT = 32  # single ticks after which they are compiled beside whole chunks
Make = Callable[[bool], Traced]


class Pattern(NamedTuple):
    """What ticks that run in one go have in common.

    scored: for each of them, whether the losses count.  restarts: whether episodes begin in them.
    """

    scored: tuple[bool, ...]
    restarts: bool


class Ticks:
    """By the pattern of ticks that run in one go.

    compiles: whether to compile them.  chunk: the length of a whole chunk.
    """

    def __init__(self, compiles: bool, chunk: int) -> None:
        self._compiling, self._chunk = Compiling(compiles, "ticks run"), chunk
        self._seen: dict[Pattern, int] = {}
        self._ready: dict[Pattern, Traced] = {}

    def of(self, pattern: Pattern, make: Make, tensors: list[Tensor]) -> Traced:
        """make: traces them, to run one by one or not.  tensors: what they will run on."""
        seen = self._seen[pattern] = self._seen.get(pattern, 0) + 1
        ticks = len(pattern.scored)
        hot = self._compiling.wanted and seen == HOT and ticks < self._chunk
        if hot or pattern not in self._ready:
            whole = ticks == self._chunk or seen == HOT
            self._ready[pattern] = self._compiling(make, tensors) if whole else make(True)
        return self._ready[pattern]

    @property
    def told(self) -> dict[str, Any]:
        """What the summary says of them."""
        told: dict[str, Any] = {"chunk": self._chunk}
        if seconds := self._compiling.seconds:
            told |= {"compile_seconds": round(seconds, 3)}
        return told | ({"not_compiled": self._compiling.why} if self._compiling.why else {})
