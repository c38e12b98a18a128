"""Signals, against their formulas in plain Python and in exact fractions."""

import math
import re
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import torch

from hamdist.errors import StreamError
from hamdist.streams import Signals
from hamdist.streams.waves import SIGNAL_SCHOOL, Square

F64 = torch.float64
SMOOTH = {
    "smoHfHa": (0.8, 0.16, 0.16),
    "smoHfLa": (0.4, 0.08, 0.08),
    "smoLfHa": (0.16, 0.16, 0.8),
    "smoLfLa": (0.08, 0.08, 0.4),
}
SQUARE = {
    "squHfHa": (1.0, "0.06"),
    "squHfLa": (0.5, "0.06"),
    "squLfHa": (1.0, "0.03"),
    "squLfLa": (0.5, "0.03"),
}


def first_inputs(stream, count):
    return torch.cat([batch.inputs for batch in islice(stream, count)])


def sines(terms, t):
    return sum(a * math.sin(2 * math.pi * f * t) for a, f in terms)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_signals_of_the_school(name):
    terms = list(zip(SMOOTH[name], (0.11, 0.07, 0.05), strict=True))
    expected = [sines(terms, 0.1 * index) for index in range(2000)]
    found = first_inputs(Signals(name, dtype=F64), 2000)[:, 0]
    # the same formula through another sine: some units in the last place of numbers below 1.2
    assert np.abs(found.numpy() - expected).max() < 1e-14


@pytest.mark.slow
@pytest.mark.parametrize("name", SQUARE)
def test_square_signals_of_the_school_jump_exactly_where_the_formula_does(name):
    amplitude, frequency = SQUARE[name]
    f = Fraction(frequency)
    phases = [2 * f * (Fraction(index, 10) + Fraction(1, 2) / f) for index in range(20_000)]
    expected = [amplitude * (-1) ** math.floor(phase) for phase in phases]
    assert expected[0] == -amplitude
    assert first_inputs(Signals(name, batch_size=100, dtype=F64), 200)[:, 0].tolist() == expected


def test_the_school_has_eight_signals():
    assert set(SIGNAL_SCHOOL) == {*SMOOTH, *SQUARE}


def test_a_square_spends_half_its_period_at_either_amplitude():
    values = Square(2.0, 0.25)(np.arange(8.0))
    assert values.tolist() == [-2, -2, 2, 2, -2, -2, 2, 2]


@pytest.mark.parametrize("batch_size", [1, 7, 5000])
def test_targets_are_the_values_ahead_of_the_window(batch_size):
    stream = Signals(
        [{"sines": [[1.0, 0.3], [0.5, 0.02]]}, "squHfLa"],
        step=0.25,
        window=3,
        ahead=2,
        batch_size=batch_size,
        samples=3001,
        dtype=F64,
    )
    inputs, targets = (torch.cat(parts).numpy() for parts in list(zip(*stream, strict=True))[:2])
    t = 0.25 * np.arange(3001 + 4)
    smooth = np.sin(2 * np.pi * 0.3 * t) + 0.5 * np.sin(2 * np.pi * 0.02 * t)
    square = 0.5 * (-1.0) ** (np.floor(2 * 0.06 * t) + 1)
    assert (inputs.shape, targets.shape) == ((3001, 6), (3001, 2))
    for lag in range(3):
        # equal but for how numpy rounds the sine in blocks of other sizes
        assert np.abs(inputs[:, lag] - smooth[lag : lag + 3001]).max() < 1e-14
        assert np.array_equal(inputs[:, 3 + lag], square[lag : lag + 3001])
    assert np.abs(targets[:, 0] - smooth[4:]).max() < 1e-14
    assert np.array_equal(targets[:, 1], square[4:])


def test_by_default_the_next_value_is_predicted_from_this_one():
    inputs, targets = (
        torch.cat(parts) for parts in list(zip(*Signals("smoHfHa", samples=50), strict=True))[:2]
    )
    assert torch.equal(inputs[1:], targets[:-1])
    assert inputs.shape == targets.shape == (50, 1)
    assert inputs.dtype == torch.float32


def test_ahead_0_asks_for_the_value_itself():
    inputs, targets, *_ = next(iter(Signals("smoLfHa", window=2, ahead=0, batch_size=9)))
    assert torch.equal(inputs[:, 1:], targets)


def test_only_the_last_batch_is_short():
    assert [len(batch.inputs) for batch in Signals("smoHfHa", batch_size=4, samples=10)] == [4, 4, 2]


def test_times_stay_exact_at_huge_numbers():
    index = 10**12
    found = Signals({"sines": [[1.0, 0.11]]}, step=0.1, dtype=F64).rows(index, index + 1000).inputs[:, 0]
    turns = [Fraction("0.11") * Fraction(index + k, 10) % 1 for k in range(1000)]
    exact = [math.sin(2 * math.pi * float(turn)) for turn in turns]
    # 2πft is about 7e10, and of its factors and products five are rounded: 5 · 2⁻⁵³ · 7e10 ≈ 4e-5
    assert np.abs(found.numpy() - exact).max() < 4e-5


def test_an_endless_stream_promises_no_number_of_samples():
    assert Signals("smoHfHa").samples is None
    assert Signals("smoHfHa", samples=5).samples == 5
    assert Signals("smoHfHa").holdout() is None


ACCEPTED = (
    "a name of the signal school, {sines: [[amplitude, frequency], ...]}, {square: {amplitude, frequency}} "
    "or a list of these"
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"signal": "smoHfH"},
            "signal: no signal is called 'smoHfH'; the signal school has smoHfHa, smoHfLa, smoLfHa, smoLfLa, "
            "squHfHa, squHfLa, squLfHa, squLfLa; did you mean 'smoHfHa'?",
        ),
        ({"signal": []}, f"signal: an empty list; it takes {ACCEPTED}"),
        ({"signal": {"sine": [[1, 2]]}}, "signal: cannot read {'sine': [[1, 2]]}; it takes " + ACCEPTED),
        ({"signal": {"sines": []}}, "signal: cannot read {'sines': []}; it takes " + ACCEPTED),
        (
            {"signal": {"sines": [[1, 0]]}},
            "signal: expected an amplitude and a frequency above 0, two finite numbers, not [1, 0]",
        ),
        (
            {"signal": {"square": {"amplitude": "big", "frequency": 1}}},
            "signal: expected an amplitude and a frequency above 0, two finite numbers, not ('big', 1)",
        ),
        (
            {"signal": "smoHfHa", "step": 0, "window": 0, "ahead": -1},
            "step: must be a finite number above 0, not 0\n"
            "window: must be a whole number of at least 1, not 0\n"
            "ahead: must be a whole number of at least 0, not -1",
        ),
        (
            {"signal": "smoHfHa", "batch_size": 0},
            "batch_size: must be a whole number of at least 1, not 0",
        ),
    ],
)
def test_errors(settings, message):
    with pytest.raises(StreamError, match=f"^{re.escape(message)}$"):
        Signals(**settings)
