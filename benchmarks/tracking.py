"""Online tracking: predict the next value of a signal, each before it is learnt from; 32 units.

    sines     a sum of three sines
    regimes   a sine that stops, and stands still, and goes on, every 500 values

The same network, 32 units that turn in pairs with a linear readout, learns in each of these ways, one sample at a time:
hamdist forward in time, and backward over windows that slide, of 1 and of 20 ticks, which are truncated backpropagation
through time; BPTT(1) is also what forward learning is with a state costate of zero. Each takes the best of four rates.
The units last (exact rotations) or fade (by half in 7 ticks). River's SNARIMAX and Holt-Winters see the same values.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import torch
from river import time_series
from table import machine, show
from torch import nn

from hamdist import Learner
from hamdist.errors import DivergenceError
from hamdist.network.layer_spec import LayerSpec
from hamdist.physics.statespace import CTB, CTBE
from hamdist.streams.waves import SIGNAL_SCHOOL

UNITS, STEP, SKIPPED = 32, 0.1, 200


class Kind(NamedTuple):
    """dissipation: of the state costate."""

    make: Callable[[], nn.Module]
    dissipation: float
    rates: tuple[float, ...]


KINDS: Mapping[str, Kind] = {
    "lasting": Kind(lambda: CTBE(1, UNITS, 1, fastest=2.0), 1.0, (0.0003, 0.001, 0.003, 0.01)),
    "fading": Kind(lambda: CTB(1, UNITS, 1, fastest=2.0, damping=1.0), 0.0, (0.001, 0.003, 0.01, 0.03)),
}


def sines(count: int) -> np.ndarray:
    return SIGNAL_SCHOOL["smoHfHa"](STEP * np.arange(count))


def regimes(count: int) -> np.ndarray:
    """A sine of frequency 0.1, and every other 500 values the value it had."""
    ticks = np.arange(count)
    moving = (ticks // 500) % 2 == 0
    return np.sin(2 * np.pi * 0.1 * STEP * np.cumsum(moving))


SIGNALS: Mapping[str, Callable[[int], np.ndarray]] = {"sines": sines, "regimes": regimes}
WAYS: Mapping[str, dict[str, Any]] = {
    "forward": {},
    "BPTT(1)": {"time": "backward", "horizon": 1, "window": "slid"},
    "BPTT(20)": {"time": "backward", "horizon": 20, "window": "slid"},
}


def learner(kind: Kind, way: str, rate: float, reads: str) -> Learner:
    settings = WAYS[way]
    pairing = "stashed" if "time" in settings else "current"
    return Learner(
        [LayerSpec("memory", kind.make, reads=reads)],
        "mse",
        locality="nonlocal",
        pairing=pairing,
        tau=STEP,
        beta=rate / STEP**2,
        dissipation={"state": kind.dissipation, "weight": 2.0},
        seed=0,
        **settings,
    )


def error_of(kind: Kind, way: str, rate: float, reads: str, values: np.ndarray) -> float:
    """The prequential mean squared error, the first values left out; infinite where it diverges."""
    tensors = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
    squares = []
    model = learner(kind, way, rate, reads)
    try:
        for x, y in pairwise(tensors):
            prediction = model.step(x, y)
            assert prediction is not None
            squares.append(prediction.loss.item())
    except DivergenceError:
        return float("inf")
    return float(np.mean(squares[SKIPPED:]))


def best(kind: Kind, way: str, reads: str, values: np.ndarray) -> tuple[float, float]:
    return min((error_of(kind, way, rate, reads, values), rate) for rate in kind.rates)


def rivers() -> Iterator[tuple[str, Any]]:
    yield "River, SNARIMAX(10, 0, 1)", time_series.SNARIMAX(p=10, d=0, q=1)
    yield "River, Holt-Winters", time_series.HoltWinters(alpha=0.9, beta=0.5)


def rivers_error(model: Any, values: np.ndarray) -> float:
    squares = []
    for n, value in enumerate(values.tolist()):
        if n > SKIPPED:
            squares.append((model.forecast(horizon=1)[0] - value) ** 2)
        model.learn_one(value)
    return float(np.mean(squares))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1500 values instead of 6000")
    parser.add_argument("--values", type=int)
    given = parser.parse_args()
    torch.set_num_threads(1)
    count = given.values or (1500 if given.quick else 6000)
    for name, make in SIGNALS.items():
        values = make(count + 1)
        rows: list[tuple[object, ...]] = [("the last value again", float(np.mean(np.diff(values) ** 2)), "")]
        rows.append(("the mean", float(np.var(values)), ""))
        for (title, kind), reads, way in product(KINDS.items(), ("old", "new"), WAYS):
            error, rate = best(kind, way, reads, values)
            rows.append((f"{title}, reads {reads}: {way}", error, f"{rate:g}"))
        rows += [(title, rivers_error(model, values), "") for title, model in rivers()]
        show(f"{name}: {count} values", ["", "mean squared error", "rate βτ²"], rows)
    print(machine())


if __name__ == "__main__":
    main()
