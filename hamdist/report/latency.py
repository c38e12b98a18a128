"""How long live samples wait for their predictions."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

_EDGES = [1e-6 * 10 ** (step / 100) for step in range(901)]
"""Of 900 bins from a microsecond to a thousand seconds, in seconds: each is 2.3 % longer than the one before."""


class Latency:
    """From when a sample was there to the end of the tick in which its prediction left the network.

    Samples that came before the run first waited for one, while it started, are counted apart, and so are those of a
    stall. However many samples come, the memory is the same; the percentiles are within 2.3 %, from above.
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(_EDGES) + 1)
        self._longest = 0.0
        self._waiting: deque[float | None] = deque()
        self._early, self._caught_up = 0, False
        self._done = 0

    def present(self, arrivals: Sequence[float], asked: float) -> None:
        """Samples are presented.  asked: when the first of them was asked for."""
        self._caught_up = self._caught_up or (bool(arrivals) and arrivals[-1] > asked)
        if not self._caught_up:
            self._early += len(arrivals)
        self._waiting.extend(arrivals if self._caught_up else [None] * len(arrivals))

    def stalled(self) -> None:
        """Ticks have been compiled since the last sample was presented: it has to catch up again."""
        self._early += sum(arrived is not None for arrived in self._waiting)
        self._waiting = deque([None] * len(self._waiting))
        self._caught_up = False

    def predicted(self, samples: int, now: float) -> None:
        """The predictions of so many samples in all have left the network."""
        while self._done < samples:
            arrived = self._waiting.popleft()
            self._done += 1
            if arrived is not None:
                self._counts[bisect_left(_EDGES, now - arrived)] += 1
                self._longest = max(self._longest, now - arrived)

    def told(self) -> dict[str, float]:
        """Of a summary; empty where no live sample came."""
        samples = sum(self._counts)
        told: dict[str, float] = {"samples": samples} if samples or self._early else {}
        if samples:
            told |= {
                "median_ms": 1e3 * self._percentile(0.5),
                "p99_ms": 1e3 * self._percentile(0.99),
                "longest_ms": 1e3 * self._longest,
            }
        return told | ({"samples_before_caught_up": self._early} if self._early else {})

    def _percentile(self, share: float) -> float:
        """The shortest time, in seconds, within which such a share of the samples was predicted."""
        wanted, met = share * sum(self._counts), 0
        for edge, count in zip(_EDGES, self._counts, strict=False):
            met += count
            if met >= wanted:
                return min(edge, self._longest)
        return self._longest
