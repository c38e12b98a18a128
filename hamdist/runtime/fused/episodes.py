"""Where episodes begin in a chunk of ticks, for the units that remember: flags, known from tokens."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hamdist.runtime.fused.passage import Passage
from hamdist.runtime.fused.plan import FusedPlan
from hamdist.runtime.fused.times import Times
from hamdist.runtime.fused.units import Unit
from hamdist.runtime.token import flags_of

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
