"""The samples that passed through a part: their tokens by the tick at which they entered the network.

Since times.py knows who speaks of what, one record tells every token there is, and who has learnt from what.
"""

from collections.abc import Sequence

from hamdist.runtime.ledger import Ledger
from hamdist.runtime.token import Token


class Passage:
    """Tokens of successive ticks; what is older than `kept` ticks is forgotten."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._first = 0  # the tick of the oldest
        self._tokens: list[Token] = []
        self._rows: list[int] = []  # of each and all before it
        self._breaks: list[int] = []  # those among these that do not go on where the one before ended
        self._restarted = -1  # the tick of the latest token in which an episode begins

    @property
    def latest(self) -> int:
        """The tick of the latest token."""
        return self._first + len(self._tokens) - 1

    def restart(self) -> None:
        """Forgets all: the next token may be of any tick."""
        for each in (self._tokens, self._rows, self._breaks):
            each.clear()

    def add(self, tokens: Sequence[Token]) -> None:
        """Those of the next ticks; what was told before is passed over."""
        if not self._tokens:
            self._first = tokens[0].tick
        for token in tokens[max(0, self.latest + 1 - tokens[0].tick) :]:
            self._append(token)
        excess = len(self._tokens) - self._kept
        if excess > 0:
            self._first += excess
            for each in (self._tokens, self._rows, self._breaks):
                del each[:excess]

    def _append(self, token: Token) -> None:
        assert token.tick == self.latest + 1, "tokens come in order"
        rows = breaks = 0
        if self._tokens:
            before = self._tokens[-1]
            rows = self._rows[-1]
            breaks = self._breaks[-1] + (token.first != before.first + before.rows)
        if token.restarts:
            self._restarted = token.tick
        self._tokens.append(token)
        self._rows.append(rows + token.rows)
        self._breaks.append(breaks)

    def __getitem__(self, tick: int) -> Token:
        return self._tokens[tick - self._first]

    def restarts(self, tick: int, ticks: int) -> bool:
        """Whether an episode begins in any of so many ticks, from `tick` on."""
        if self._restarted < tick:
            return False
        return any(token.restarts for token in self.told(tick, ticks))

    def told(self, tick: int, ticks: int) -> tuple[Token, ...]:
        """Those of so many ticks, from `tick` on."""
        start = tick - self._first
        assert 0 <= start <= len(self._tokens) - ticks, "these were told, and are kept"
        return tuple(self._tokens[start : start + ticks])

    def drove(self, ledger: Ledger, first: int, last: int) -> None:
        """All tokens that entered from tick `first` to `last` drove a layer."""
        if last < first:
            return
        start, end = first - self._first, last - self._first
        ledger.drove_in_a_row(
            drives=last - first + 1,
            samples=self._rows[end] - self._rows[start] + self._tokens[start].rows,
            first=self._tokens[start],
            last=self._tokens[end],
            in_order=self._breaks[end] == self._breaks[start],
        )
