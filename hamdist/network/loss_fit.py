"""Whether a loss fits its layer's output and the stream's targets, and what to write where it does not.

Only of losses whose meaning is known is anything guessed; what another one raises is told as it is.
"""

import warnings
from typing import NamedTuple

from torch import Tensor

from hamdist.errors import NetworkError, Problem, first_line
from hamdist.network.losses import LossSpec
from hamdist.network.wording import describe
from hamdist.physics.losses import Classes, LossFunction, classes_of, ignored_by, over_numbers
from hamdist.physics.targets import IGNORED, absent, represented, unlabelled


def check_loss(node: str, spec: LossSpec, output: Tensor, targets: Tensor | None) -> None:
    """Raises NetworkError where a loss gives no number for an output like this and targets like these.

    Rows without a target are left out; where no row has one, nothing can be said yet.
    """
    check_targets(spec, targets)
    assert targets is not None
    targets = spec.own(targets)
    if output.is_complex():
        message = f"{node} {spec.name} takes real numbers, but layer {spec.layer!r} gives {describe(output)}: have it "
        raise NetworkError(
            Problem("network.loss", message + "give their real part, as DiagonalComplex and LRU do")
        )
    given = f"layer {spec.layer!r} gives {describe(output)}, the targets are {describe(targets)}"
    if not output.numel() or not targets.numel():
        raise NetworkError(Problem("network.loss", f"{spec.name} has nothing to judge: {given}"))
    ignored = ignored_by([spec.function])
    if unlabelled(targets, ignored).all():
        return
    targets = represented(targets, ignored)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Using a target size")
            value = spec.function(output, targets)
    except Exception as error:
        remedy = _remedy(spec.function, output, targets)
        message = f"{node} {spec.name} does not fit: {given}: {first_line(error)}{remedy}"
        raise NetworkError(Problem("network.loss", message)) from error
    if not isinstance(value, Tensor) or value.shape != () or not value.is_floating_point():
        raise NetworkError(
            Problem("network.loss", f"{spec.name} must give one real number, but for {given} it does not")
        )


def check_targets(spec: LossSpec, targets: Tensor | None) -> None:
    """Raises NetworkError where a stream has no targets: a loss needs them."""
    if targets is None:
        raise NetworkError(Problem("network.loss", f"{spec.name} needs targets, but the stream has none"))


def _remedy(loss: LossFunction, output: Tensor, targets: Tensor) -> str:
    """What to do about targets that a loss does not take; nothing where it is not known how it reads them."""
    classes = classes_of(loss)
    if classes is None:
        whole = over_numbers(loss) and not targets.is_floating_point()
        return "; whole numbers are classes: for numbers, write 1.0, not 1" if whole else ""
    if targets.is_floating_point():
        return "; for classes, write whole numbers: 1, not 1.0"
    if output.dim() > 2 and targets.shape != _without(output, classes.dim):
        return _order(output, targets, classes)
    stray = stray_class(loss, output, targets)
    return (
        ""
        if stray is None
        else f"; class {stray.number} came in row {stray.row}, but the layer {stray.wanting}"
    )


def _order(output: Tensor, targets: Tensor, classes: Classes) -> str:
    """Says along which dimension the classes are expected, and the setting for another one that fits."""
    told = f"; classes are expected along dimension {classes.dim} of the output"
    for dim in (-1, 1):
        if targets.shape == _without(output, dim):
            return f"{told}: where they lie along {dim}, say {{type: cross_entropy, class_dim: {dim}}}"
    return told


def _without(output: Tensor, dim: int) -> tuple[int, ...]:
    """The shape of an output but for one dimension."""
    if not -output.dim() <= dim < output.dim():
        return ()
    shape = list(output.shape)
    del shape[dim]
    return tuple(shape)


class Stray(NamedTuple):
    """A class for which an output has no place, the row in which it came, and how many classes there are."""

    number: int
    row: int
    outputs: int

    @property
    def wanting(self) -> str:
        """What the layer does not have, and what to do."""
        if self.number >= self.outputs:
            return f"has {self.outputs} outputs: it needs {self.number + 1}"
        return f"has the classes 0 to {self.outputs - 1}, and {IGNORED} says that there is none"


def stray_class(loss: LossFunction, output: Tensor, targets: Tensor) -> Stray | None:
    """A class below 0, or else the largest, where the output has no place for it; None where all is well, and where it
    is not known how a loss reads classes.
    """
    classes = classes_of(loss)
    if classes is None or targets.is_floating_point() or targets.shape != _without(output, classes.dim):
        return None
    known = ~absent(targets, classes.ignored)
    if not known.any():
        return None
    least, most = int(targets[known].min()), int(targets[known].max())
    if least >= 0 and most < output.shape[classes.dim]:
        return None
    number = least if least < 0 else most
    row = int((known & (targets == number)).nonzero()[0, 0])
    return Stray(number, row, output.shape[classes.dim])
