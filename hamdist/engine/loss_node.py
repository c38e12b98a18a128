"""A loss at work: it hears an output and its target, adds up the metrics, and returns γ ∂loss/∂y.

Where costates go back through time, it speaks at the end of a block of ticks, or of every tick alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.engine.message import NO_COSTATE, Costate, Signal, Token
from hamdist.engine.skipped_losses import SkippedLosses
from hamdist.engine.state import LossState
from hamdist.errors import RunError
from hamdist.network.locality import Horizon, Locality
from hamdist.network.losses import LossSpec
from hamdist.network.wording import describe
from hamdist.physics.losses import LossFunction, chosen, classes_of, ignored_by, loss_and_costate
from hamdist.physics.memory import gate_open
from hamdist.physics.targets import IGNORED, unlabelled
from hamdist.report.metrics import Scores, TargetClasses, metrics_for


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
    return (), Costate(_spoken_for([c.token for c in waiting]), aligned(window))


def _spoken_for(tokens: list[Token]) -> Token:
    """The last of a window's; there is something to learn from it if any of them teaches."""
    last = tokens[-1]
    return last if last.teaches or not any(t.teaches for t in tokens) else last._replace(unlabelled=0)


def _classes(loss: LossFunction) -> TargetClasses | None:
    """How a loss reads classes, if that is known, as metrics are told it."""
    known = classes_of(loss)
    return None if known is None else TargetClasses(known.dim, tuple({known.ignored, IGNORED}))


@dataclass(frozen=True)
class Prediction:
    """What left the network in one tick: the output of the samples first … first + rows − 1, and their mean loss.

    learn: False for hold-out samples, whose numbers are those of the next samples to learn from.  unlabelled: how many
    of the rows have no target; the loss is the mean over the others, and NaN where there are none.
    """

    output: Tensor  # [rows, …]
    first: int
    rows: int
    loss: Tensor  # 0-dimensional
    learn: bool = True
    unlabelled: int = 0


class LossNode:
    """One loss at work. Prequential scores count each sample once, before it is learnt from.

    It judges the rows that have a target. The others drive nothing, and are counted, but in no score; where no row has
    one, the costate is zero and its token tells every layer that there is nothing to learn.

    spec, place: what it is, and how gate, hold and horizon are set.  gamma: γ.  example: an output and targets like
    those to come, from which the metrics are chosen.  ignored: the class that is none.  skips: whether a loss that is
    not finite is left out: its samples are as if they had no target, and are counted apart.
    """

    def __init__(
        self,
        name: str,
        spec: LossSpec,
        gamma: float,
        place: Locality,
        example: tuple[Tensor, Tensor],
        ignored: int = IGNORED,
        skips: bool = False,
    ) -> None:
        self.name = name
        self.spec = spec
        self.weight = gamma * spec.weight
        self._gate, self._hold, self._horizon = place.gate, place.hold, place.horizon
        metrics = metrics_for(spec.name, example[0], spec.own(example[1]), _classes(spec.function))
        self.prequential, self.holdout = Scores(metrics), Scores(metrics)
        self.example = example[1]
        self._ignored = ignored if spec.part is None else ignored_by([spec.function])
        self.skipped = SkippedLosses(spec.name) if skips else None
        self.prediction: Prediction | None = None  # of this tick
        self.loss: Tensor | None = None  # of this tick
        self.left_out = False  # in this tick
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
        self.prediction, self.loss, self.left_out, self._costate = None, None, False, NO_COSTATE
        token, rows = output.token, target.token.rows
        if not (token.valid and target.token.valid):
            return
        if output.value is None or target.value is None or token.first != target.token.first:
            raise RunError(
                f"loss {self.name!r} at tick {tick}: the output of sample {token.first} met the target of sample "
                f"{target.token.first}; this is a fault of hamdist: please report it with your config"
            )
        told = self.spec.own(target.value)
        labelled = self._labelled(target.token, told)
        self.loss, q = self._judged(output.value, told, rows, labelled)
        self.left_out = self._leaves_out(tick, token, q)
        if self._counts(tick, token):
            missing = 0 if labelled is None else rows - len(labelled)
            loss = output.value.new_full((), torch.nan) if self.loss is None else self.loss
            self._score(token, loss, missing, *(chosen(v, rows, labelled) for v in (output.value, told)))
            self.prediction = Prediction(output.value[:rows], token.first, rows, loss, token.learn, missing)
        if self.left_out:
            token, q = token._replace(unlabelled=rows), torch.zeros_like(q)
        if token.learn:
            self._costate = Costate(token, aligned(q), output.value)

    def _leaves_out(self, tick: int, token: Token, costate: Tensor) -> bool:
        if self.skipped is None or self.loss is None:
            return False
        return self.skipped.leaves_out(tick, token, self.loss, costate)

    def _labelled(self, token: Token, target: Tensor) -> Tensor | None:
        """The places of the rows with a target; None: all have one."""
        if token.labelled:
            return None
        missing = unlabelled(target[: token.rows], self._ignored)
        return torch.nonzero(~missing).flatten() if missing.any() else None

    def _judged(
        self, output: Tensor, target: Tensor, rows: int, labelled: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        """The mean loss over the rows with a target, None where there are none, and γ ∂loss/∂output."""
        if labelled is not None and not len(labelled):
            return None, torch.zeros_like(output)
        return loss_and_costate(self.spec.function, output, target, rows, self.weight, labelled)

    def _score(self, token: Token, loss: Tensor, missing: int, output: Tensor, target: Tensor) -> None:
        """output, target: of the rows with a target; so many are without."""
        scores = self.prequential if token.learn else self.holdout
        scores.count(0, missing, len(output) if self.left_out else 0)
        if len(output) and not self.left_out:
            scores.add(loss, output, target)

    def judge(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean loss over full batches, γ ∂loss/∂output, and what `prequential` adds up of them."""
        told = self.spec.own(target)
        loss, q = loss_and_costate(self.spec.function, output, told, len(target), self.weight)
        return loss, q, self.prequential.of(loss, output, told)

    def described(self, output: Signal, target: Signal) -> str:
        """What it is called in an error, and what it was given."""
        if output.value is None or target.value is None:
            return f"the loss {self.spec.name}"
        given = f"an output {describe(output.value)} and targets {describe(self.spec.own(target.value))}"
        return f"the loss {self.spec.name}, of {given},"

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
