"""A loss at work: it hears an output and its target, adds up the metrics, and returns γ ∂loss/∂y.

Where costates go back through time, it speaks at the end of a block of ticks, or of every tick alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.engine.message import NO_COSTATE, Costate, Signal, Token
from hamdist.engine.state import LossState
from hamdist.errors import RunError, StreamError
from hamdist.network.locality import Horizon, Locality
from hamdist.network.loss_fit import class_beyond
from hamdist.network.losses import LossSpec
from hamdist.physics.losses import loss_and_costate
from hamdist.physics.memory import gate_open
from hamdist.report.metrics import Scores, metrics_for


def gathered(
    horizon: Horizon, waiting: tuple[Costate, ...], costate: Costate
) -> tuple[tuple[Costate, ...], Costate]:
    """Costates of one tick each become costates [K, B, …] of a window: what waits afterwards, and what goes back.

    Blocked: those of K ticks, once in K ticks, or of fewer where samples to learn from stop coming. Slid: that of
    every tick, in the last place, with zeros before it.  costate: of this tick, NO_COSTATE where there is nothing to
    learn from.
    """
    if costate.value is not None:
        waiting = (*waiting, costate)
    most = 1 if horizon.slid else horizon.ticks
    if not waiting or (costate.value is not None and len(waiting) < most):
        return waiting, NO_COSTATE
    values = [c.value for c in waiting if c.value is not None]
    missing = horizon.ticks - len(values)
    window = torch.stack([*[torch.zeros_like(values[0])] * missing, *values])
    return (), Costate(waiting[-1].token, aligned(window))


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


class LossNode:
    """One loss at work. Prequential scores count each sample once, before it is learnt from.

    spec, place: what it is, and how gate, hold and horizon are set.  gamma: γ.  example: an output and targets like
    those to come, from which the metrics are chosen.
    """

    def __init__(
        self, name: str, spec: LossSpec, gamma: float, place: Locality, example: tuple[Tensor, Tensor]
    ) -> None:
        self.name = name
        self.spec = spec
        self.weight = gamma * spec.weight
        self._gate, self._hold, self._horizon = place.gate, place.hold, place.horizon
        metrics = metrics_for(spec.name, example[0], spec.own(example[1]))
        self.prequential, self.holdout = Scores(metrics), Scores(metrics)
        self.example = example[1]
        self.prediction: Prediction | None = None  # of this tick
        self.loss: Tensor | None = None  # of this tick
        self._costate = NO_COSTATE  # of this tick
        self._waiting: tuple[Costate, ...] = ()

    @property
    def state(self) -> LossState:
        """All that moves of it, between two ticks."""
        return LossState(self.prequential.state, self.holdout.state, self._waiting)

    @state.setter
    def state(self, state: LossState) -> None:
        self.prequential.state, self.holdout.state, self._waiting = state

    def evaluate(self, tick: int, output: Signal, target: Signal) -> None:
        """Hears an output [B, …] and the target [B, …] of the same samples. Raises RunError where they are not."""
        self.prediction, self.loss, self._costate = None, None, NO_COSTATE
        token, rows = output.token, target.token.rows
        if not (token.valid and target.token.valid):
            return
        if output.value is None or target.value is None or token.first != target.token.first:
            raise RunError(
                f"loss {self.name!r} at tick {tick}: the output of sample {token.first} met the target of sample "
                f"{target.token.first}; this is a fault of hamdist: please report it with your config"
            )
        told = self.spec.own(target.value)
        loss, q = loss_and_costate(self.spec.function, output.value, told, rows, self.weight)
        self.loss = loss
        if self._counts(tick, token):
            scores = self.prequential if token.learn else self.holdout
            scores.add(loss, output.value[:rows], told[:rows])
            self.prediction = Prediction(output.value[:rows], token.first, rows, loss, token.learn)
        if token.learn:
            self._costate = Costate(token, aligned(q), output.value)

    def judge(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean loss over full batches, γ ∂loss/∂output, and what `prequential` adds up of them."""
        told = self.spec.own(target)
        loss, q = loss_and_costate(self.spec.function, output, told, len(target), self.weight)
        return loss, q, self.prequential.of(loss, output, told)

    def refused(self, output: Signal, target: Signal) -> StreamError | None:
        """Says that targets are of a class that the output does not have; None if they are not."""
        if output.value is None or target.value is None:
            return None
        beyond, token = class_beyond(output.value, self.spec.own(target.value)), target.token
        if beyond is None:
            return None
        first, last = token.first, token.first + token.rows - 1
        return StreamError(
            f"class {beyond} came in samples {first} to {last}, but layer {self.spec.layer!r} has "
            f"{output.value.shape[1]} outputs: it needs {beyond + 1}"
        )

    def react(self) -> tuple[Costate, Costate]:
        """The costate along the edge from the layer; along the target's edge nothing returns."""
        if self._horizon is None:
            return self._costate, NO_COSTATE
        self._waiting, costate = gathered(self._horizon, self._waiting, self._costate)
        return costate, NO_COSTATE

    def _counts(self, tick: int, token: Token) -> bool:
        """Of a held sample one tick counts: the first under `always`, the settled one otherwise."""
        if not token.learn:
            return token.repeat == self._hold - 1
        return gate_open(self._gate, tick, self._hold) if self._gate == "settled" else token.repeat == 0
