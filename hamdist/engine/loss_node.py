"""A loss at work: it hears an output and its target, adds up the metrics, and returns γ ∂loss/∂y.

Where costates go back through time, it speaks at the end of a block of ticks, or of every tick alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.engine.message import NO_COSTATE, Costate, Signal, Token
from hamdist.errors import StreamError
from hamdist.network.locality import Horizon
from hamdist.network.loss_fit import class_beyond
from hamdist.network.network import LossSpec
from hamdist.physics.losses import loss_and_costate
from hamdist.physics.memory import Gate, gate_open
from hamdist.report.metrics import Scores, metrics_for


class Window:
    """Costates of one tick each become costates [K, B, …] of a window.

    Blocked: those of K ticks, once in K ticks, or of fewer where samples to learn from stop coming. Slid: that of
    every tick, in the last place, with zeros before it.
    """

    def __init__(self, horizon: Horizon) -> None:
        self._horizon = horizon
        self._held: list[Costate] = []

    def take(self, costate: Costate) -> Costate:
        """What the loss says in a tick, NO_COSTATE where it has nothing to learn from; returns what goes back."""
        if costate.value is not None:
            self._held.append(costate)
        most = 1 if self._horizon.slid else self._horizon.ticks
        if not self._held or (costate.value is not None and len(self._held) < most):
            return NO_COSTATE
        held, self._held = self._held, []
        values = [c.value for c in held if c.value is not None]
        missing = self._horizon.ticks - len(values)
        window = torch.stack([*[torch.zeros_like(values[0])] * missing, *values])
        return Costate(held[-1].token, aligned(window))


@dataclass(frozen=True)
class Prediction:
    """What left the network in one tick: the output of the samples first … first + rows − 1, and their mean loss.

    learn: False for hold-out samples, whose numbers are those of the next samples to learn from.
    """

    output: Tensor  # [rows, …]
    first: int
    rows: int
    loss: Tensor  # 0-dimensional
    learn: bool = True


class LossCell:
    """Shell of one loss node. Prequential scores count each sample once, before it is learnt from.

    example: an output and targets like those to come, from which the metrics are chosen.  window: gathers costates
    that go back through time.
    """

    def __init__(
        self,
        name: str,
        spec: LossSpec,
        gamma: float,
        gate: Gate,
        hold: int,
        example: tuple[Tensor, Tensor],
        window: Window | None = None,
    ) -> None:
        self.name = name
        self.spec = spec
        self.weight = gamma * spec.weight
        self.gate, self.hold = gate, hold
        self.prequential = Scores(metrics_for(spec.name, *example))
        self.holdout = Scores(metrics_for(spec.name, *example))
        self.example = example[1]
        self.prediction: Prediction | None = None  # of this tick
        self.loss: Tensor | None = None  # of this tick
        self._costate = NO_COSTATE
        self._window = window

    def evaluate(self, tick: int, output: Signal, target: Signal) -> None:
        """Hears an output [B, …] and the target [B, …] of the same samples."""
        self.prediction, self.loss, self._costate = None, None, NO_COSTATE
        if not (output.token.valid and target.token.valid):
            return
        assert output.value is not None
        assert target.value is not None
        token, rows = output.token, target.token.rows
        assert token.first == target.token.first, f"{self.name}: an output met another sample's target"
        loss, q = loss_and_costate(self.spec.function, output.value, target.value, rows, self.weight)
        self.loss = loss
        if self._counts(tick, token):
            scores = self.prequential if token.learn else self.holdout
            scores.add(loss, output.value[:rows], target.value[:rows])
            self.prediction = Prediction(output.value[:rows], token.first, rows, loss, token.learn)
        if token.learn:
            self._costate = Costate(token, aligned(q), output.value)

    def judge(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean loss over full batches, γ ∂loss/∂output, and what `prequential` adds up of them."""
        loss, q = loss_and_costate(self.spec.function, output, target, len(target), self.weight)
        return loss, q, self.prequential.of(loss, output, target)

    def refused(self, output: Tensor, target: Tensor, token: Token) -> StreamError | None:
        """Says that targets are of a class that the output does not have; None if they are not."""
        beyond = class_beyond(output, target)
        if beyond is None:
            return None
        first, last = token.first, token.first + token.rows - 1
        return StreamError(
            f"class {beyond} came in samples {first} to {last}, but layer {self.spec.layer!r} has "
            f"{output.shape[1]} outputs: it needs {beyond + 1}"
        )

    def react(self) -> tuple[Costate, Costate]:
        """The costate along the edge from the layer; along the target's edge nothing returns."""
        return (self._costate if self._window is None else self._window.take(self._costate)), NO_COSTATE

    def _counts(self, tick: int, token: Token) -> bool:
        """Of a held sample one tick counts: the first under `always`, the settled one otherwise."""
        if not token.learn:
            return token.repeat == self.hold - 1
        return gate_open(self.gate, tick, self.hold) if self.gate == "settled" else token.repeat == 0
