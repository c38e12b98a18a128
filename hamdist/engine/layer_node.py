"""One layer at work: its carry, its memory and its ledger, around the two pure halves of a tick.

A cell knows only its own edges. `evaluate` takes a signal from every in-edge and gives the one for all out-edges;
`react` takes a costate from every out-edge and gives one for every in-edge.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.engine.fused.layer import TracedLayer
from hamdist.engine.junction import InEdges, OutEdges
from hamdist.engine.ledger import Ledger
from hamdist.engine.message import INVALID, NO_COSTATE, ZEROS, Costate, Signal, Token, flags_of
from hamdist.engine.profiler import SILENT, Timeline
from hamdist.engine.settling import Settling
from hamdist.network.graph import Edge
from hamdist.network.locality import Horizon
from hamdist.network.survey import Facts
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.hamiltonian import Partials, Wanted
from hamdist.physics.layers import Context, Layer, Point
from hamdist.physics.memory import Evaluation, Gate, PairingName, Returned, StashName, gate_open, make_memory
from hamdist.physics.randomness import derive_seed
from hamdist.physics.step import (
    Carry,
    advance_state,
    evaluate,
    forgotten,
    initial_carry,
    react,
    restarted,
)


@dataclass(frozen=True)
class CellPlan:
    """All that a cell must know of the network: itself, its edges, and how it learns.

    depth: D, the ticks from its evaluation to its costate's return.  settling: tolerance and window of `settled`,
    None where a hold settles exactly.  warm: whether a layer with latency starts with a valid output.
    mixing: whether joins are out of balance, so that samples mix.  horizon: how far back in time it looks.
    traced: the layer as traced operations, if it runs so.  compiles: whether windows of time are compiled.
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
    traced: TracedLayer | None = None
    compiles: bool = False


def restarts_of(token: Token, plan: CellPlan) -> Tensor | None:
    """The rows [B] in which an episode begins; None where there are none."""
    if not token.restarts:
        return None
    rows, device = plan.facts.says.shape[0], plan.facts.says.device
    return torch.tensor(flags_of(token.restarts, rows), device=device)


