"""The operations of a part's regular ticks, made when they first come: traced, and compiled if asked for."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from hamdist.physics.compiled import CompilerMissingError, to_machine_code
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
        self._compiles, self._chunk = compiles, chunk
        self._why = ""  # nothing is compiled, though it was asked for
        self._seconds = 0.0
        self._seen: dict[Pattern, int] = {}
        self._ready: dict[Pattern, Traced] = {}

    def of(self, pattern: Pattern, make: Make, tensors: list[Tensor]) -> Traced:
        """make: traces them, to run one by one or not.  tensors: what they will run on."""
        seen = self._seen[pattern] = self._seen.get(pattern, 0) + 1
        ticks = len(pattern.scored)
        hot = self._compiles and seen == HOT and ticks < self._chunk
        if hot or pattern not in self._ready:
            whole = ticks == self._chunk or seen == HOT
            self._ready[pattern] = self._made(make, tensors, whole)
        return self._ready[pattern]

    @property
    def told(self) -> dict[str, Any]:
        """What the summary says of them."""
        told: dict[str, Any] = {"chunk": self._chunk}
        if self._seconds:
            told |= {"compile_seconds": round(self._seconds, 3)}
        return told | ({"not_compiled": self._why} if self._why else {})

    def _made(self, make: Make, tensors: list[Tensor], whole: bool) -> Traced:
        if self._compiles and whole:
            traced = make(False)
            try:
                self._seconds += to_machine_code(traced, tensors)
                return traced
            except CompilerMissingError as error:
                self._compiles, self._why = False, str(error)
                warnings.warn(f"ticks run uncompiled: {error}", stacklevel=2)
        return make(True)
