"""What a layer draws from and writes as it is evaluated and differentiated; what no layer may do is refused."""

import warnings
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from torch import Tensor

from hamdist.errors import NetworkError, Problem, first_line
from hamdist.network.purity import impurity
from hamdist.network.trial import Trial, lively, tried
from hamdist.physics.layers import Layer
from hamdist.physics.numerics import differentiable
from hamdist.report.wording import listed


class Behaviour(NamedTuple):
    """signals: what it was tried with.  draws: the generators it draws from.  moves: the buffers it writes."""

    signals: tuple[Tensor, ...]
    draws: tuple[str, ...]
    moves: tuple[str, ...]

    @property
    def beyond(self) -> tuple[str, ...]:
        """The generators beyond torch's."""
        return tuple(name for name in self.draws if name != "torch")


def behaviour_of(name: str, layer: Layer, signals: tuple[Tensor, ...], key: str) -> Behaviour:
    """signals: what it hears, where zeros stand for what is known by its looks alone.

    Raises NetworkError for a layer without derivatives, with sparse ones, that writes its weights, depends on those of
    others, or keeps something to itself.
    """
    try:
        return _behaviour(layer, signals)
    except _RefusedError as refusal:
        raise NetworkError(Problem(key, f"layer {name!r} {refusal}")) from refusal


class _RefusedError(Exception):
    """Why a layer cannot be one, as what follows its name."""


def _behaviour(layer: Layer, signals: tuple[Tensor, ...]) -> Behaviour:
    signals, learning = _accepted(layer, signals)
    _check(layer, learning)
    trials = [learning]
    if not layer.pure.bare:
        trials.append(_evaluated(layer, signals))
        for trial, training in zip(trials, (True, False), strict=True):
            _elsewhere(layer, signals, training)
            if why := impurity(layer, trial, partial(_again, layer, signals, training)):
                raise _RefusedError(why)
    draws = dict.fromkeys(drawn for trial in trials for drawn in trial.draws)
    return Behaviour(signals, tuple(draws), tuple(n for n in layer.pure.buffers() if n in learning.wrote))


def _accepted(layer: Layer, signals: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Trial]:
    """Signals that hide nothing, unless the layer takes the given ones alone, such as numbers of one sign."""
    told = tuple(map(lively, signals))
    try:
        return told, _derived(layer, told)
    except _RefusedError:
        return signals, _derived(layer, signals)


def _elsewhere(layer: Layer, signals: tuple[Tensor, ...], training: bool) -> None:
    """An evaluation in between, of other samples, of which nothing may be left."""
    with suppress(Exception):  # not every layer takes halves
        others = tuple(a.flip(0) / 2 if differentiable(a.dtype) else a.flip(0) for a in signals)
        tried(layer, others, training, derived=False)


def _again(layer: Layer, signals: tuple[Tensor, ...], training: bool, derived: bool) -> Trial:
    """Nothing is learnt from an evaluation out of training, so that it has no derivatives."""
    return tried(layer, signals, training, derived and training)


def _evaluated(layer: Layer, signals: tuple[Tensor, ...]) -> Trial:
    try:
        return tried(layer, signals, training=False, derived=False)
    except Exception as error:
        raise _RefusedError(f"cannot be evaluated out of training: {first_line(error)}") from error


def _derived(layer: Layer, signals: tuple[Tensor, ...]) -> Trial:
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            trial = tried(layer, signals, training=True, derived=True)
    except Exception as error:
        raise _RefusedError(f"has no derivative: {first_line(error)}{_hint(str(error))}") from error
    if lost := [w for w in told if "None of the inputs have requires_grad=True" in str(w.message)]:
        raise _RefusedError(f"has no derivative: {lost[0].message}{_hint('use_reentrant')}")
    return trial


def _hint(error: str) -> str:
    return ": write checkpoint(…, use_reentrant=False)" if "use_reentrant" in error else ""


def _check(layer: Layer, trial: Trial) -> None:
    if trial.sparse:
        raise _RefusedError(
            f"gives a sparse gradient of {listed(trial.sparse)}, which its weight costate is not: use sparse=False"
        )
    if written := [name for name in layer.pure.parameters() if name in trial.wrote]:
        raise _RefusedError(
            f"writes its own weights {listed(written)} as it is evaluated, which a recomputation or a prediction would "
            "do again: bound them with torch.nn.utils.parametrize, or keep what is not learnt in a buffer"
        )
    if trial.strange:
        raise _RefusedError(
            "uses weights that are not its own parameters, so they would never learn: register them in the module (not "
            "in a plain list, a global or another layer), or detach them"
        )