class Cell:
    """A layer's mutable shell. Everything that moves is in `carry`, `memory` and the two pending tokens."""

    def __init__(self, plan: CellPlan, timeline: Timeline = SILENT) -> None:
        self.plan = plan
        self._computing = timeline.span("compute", plan.name)
        self._integrating = timeline.span("integrate", plan.name)
        self.carry = initial_carry(plan.layer, plan.facts.inputs, plan.dynamics)
        self._layer = plan.traced or plan.layer
        self.memory = make_memory(plan.pairing, self._layer, plan.depth, plan.stash)
        self.ledger = Ledger()
        self.settling = plan.settling and Settling(*plan.settling)
        self._forward_in = [not edge.feedback for edge in plan.into]
        self._in = InEdges(self._forward_in, plan.mixing)
        self._out = OutEdges([not edge.feedback for edge in plan.out_of], plan.mixing)
        # Of a layer with latency: whose samples ξ shows, and whose costate p holds.
        self._shown: Token = ZEROS if plan.warm else INVALID
        self._held: Token = INVALID
        self._trial: tuple[Tensor, ...] | None = None  # the state that hold-out samples move, beside ξ
        self._evaluation: Evaluation | None = None  # this tick's, if it learns
        self._needs_latest = bool(plan.layer.latency) or plan.settling is not None
        self._latest: Point | None = None  # the last that learnt

    @property
    def compile_seconds(self) -> float:
        """What compiling took that this cell does by itself."""
        return 0.0

    def tensors(self) -> dict[str, Tensor]:
        """What the layer's module would have in its state_dict."""
        return self.plan.layer.pure.state_dict(self.carry.parameters, self.carry.buffers)

    @property
    def energies(self) -> dict[str, float]:
        """Of a layer with a memory: the root mean squares of its state and of its state costate."""
        if not self.plan.layer.remembers:
            return {}
        found = {"state": self.carry.state, "state_costate": self.carry.state_costate}
        return {name: _root_mean_square(tensors) for name, tensors in found.items()}

    def resume(self, latest: Point, remembered: list[Point], shown: Token, held: Token) -> None:
        """Goes on after regular ticks that were done elsewhere.

        latest: what it was evaluated at in the last of them.  remembered: what its memory would hold.  shown, held: the
        tokens of what a layer with latency shows, and of the costate that it holds.
        """
        self._evaluation = self._trial = None
        self._latest = latest
        self._in.heard(latest.inputs)
        self.memory.restore(remembered)
        if self.plan.layer.latency:
            self._shown, self._held = shown, held

    # First half

    def evaluate(self, tick: int, signals: list[Signal]) -> Signal:
        """Takes one signal per in-edge and returns the one for every out-edge."""
        self._evaluation = None
        token, signals = self._in.hear(signals)
        shown = self._before(token)
        if token.valid:
            inputs = tuple(
                heard.zeros() if signal.value is None else signal.value
                for signal, heard in zip(signals, self.plan.facts.hears, strict=True)
            )
            output = self._learn_from(tick, token, inputs) if token.learn else self._try(token, inputs)
            if self.plan.facts.shows_weights:
                output = output.clone()
            shown = shown if self.plan.layer.latency else Signal(token, aligned(output))
        self._remember(token)
        return shown

    @property
    def _linearises(self) -> bool:
        """Whether the pullback of what is evaluated is wanted."""
        return self.memory.linearises

    def _remember(self, token: Token) -> None:
        """This tick's evaluation may be met by a costate later."""
        self.memory.remember(self._evaluation)

    def _before(self, token: Token) -> Signal:
        """What a layer with latency shows: ξ as it was, with the token of the samples that made it."""
        if not self.plan.layer.latency:
            return Signal(INVALID)
        shown, self._shown = self._shown, token
        if not shown.valid:
            return Signal(INVALID)
        state = self.carry.state if shown.learn or self._trial is None else self._trial
        return Signal(shown, state[0])

    def _learn_from(self, tick: int, token: Token, inputs: tuple[Tensor, ...]) -> Tensor:
        self._trial = None
        self.carry, point = restarted(self._layer, self.carry, self._point(token, inputs, self.carry))
        wanted = self._wanted(tick) if self._linearises else None
        with self._computing:
            values, pullback = evaluate(self._layer, self.carry, point, wanted)
        self._evaluation = Evaluation(point, pullback)
        if self._needs_latest:
            self._latest = point
        if token.rows and token.repeat == 0:
            self.carry = self.carry._replace(buffers=values.buffers)
        if point.state:
            with self._integrating:
                self.carry = advance_state(self.carry, values, self.plan.dynamics)
        return values.output

    def _try(self, token: Token, inputs: tuple[Tensor, ...]) -> Tensor:
        """A hold-out sample: nothing of the layer moves, not even ξ, of which a copy does."""
        if self._trial is None:
            self._trial = self.carry.state
        trial = self.carry._replace(state=self._trial)
        point = self._point(token, inputs, trial)
        trial, point = restarted(
            self._layer, trial, point._replace(context=point.context._replace(training=False))
        )
        self._trial = trial.state
        with self._computing:
            values, _ = evaluate(self._layer, trial, point, None)
        if point.state:
            with self._integrating:
                self._trial = advance_state(trial, values, self.plan.dynamics).state
        return values.output

    # Second half

    def react(self, tick: int, costates: list[Costate]) -> list[Costate]:
        """Takes one costate per out-edge and returns one per in-edge."""
        present, self._evaluation = (
            self._evaluation,
            None,
        )  # the activations they hold last no longer than this half
        token = self._out.token(costates)
        driving = token
        if self.plan.layer.latency:
            driving, self._held = self._held, token
        if not (token.valid or driving.valid):
            self._out.keep(costates)
            return [NO_COSTATE] * len(self.plan.into)
        costates = self._out.heard(costates)
        q = self._total(costates)
        drives = self._gate(tick, q, driving)
        point, partials = self._pair(tick, driving, q, costates, present)
        moves, keep = self.plan.dynamics, self.memory.keeps_graphs
        with self._integrating:
            self.carry = react(self.carry, partials, moves, costate=token.valid, weights=drives, keep=keep)
        if drives:
            self.ledger.drove(driving)
        return (
            self._returned(driving, point, partials) if driving.valid else [NO_COSTATE] * len(self.plan.into)
        )

    def _total(self, costates: list[Costate]) -> Tensor:
        """q, the sum of the costates in edge order."""
        total: Tensor | None = None
        for costate in costates:
            if costate.value is not None:
                total = costate.value if total is None else total + costate.value
        return self._silence() if total is None else total

    def _silence(self) -> Tensor:
        """q where nothing returns."""
        return self.plan.facts.output

    def _pair(
        self, tick: int, driving: Token, q: Tensor, costates: list[Costate], present: Evaluation | None
    ) -> tuple[Point, Partials]:
        """The point that the costate meets, and ∂H there.  present: this tick's evaluation."""
        point, pullback = self._met(driving, costates, present)
        costate = forgotten(self.carry.state_costate, point.restarts)
        self.carry = self.carry._replace(state_costate=costate)
        with self._computing:
            if pullback is None:
                _, pullback = evaluate(self._layer, self.carry, point, self._wanted(tick))
            assert pullback is not None
            return point, pullback(q, self.carry.state_costate)

    def _met(self, driving: Token, costates: list[Costate], present: Evaluation | None) -> Evaluation:
        """This tick's evaluation, or what the memory recalls."""
        if self.memory.meets_present and present is not None:
            return present
        outputs = [costate.output for costate in costates if costate.output is not None]
        returned = Returned(outputs[0] if outputs else None, self._context(driving))
        met = self.memory.recall(self.carry, returned)
        if met is None and self.plan.layer.latency:  # p takes up q one tick before the point that it drives
            met = self._latest and Evaluation(self._latest)
        assert met is not None, f"{self.plan.name}: a costate came before anything was evaluated"
        return met

    def _returned(self, token: Token, point: Point, partials: Partials) -> list[Costate]:
        """∂H/∂a along every in-edge; feedback returns it under `current` only."""
        current, reversible = self.plan.pairing == "current", self.plan.pairing == "reversible"
        return [
            Costate(token, value if value is None else aligned(value), signal if reversible else None)
            if forward or current
            else NO_COSTATE
            for forward, value, signal in zip(self._forward_in, partials.inputs, point.inputs, strict=True)
        ]

    def _gate(self, tick: int, q: Tensor, driving: Token) -> bool:
        """Whether this costate may drive the weights; one that has not settled is counted as skipped."""
        settled = self._has_settled(q)
        if not (driving.valid and gate_open(self.plan.gate, tick, self.plan.hold)):
            return False
        self.ledger.skipped += not settled
        return settled

    def _has_settled(self, q: Tensor) -> bool:
        """Where no hold is exact, the gate stays shut until what the layer hears and holds stops changing."""
        if self.settling is None or self._latest is None:
            return True
        return self.settling.observe((*self._latest.inputs, q, *self.carry.state, *self.carry.state_costate))

    # Circumstances

    def _point(self, token: Token, inputs: tuple[Tensor, ...], carry: Carry) -> Point:
        restarts = restarts_of(token, self.plan) if self.plan.layer.remembers else None
        return Point(inputs, carry.state, self._context(token), restarts)

    def _context(self, token: Token) -> Context:
        """Random layers draw from (run, layer, sample number); batch statistics see the real rows only."""
        facts, batch = self.plan.facts, self.plan.facts.says.shape[0]
        seed = derive_seed(self.plan.seed, self.plan.name, token.first) if facts.random else None
        rows = token.rows if facts.batch_statistics and 0 < token.rows < batch else None
        return Context(True, seed, rows)

    def _wanted(self, tick: int) -> Wanted:
        return Wanted(gate_open(self.plan.gate, tick, self.plan.hold), self.plan.facts.wanted)


def _root_mean_square(tensors: tuple[Tensor, ...]) -> float:
    squares = sum(tensor.abs().square().sum().item() for tensor in tensors)
    return math.sqrt(squares / sum(tensor.numel() for tensor in tensors))
