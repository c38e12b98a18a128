"""What was done about a failure, or about numbers that were not finite, as a summary tells it."""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Restart:
    """Why ticks ended, from which tick they went on, and where the time went until then, in seconds.

    reached: the tick that had been come to, as far as is known.  lost: the names of actors.  at: when it was seen, in
    seconds since 1970.
    """

    cause: str
    tick: int
    reached: int
    lost: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    at: float = field(default_factory=time.time)
    _since: float = field(default_factory=time.perf_counter)

    def done(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] = round(now - self._since, 3)
        self._since = now

    def told(self) -> dict[str, Any]:
        """Of a summary."""
        return {
            "cause": self.cause,
            "lost": self.lost,
            "tick": self.tick,
            "replayed_ticks": max(0, self.reached - self.tick),
            "at": round(self.at, 3),
            "seconds": {**self.seconds, "all": round(sum(self.seconds.values()), 3)},
        }
