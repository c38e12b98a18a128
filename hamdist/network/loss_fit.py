"""Whether a loss fits its layer's output and the stream's targets, and what to write where it does not."""

import warnings

from torch import Tensor

from hamdist.errors import NetworkError, Problem
from hamdist.network.losses import LossSpec
from hamdist.network.wording import describe, first_line


def check_loss(node: str, spec: LossSpec, output: Tensor, targets: Tensor | None) -> None:
    """Raises NetworkError where a loss gives no number for an output like this and targets like these."""
    check_targets(spec, targets)
    assert targets is not None
    targets = spec.own(targets)
    if output.is_complex():
        message = f"{node} {spec.name} takes real numbers, but layer {spec.layer!r} gives {describe(output)}: have it "
        raise NetworkError(
            Problem("network.loss", message + "give their real part, as DiagonalComplex and LRU do")
        )
    given = f"layer {spec.layer!r} gives {describe(output)}, the targets are {describe(targets)}"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Using a target size")
            value = spec.function(output, targets)
    except Exception as error:
        message = f"{node} {spec.name} does not fit: {given}: {first_line(error)}{_remedy(output, targets)}"
        raise NetworkError(Problem("network.loss", message)) from error
    if not isinstance(value, Tensor) or value.shape != () or not value.is_floating_point():
        raise NetworkError(
            Problem("network.loss", f"{spec.name} must give one real number, but for {given} it does not")
        )


def check_targets(spec: LossSpec, targets: Tensor | None) -> None:
    """Raises NetworkError where a stream has no targets: a loss needs them."""
    if targets is None:
        raise NetworkError(Problem("network.loss", f"{spec.name} needs targets, but the stream has none"))


def _remedy(output: Tensor, targets: Tensor) -> str:
    """What to do about targets that a loss does not take."""
    if targets.is_floating_point():
        return "; for classes, write whole numbers: 1, not 1.0"
    beyond = class_beyond(output, targets)
    if beyond is not None:
        return f"; class {beyond} needs a layer with at least {beyond + 1} outputs"
    return "; whole numbers are classes: for numbers, write 1.0, not 1"


def class_beyond(output: Tensor, targets: Tensor) -> int | None:
    """The largest class, where an output [B, C, …] has no place for it."""
    if targets.is_floating_point() or output.dim() < 2 or not targets.numel():
        return None
    largest = int(targets.max())
    return largest if largest >= output.shape[1] else None
