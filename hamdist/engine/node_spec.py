"""All that a layer's node must know of the network, fixed before the first tick: itself, its edges, how it learns."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial

from torch import Tensor

from hamdist.engine.fused.eligibility import PLAIN_FORM, Fit
from hamdist.engine.fused.layer import TracedLayer, TracedStep
from hamdist.engine.junction import Junction
from hamdist.engine.message import NO_COSTATE, Costate
from hamdist.network.graph import Edge
from hamdist.network.locality import Horizon
from hamdist.network.survey import Facts
from hamdist.physics.bptt import Step, stepped
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.hamiltonian import Wanted
from hamdist.physics.layers import Layer
from hamdist.physics.memory import Gate, Memory, PairingName, StashName, WindowMemory, gate_open, pairing_of
from hamdist.physics.step import NO_SPAN, Motion


@dataclass(frozen=True)
class NodeSpec:
    """depth: D, the ticks from its evaluation to its costate's return.  settling: tolerance and window of `settled`,
    None where a hold settles exactly.  warm: whether a layer with latency starts with a valid output.
    mixing: whether joins are out of balance, so that samples mix.  horizon: how far back in time it looks.
    fit: the form in which it runs.  compiles: whether windows of time are compiled.  skips: whether losses that are
    not finite are left out.  holds_output: whether it says the same throughout a hold, whatever its weights become.
    computing, integrating: what measures the time that goes into evaluations, and into the equations of motion.
    """

    name: str
    layer: Layer
    facts: Facts
    dynamics: Dynamics
    into: tuple[Edge, ...]
    out_of: tuple[Edge, ...]
    depth: int
    pairing: PairingName = "stashed"
    stash: StashName = "inputs"
    gate: Gate = "always"
    hold: int = 1
    settling: tuple[float, int] | None = None
    warm: bool = False
    mixing: bool = False
    horizon: Horizon | None = None
    seed: int = 0
    fit: Fit = PLAIN_FORM
    compiles: bool = False
    skips: bool = False
    holds_output: bool = False
    computing: AbstractContextManager[None] = NO_SPAN
    integrating: AbstractContextManager[None] = NO_SPAN

    @property
    def traced(self) -> TracedLayer | None:
        """The layer as traced operations, if it runs so."""
        return self.fit.traced

    @cached_property
    def computes(self) -> Layer:
        """The layer in the form in which it runs."""
        return self.traced or self.layer

    @cached_property
    def memory(self) -> Memory:
        """Which of its evaluations a costate meets."""
        if self.horizon is None:
            return pairing_of(self.pairing, self.computes, self.depth, self.stash)
        return WindowMemory(self.computes, self.horizon.ticks, self.depth, self.horizon.reintegrates)

    @cached_property
    def motion(self) -> Motion:
        return self._motion(weights=True)

    @cached_property
    def _motion_at_rest(self) -> Motion:
        return self._motion(weights=False)

    def motion_at(self, tick: int) -> Motion:
        """How it moves in a tick: where the gate is shut, nobody asks for ∂H/∂θ."""
        if self.gate == "always" or gate_open(self.gate, tick, self.hold):
            return self.motion
        return self._motion_at_rest

    def _motion(self, weights: bool) -> Motion:
        wanted = Wanted(weights, self.facts.wanted)
        return Motion(self.computes, self.dynamics, wanted, self.computing, self.integrating)

    @cached_property
    def step_back(self) -> Step:
        """One point further back in a window of time."""
        if self.traced is None:
            return partial(stepped, self.layer, self.dynamics.tau)
        return TracedStep(self.layer, self.dynamics.tau, self.compiles, self.name)

    @cached_property
    def inward(self) -> Junction:
        """Where its in-edges meet."""
        return Junction(tuple(not edge.feedback for edge in self.into), self.mixing)

    @cached_property
    def outward(self) -> Junction:
        """Where its out-edges' costates meet."""
        return Junction(tuple(not edge.feedback for edge in self.out_of), self.mixing)

    @cached_property
    def answers(self) -> tuple[bool, ...]:
        """Per in-edge, whether a costate returns along it: along feedback under `current` only."""
        return tuple(forward or self.pairing == "current" for forward in self.inward.forward)

    @cached_property
    def silence(self) -> list[Costate]:
        """What it returns in a tick in which nothing drives it."""
        return [NO_COSTATE] * len(self.into)

    @cached_property
    def quiet(self) -> Tensor:
        """q where nothing returns: zeros [B, …], or [K, B, …] of a window."""
        zeros = self.facts.output
        return zeros if self.horizon is None else zeros.expand(self.horizon.ticks, *zeros.shape)

    @cached_property
    def batch(self) -> int:
        """The rows of a full batch."""
        return self.facts.says.shape[0]

    @cached_property
    def latency(self) -> int:
        """How many ticks pass before what it hears shows."""
        return self.layer.latency

    @cached_property
    def needs_latest(self) -> bool:
        """Whether the last point that learnt is asked for."""
        return bool(self.layer.latency) or self.settling is not None
