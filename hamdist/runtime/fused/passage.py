"""The samples that passed through a part: their tokens by the tick at which they entered the network.

Since times.py knows who speaks of what, one record tells every token there is, and who has learnt from what.
"""

from collections import deque
from typing import NamedTuple

from hamdist.runtime.ledger import Ledger
from hamdist.runtime.token import Token


class _Entered(NamedTuple):
    """A token, and of all tokens up to it: their rows, and how many do not go on where the one before ended."""

    token: Token
    rows: int
    breaks: int


class Passage:
    """Tokens of successive ticks; what is older than `kept` ticks is forgotten."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._entered: deque[_Entered] = deque()
        self._first = 0  # the tick of the oldest

    @property
    def latest(self) -> int:
        """The tick of the latest token."""
        return self._first + len(self._entered) - 1

    def restart(self) -> None:
        """Forgets all: the next token may be of any tick."""
        self._entered.clear()

    def add(self, token: Token) -> None:
        """The token of the next tick; one that was told before is passed over."""
        if not self._entered:
            self._first = token.tick
            self._entered.append(_Entered(token, token.rows, 0))
            return
        if token.tick <= self.latest:
            return
        before = self._entered[-1]
        assert token.tick == self.latest + 1, "tokens come in order"
        follows = token.first == before.token.first + before.token.rows
        self._entered.append(_Entered(token, before.rows + token.rows, before.breaks + (not follows)))
        if len(self._entered) > self._kept:
            self._entered.popleft()
            self._first += 1

    def __getitem__(self, tick: int) -> Token:
        return self._entered[tick - self._first].token

    def drove(self, ledger: Ledger, first: int, last: int) -> None:
        """All tokens that entered from tick `first` to `last` drove a layer."""
        if last < first:
            return
        start, end = self._entered[first - self._first], self._entered[last - self._first]
        ledger.drove_in_a_row(
            drives=last - first + 1,
            samples=end.rows - start.rows + start.token.rows,
            first=start.token,
            last=end.token,
            in_order=end.breaks == start.breaks,
        )
