"""What code of the user's may raise to end the program, or is not meant to be caught: told, with all that was learnt.

The oracle of the weights is a run of the same samples whose stream ends there by itself.
"""

import sys
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.actors import Ensemble
from support.inline import learning
from support.networks import network_of
from support.samples import samples
from torch import Tensor, nn

from hamdist import run
from hamdist.cluster.outcome import Outcome, StreamOutcome
from hamdist.errors import RunError, StreamExitError
from hamdist.network.locality import Locality

SEVEN = 7.0  # what a layer meets with in the midst of a stream


class OwnError(BaseException):
    """Of nobody's kind."""


RAISED = {
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "generator": GeneratorExit(),
    "own": OwnError("mine"),
}


def rows(count: int, raises: str = "") -> Iterator[tuple[list[float], int]]:
    """So many samples; then the end, or what it is to raise."""
    numbers = np.random.default_rng(0).normal(size=(count, 2))
    numbers[20:21] = SEVEN
    for x in numbers:
        yield x.tolist(), int(x[0] > 0)
    if raises:
        raise copy(RAISED[raises])


class Ends(nn.Linear):
    """Raises where an input is 7, or when it is made."""

    def __init__(self, raises: str, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.raises = raises
        if raises == "made":
            sys.exit(3)

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() and (x == SEVEN).any():
            raise copy(RAISED[self.raises])
        return super().forward(x)


def ending_loss(output: Tensor, target: Tensor) -> Tensor:
    """Ends the program where an output is not zero, as it is once something has been learnt."""
    if output.detach().abs().sum() > 0:
        sys.exit(4)
    return nn.functional.cross_entropy(output, target)


def config(first: dict[str, Any] | None = None, loss: str = "cross_entropy", **args: Any) -> dict[str, Any]:
    linear = {"type": "Linear", "in_features": 2, "out_features": 2}
    layers = [{"name": "a", "modules": [first or linear]}, {"name": "b", "modules": [linear]}]
    stream = {"source": "iterable", "factory": f"{__name__}:rows", "args": {"count": 40, **args}}
    return {"name": "small", "stream": stream, "network": {"loss": loss, "layers": layers}}


def weights_in(directory: str) -> dict[str, Tensor]:
    return {
        f"{file.stem}.{key}": tensor
        for file in Path(directory, "weights").iterdir()
        for key, tensor in load_file(file).items()
    }


pytestmark = pytest.mark.usefixtures("folder")
kinds = pytest.mark.parametrize("kind", RAISED)


@kinds
def test_a_stream(kind: str):
    """Everything that came before is learnt."""
    with pytest.raises(StreamExitError) as caught:
        run(config(raises=kind), out="out")
    assert str(caught.value) == f"the stream failed after 40 samples: {RAISED[kind]!r}"
    run(config(), out="whole")
    ours, theirs = weights_in("out"), weights_in("whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@kinds
def test_a_stream_before_its_first_sample(kind: str):
    with pytest.raises(RunError) as caught:
        run(config(count=0, raises=kind), out="out")
    assert repr(RAISED[kind]) in str(caught.value)
    assert not Path("out").exists()


@kinds
def test_a_layer(kind: str):
    """A KeyboardInterrupt is told with its place in the code."""
    ends = {"type": f"{__name__}:Ends", "raises": kind, "in_features": 2, "out_features": 2}
    with pytest.raises(RunError, match=r"failed at tick \d+: ") as caught:
        run(config(ends), out="out")
    assert repr(RAISED[kind]) in str(caught.value)
    assert ("layer 'a'" if kind != "interrupt" else f"{Path(__file__).name}:") in str(caught.value)
    assert weights_in("out").keys() == {"a.0.weight", "a.0.bias", "b.0.weight", "b.0.bias"}


def test_a_layer_that_is_made_and_a_loss():
    ends = {"type": f"{__name__}:Ends", "raises": "made", "in_features": 2, "out_features": 2}
    with pytest.raises(RunError, match=r"SystemExit\(3\)"):
        run(config(ends), out="out")
    with pytest.raises(RunError, match=r"SystemExit\(4\)"):
        run(config(loss=f"{__name__}:ending_loss"), out="out")


def outcomes(layers: list[Callable[[], nn.Module]], batches: Any) -> tuple[list[Outcome], StreamOutcome]:
    """Of a run over two actors."""
    network = network_of(dict(zip("ab", layers, strict=True)))
    with Ensemble(network, Locality(), learning(), batches, [["a"], ["b"]]) as ensemble:
        *workers, stream = ensemble.outcomes()
    return workers, stream


@kinds
def test_over_actors(kind: str):
    """Whoever raised ends with a failure, and so the others end, too."""
    linear = [lambda: nn.Linear(2, 2, dtype=torch.float64)] * 2

    def raising() -> Iterator[tuple[Tensor, Tensor]]:
        yield from samples(6, (2,), classes=2)
        raise copy(RAISED[kind])

    workers, stream = outcomes(linear, raising())
    assert str(stream.error) == f"the stream failed after {stream.samples} samples: {RAISED[kind]!r}"
    assert [worker.error for worker in workers] == [None, None]
    ending = [lambda: Ends(kind, 2, 2).double(), linear[1]]
    batches = samples(40, (2,), classes=2)
    batches[20][0].fill_(SEVEN)
    workers, _ = outcomes(ending, batches)
    assert repr(RAISED[kind]) in str(workers[0].error)
