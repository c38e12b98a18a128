"""The samples that passed through a partition: their tokens by the tick at which they entered the network.

Since network/timing.py knows who speaks of what, one record tells every token there is, who has learnt from what, and
where episodes begin.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hamdist.engine.fused.plan import FusedPlan
from hamdist.engine.fused.units import Unit
from hamdist.engine.ledger import Ledger
from hamdist.engine.message import Token, flags_of
from hamdist.errors import RunError
from hamdist.network.timing import Times


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
        if token.tick != self.latest + 1:
            raise RunError(
                f"samples of tick {token.tick} entered where those of tick {self.latest + 1} were due; this is a fault "
                "of hamdist: please report it with your config"
            )
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
        if not 0 <= start <= len(self._tokens) - ticks:
            raise RunError(
                f"the samples of tick {tick} to {tick + ticks - 1} are not known here, or not any more"
            )
        return tuple(self._tokens[start : start + ticks])

    def drove(self, ledger: Ledger, first: int, last: int) -> Ledger:
        """All tokens that entered from tick `first` to `last` drove a layer."""
        if last < first:
            return ledger
        start, end = first - self._first, last - self._first
        return ledger.drove_in_a_row(
            drives=last - first + 1,
            samples=self._rows[end] - self._rows[start] + self._tokens[start].rows,
            first=self._tokens[start],
            last=self._tokens[end],
            in_order=self._breaks[end] == self._breaks[start],
        )


When = Callable[[str, int], int]
"""At which tick the samples entered that a node meets at a tick."""


class Episodes:
    """By unit, flags [ticks, N, B], without N where the unit does not stack."""

    def __init__(self, plan: FusedPlan, times: Times, passage: Passage) -> None:
        self._times, self._passage = times, passage
        self._units = [unit for unit in plan.units if unit.remembers]

    def begin(self, tick: int, ticks: int) -> bool:
        """Whether any begins in so many ticks, in what units hear, or in what returns to them."""
        return any(
            self._passage.restarts(when(plan.name, tick), ticks)
            for unit in self._units
            for plan in unit.plans
            for when in (self._times.heard, self._times.returned)
        )

    def heard(self, tick: int, ticks: int) -> Mapping[int, Tensor]:
        """Of the samples that come; of a single tick as it is."""
        flags = {unit.number: self._flags(unit, self._times.heard, tick, ticks) for unit in self._units}
        return flags if ticks > 1 else {number: only.squeeze(0) for number, only in flags.items()}

    def returned(self, tick: int, ticks: int) -> Mapping[int, Tensor]:
        """Of the samples whose costates come."""
        return {unit.number: self._flags(unit, self._times.returned, tick, ticks) for unit in self._units}

    def _flags(self, unit: Unit, when: When, tick: int, ticks: int) -> Tensor:
        says = unit.plans[0].facts.says
        flags = torch.tensor(
            [
                [
                    flags_of(self._passage[when(plan.name, tick + k)].restarts, says.shape[0])
                    for plan in unit.plans
                ]
                for k in range(ticks)
            ],
            device=says.device,
        )
        return flags if unit.stacks else flags.squeeze(1)
