"""How often, and how soon after each other, a run may go on after something that it needs has failed."""

from collections import deque
from dataclasses import dataclass, field
from time import monotonic

MOST_SECONDS = 60.0  # to wait before another try
HOUR = 3600.0


@dataclass
class Allowance:
    """most: failures in a row, without a new checkpoint between them.  per_hour: in any hour.  back_off_seconds: to
    wait after the second in a row, doubled for each one that follows.
    """

    most: int
    per_hour: int
    back_off_seconds: float
    _spent: deque[float] = field(default_factory=deque)
    _in_a_row: int = 0

    def refused(self) -> str:
        """Why there is to be no other try, "" where there may be one."""
        now = monotonic()
        while self._spent and now - self._spent[0] > HOUR:
            self._spent.popleft()
        if self._in_a_row >= self.most:
            return f"recovery.max_failures is {self.most}"
        if len(self._spent) >= self.per_hour:
            return f"recovery.failures_per_hour is {self.per_hour}"
        return ""

    def spend(self) -> float:
        """A failure more; the seconds to wait before another try."""
        self._spent.append(monotonic())
        wait = 0.0 if not self._in_a_row else self.back_off_seconds * 2 ** (self._in_a_row - 1)
        self._in_a_row += 1
        return min(MOST_SECONDS, wait)

    def progressed(self) -> None:
        """There is a new checkpoint since the last failure."""
        self._in_a_row = 0
