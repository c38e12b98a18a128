"""A word before numbers run away: whether the weights or costates of a layer grow as they do before a divergence.

A norm is the largest magnitude. There is a look after 1, 2, 4, … ticks, since most that diverges does so soon, and then
so often that looking takes a thousandth of the time.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.engine.divergence import remedy_for
from hamdist.engine.extent import FAR, traits
from hamdist.engine.node_spec import NodeSpec
from hamdist.physics.step import Carry

TICKS = 16  # between two looks, at least, but for the first ones
SOON = 4096  # ticks for which there is a look after 1, 2, 4, …
SETTLED = 5  # looks from which on costates are compared
SHARE = 1e-3  # of the time, for looking
LOOKS = 8  # that are compared, at most
SPAN = 2000  # ticks within which they are
WEIGHTS_GROW = 10.0  # times the least of these looks
COSTATES_GROW = 100.0  # times the largest, since they vary from sample to sample
SMALL = 1.0  # what is smaller may grow up to this
_log = logging.getLogger(__name__)


class Norms(NamedTuple):
    """Of one layer, before a tick."""

    tick: int
    weights: float
    costates: float


class Growth(NamedTuple):
    """What grew, from which look to which, and from what to what."""

    what: str
    since: int
    tick: int
    before: float
    now: float


Carries = Callable[[], Mapping[str, Carry]]


class Watch:
    """Of the layers of one process; each is told of once.  clock: in seconds."""

    def __init__(self, specs: Mapping[str, NodeSpec], clock: Callable[[], float] = perf_counter) -> None:
        self._specs, self._clock = specs, clock
        self._seen: dict[str, deque[Norms]] = {}
        self._told: set[str] = set()
        self._begun, self._soon = 0, 1.0  # the tick of the next of the first looks
        self._next, self._rests_until = TICKS, -math.inf

    def after(self, tick: int, carries: Carries) -> None:
        """A look at what gives the carry of every layer, where one is due; to be called between ticks."""
        if tick < self._soon and (tick < self._next or self._clock() < self._rests_until):
            return
        started = self._clock()
        self.look(tick, carries())
        ended = self._clock()
        self._next, self._rests_until = tick + TICKS, ended + (ended - started) / SHARE
        if tick >= self._soon:
            done = 2 * (tick - self._begun)
            self._soon = self._begun + done if done <= SOON else math.inf

    @torch.no_grad()
    def look(self, tick: int, carries: Mapping[str, Carry]) -> None:
        """A warning for each layer that grew since the looks before."""
        for name, norms in _norms(tick, carries).items():
            seen = self._seen.setdefault(name, deque(maxlen=LOOKS))
            growth = growth_of(seen, norms)
            seen.append(norms)
            if growth is not None and name not in self._told:
                self._told.add(name)
                self._tell(name, growth)

    def restart(self, tick: int) -> None:
        """All layers are as they were, or will be, at another tick."""
        self._seen.clear()
        self._begun, self._soon = tick, tick + 1.0
        self._next, self._rests_until = tick + TICKS, -math.inf

    def _tell(self, name: str, growth: Growth) -> None:
        remedy = remedy_for(traits(self._specs[name]), [traits(spec) for spec in self._specs.values()])
        _log.warning(
            "layer %r may be about to diverge: its %s grew from %.3g at tick %d to %.3g at tick %d: %s",
            name, growth.what, growth.before, growth.since, growth.now, growth.tick, remedy,
        )  # fmt: skip


def growth_of(looks: Iterable[Norms], now: Norms) -> Growth | None:
    """Weights that grew tenfold within SPAN ticks, or passed FAR; costates a hundred times what they were at most."""
    seen = [norms for norms in looks if now.tick - norms.tick <= SPAN]
    if not seen:
        return None
    least, last = min(seen, key=lambda norms: norms.weights), seen[-1]
    if _is_many(now.weights, WEIGHTS_GROW, least.weights):
        return Growth("weights", least.tick, now.tick, least.weights, now.weights)
    if last.weights <= FAR < now.weights < math.inf:
        return Growth("weights", last.tick, now.tick, last.weights, now.weights)
    most = max(seen, key=lambda norms: norms.costates)
    if len(seen) >= SETTLED and most.costates and _is_many(now.costates, COSTATES_GROW, most.costates):
        return Growth("costates", most.tick, now.tick, most.costates, now.costates)
    return None


def _is_many(now: float, times: float, before: float) -> bool:
    """What is no number any more is told of elsewhere."""
    return times * max(before, SMALL) <= now < math.inf


def _norms(tick: int, carries: Mapping[str, Carry]) -> dict[str, Norms]:
    each = [norm for carry in carries.values() for norm in (_weights(carry), _costates(carry))]
    found = torch.stack(each).tolist()
    return {name: Norms(tick, *found[2 * k : 2 * k + 2]) for k, name in enumerate(carries)}


def _weights(carry: Carry) -> Tensor:
    return _largest(list(carry.parameters.values()), carry.updates)


def _costates(carry: Carry) -> Tensor:
    return _largest([*carry.weight_costate.values(), *carry.state_costate], carry.updates)


def _largest(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    """The largest magnitude, 0 where there is nothing; float64, on the device of the layer."""
    norms = [torch.linalg.vector_norm(tensor, math.inf).double() for tensor in tensors if tensor.numel()]
    return torch.stack(norms).max() if norms else torch.zeros_like(like)
