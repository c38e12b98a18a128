"""The layers of one part as units that compute at once, in the order of evaluation.

Layers of equal structure form a stack if none waits for another inside a tick. Fully local these are all of them, in
groups those at the same depth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hamdist.engine.node_spec import NodeSpec
from hamdist.network.graph import SOURCE, Graph
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.hamiltonian import Wanted
from hamdist.physics.layers import Layer
from hamdist.physics.memory import Pairing


@dataclass(frozen=True)
class Unit:
    """number: its place among the units of its part.  plans: of its members; a unit that does not stack has one.

    level: 0, or one more than that of the highest unit that it hears inside a tick.
    """

    number: int
    plans: tuple[NodeSpec, ...]
    level: int

    @property
    def stacks(self) -> bool:
        traced = self.plans[0].traced
        return traced is not None and traced.stacks

    @property
    def form(self) -> Layer:
        """The members as one layer."""
        traced = self.plans[0].traced
        assert traced is not None
        return traced.form

    @cached_property
    def pairing(self) -> Pairing:
        """Which points the members' costates meet: this tick's if that is so for all of them."""
        pairings = [plan.memory for plan in self.plans if isinstance(plan.memory, Pairing)]
        return next((pairing for pairing in pairings if not pairing.meets_present), pairings[0])

    @property
    def remembers(self) -> bool:
        return self.form.remembers

    @property
    def dynamics(self) -> Dynamics:
        return self.plans[0].dynamics

    @property
    def wanted(self) -> Wanted:
        """The partial derivatives that any member needs."""
        masks = zip(*(plan.facts.wanted for plan in self.plans), strict=True)
        return Wanted(True, tuple(any(mask) for mask in masks))

    @property
    def slots(self) -> int:
        """How many in-edges a member has."""
        return len(self.plans[0].into)


def units_of(graph: Graph, plans: Mapping[str, NodeSpec]) -> tuple[Unit, ...]:
    """Every layer of `plans` in a unit, all of them traced; lower levels first."""
    level = levels(graph)
    groups: dict[object, list[NodeSpec]] = {}
    for name, plan in plans.items():
        assert plan.traced is not None, f"{name} is not traced"
        structure = (plan.traced.family, len(plan.into)) if plan.traced.stacks else name
        groups.setdefault((level[name], structure), []).append(plan)
    ordered = sorted(groups.values(), key=lambda group: level[group[0].name])
    return tuple(Unit(number, tuple(group), level[group[0].name]) for number, group in enumerate(ordered))


def levels(graph: Graph) -> dict[str, int]:
    """How many nodes, at most, a node waits for in a row inside a tick; the source is there from the start."""
    level: dict[str, int] = {}
    for node in graph.order():
        heard = [e.source for e in graph.into(node) if e.delay == 0 and e.source != SOURCE]
        level[node] = max((level[source] + 1 for source in heard), default=0)
    return level
