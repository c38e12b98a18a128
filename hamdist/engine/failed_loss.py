"""A loss that is not finite though nothing grew: what was not a number first."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from hamdist.engine.extent import FAR, Extent, magnitude
from hamdist.engine.message import Signal, Token, numbers_of
from hamdist.network.graph import SOURCE
from hamdist.network.losses import LossSpec
from hamdist.report.wording import listed


class FailedLoss(NamedTuple):
    """A loss that is not finite.

    name, layer: what it is called, and whose output it judges.  output, target: the largest magnitudes there, infinity
    where one is not a number.  only: the class that all targets are.  before: the largest loss of some ticks earlier,
    where layers have learnt since.  grew: whether numbers ran away, where that is known.  samples: whose it is, in
    words.
    """

    value: float
    name: str
    layer: str
    output: float = 0.0
    target: float = 0.0
    only: int | None = None
    before: float | None = None
    grew: bool | None = None
    samples: str = ""

    @classmethod
    def of(cls, spec: LossSpec, value: float, output: Signal, targets: Tensor) -> "FailedLoss":
        """A loss of an output and targets."""
        assert output.value is not None
        classes = not targets.is_floating_point() and bool((targets == targets.flatten()[0]).all())
        only = int(targets.flatten()[0]) if classes else None
        sizes, samples = (magnitude(output.value), magnitude(targets)), numbers_of(output.token)
        return cls(value, spec.name, spec.layer, *sizes, only, samples=samples)

    @classmethod
    def after(cls, spec: LossSpec, value: float, before: Sequence[float], token: Token) -> "FailedLoss":
        """A loss from which layers have learnt.  before: those of some ticks until then.  token: of its samples."""
        largest = max(map(abs, before), default=0.0)
        return cls(
            value, spec.name, spec.layer, before=largest, grew=largest > FAR, samples=numbers_of(token)
        )


def explained(tick: int, failed: FailedLoss, layers: Sequence[Extent]) -> str:
    """What was not finite first, the tick, and the remedy."""
    loss = f"the loss {failed.name} of {failed.samples} is {failed.value} at tick {tick}"
    if failed.before is not None:
        return (
            f"{loss}, where it was at most {failed.before:.3g} before, and layers have learnt from it since: without "
            "placement.stack the run names what was not finite first"
        )
    if math.isfinite(failed.output):
        return f"{loss}, {_of_finite(failed)}"
    if any(not math.isfinite(layer.heard.get(SOURCE, 0.0)) for layer in layers):
        return f"{loss}: a sample that entered is not finite"
    culprit = _first(failed, layers)
    if culprit is not None:
        return (
            f"{loss}: the output of layer {culprit.layer!r} was not finite first, though its weights (up to "
            f"{culprit.numbers:.3g}) and what it heard (up to {max([0.0, *culprit.heard.values()]):.3g}) are: its "
            "module has no number for that, such as a logarithm of 0, a root of less, or one that is too large"
        )
    if broken := [repr(layer.layer) for layer in layers if layer.broken]:
        return (
            f"{loss}: the weights of layer {listed(broken)} are not finite, though no number had grown: a derivative "
            "is none, such as that of a root, a norm or a logarithm at 0"
        )
    return f"{loss}, and so is the output of layer {failed.layer!r}: a module has no number for what it hears"


def _of_finite(failed: FailedLoss) -> str:
    """Of what numbers the loss is none, and the remedy."""
    given = f"of finite numbers, an output up to {failed.output:.3g} and targets up to {failed.target:.3g}"
    if failed.only is not None:
        return f"and the target of every row is the class {failed.only}: if the loss ignores it, write -100 instead"
    if max(failed.output, failed.target) > FAR:
        return f"{given}: too large for the loss, so scale samples and targets down"
    return f"{given}: it has no number for these, such as a logarithm of 0 or a mean over nothing"


def _first(failed: FailedLoss, layers: Sequence[Extent]) -> Extent | None:
    """The layer that heard finite numbers, has finite weights, and said what is not."""
    strange = {node for layer in layers for node, size in layer.heard.items() if not math.isfinite(size)}
    for layer in layers:
        sound = not layer.broken and all(map(math.isfinite, layer.heard.values()))
        if sound and layer.layer in {*strange, failed.layer}:
            return layer
    return None
