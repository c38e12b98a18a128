"""Where the time of one actor's loop went: shares of all of it, and its last spans one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

Kind = Literal["compute", "integrate", "wait", "send", "read"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OTHER = "other"


class Span(NamedTuple):
    """A stretch of one thread's time, in nanoseconds; start: since the epoch, by the clock of the actor's machine.

    where: the layer, the loss, or the edge; "" where there is none.
    """

    kind: Kind
    tick: int
    start: int
    duration: int
    where: str = ""


@dataclass(frozen=True)
class Profile:
    """What was recorded of a loop.

    ticks: how many it did.  nanoseconds: how long it took.  spent: nanoseconds by kind, over all of the loop.
    spans: the last ones, in order; they do not overlap.
    """

    ticks: int
    nanoseconds: int
    spent: Mapping[Kind, int]
    spans: tuple[Span, ...] = ()

    def percent(self) -> dict[str, float]:
        """The share of every kind in the loop's time; what belongs to none is `other`."""
        whole = max(self.nanoseconds, 1)
        shares: dict[str, float] = {kind: round(100 * self.spent.get(kind, 0) / whole, 1) for kind in KINDS}
        return {**shares, OTHER: max(0.0, round(100 - sum(shares.values()), 1))}

    def told(self) -> dict[str, object]:
        """As the summary tells it."""
        return {
            "ticks": self.ticks,
            "seconds": round(self.nanoseconds * 1e-9, 3),
            "percent": self.percent(),
        }
