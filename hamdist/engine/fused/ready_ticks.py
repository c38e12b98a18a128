"""The operations of ticks that run in one go, made when such ticks first come, and compiled where that pays."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from hamdist.compiler.inductor import Compiling
from hamdist.compiler.trace import Traced

HOT = 32  # single ticks after which they are compiled beside whole chunks
Make = Callable[[bool], Traced]


class ChunkPattern(NamedTuple):
    """What ticks that run in one go have in common.

    scored: for each of them, whether the losses count.  restarts: whether episodes begin in them.
    """

    scored: tuple[bool, ...]
    restarts: bool


class ReadyTicks:
    """Operations by the pattern of the ticks.

    compiles: whether to compile them.  chunk: the length of a whole chunk.  of: whose they are.
    """

    def __init__(self, compiles: bool, chunk: int, of: str = "all layers") -> None:
        of = f"the ticks of {of}" + (f", {chunk} at a time" if chunk > 1 else "")
        self._compiling, self._chunk = Compiling(compiles, "ticks run", of), chunk
        self._seen: dict[ChunkPattern, int] = {}
        self._ready: dict[ChunkPattern, Traced] = {}

    def of(self, pattern: ChunkPattern, make: Make, tensors: list[Tensor]) -> Traced:
        """make: traces them, to run one by one or not.  tensors: what they will run on."""
        seen = self._seen[pattern] = self._seen.get(pattern, 0) + 1
        ticks = len(pattern.scored)
        hot = self._compiling.wanted and seen == HOT and ticks < self._chunk
        if hot or pattern not in self._ready:
            whole = ticks == self._chunk or seen == HOT
            self._ready[pattern] = self._compiling(make, tensors) if whole else make(True)
        return self._ready[pattern]

    @property
    def execution(self) -> dict[str, Any]:
        """What the summary says of them."""
        told: dict[str, Any] = {"chunk": self._chunk}
        if seconds := self._compiling.seconds:
            told |= {"compile_seconds": round(seconds, 3)}
        return told | ({"not_compiled": self._compiling.why} if self._compiling.why else {})
