"""Signals as functions of time: sums of sines, square waves, and the eight of the signal school."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hamdist.errors import Problem, StreamError, did_you_mean

Wave = Callable[[np.ndarray], np.ndarray]
"""From times to values, both float64 of one shape."""

ACCEPTED = (
    "a name of the signal school, {sines: [[amplitude, frequency], ...]}, {square: {amplitude, frequency}} "
    "or a list of these"
)


@dataclass(frozen=True)
class Sines:
    """Σ aᵢ sin(2π fᵢ t); `terms` holds the pairs (aᵢ, fᵢ)."""

    terms: tuple[tuple[float, float], ...]

    def __call__(self, t: np.ndarray) -> np.ndarray:
        return sum((a * np.sin(2 * np.pi * f * t) for a, f in self.terms), np.zeros_like(t))


@dataclass(frozen=True)
class Square:
    """a (−1)^⌊2f(t + 0.5/f)⌋: from −a to a and back once in 1/f, starting at −a.

    Computed as a (−1)^(⌊2ft⌋ + 1), the same number, in which rounding does not move the jumps.
    """

    amplitude: float
    frequency: float

    def __call__(self, t: np.ndarray) -> np.ndarray:
        half_periods = np.floor(2 * self.frequency * t)
        return np.where(half_periods % 2 == 0, -self.amplitude, self.amplitude)


SMOOTH_FREQUENCIES = (0.11, 0.07, 0.05)


def _smooth(*amplitudes: float) -> Sines:
    return Sines(tuple(zip(amplitudes, SMOOTH_FREQUENCIES, strict=True)))


SIGNAL_SCHOOL: dict[str, Wave] = {
    "smoHfHa": _smooth(0.8, 0.16, 0.16),
    "smoHfLa": _smooth(0.4, 0.08, 0.08),
    "smoLfHa": _smooth(0.16, 0.16, 0.8),
    "smoLfLa": _smooth(0.08, 0.08, 0.4),
    "squHfHa": Square(1.0, 0.06),
    "squHfLa": Square(0.5, 0.06),
    "squLfHa": Square(1.0, 0.03),
    "squLfLa": Square(0.5, 0.03),
}
"""Smooth or square; high or low frequency; high or low amplitude: the lectures of a student of signals."""

WORDS = ("3sin", "hf", "ha", "la", "lf", "square")
DESCRIPTIONS: dict[str, tuple[float, ...]] = {
    name: tuple(float(word in (shape, frequency, amplitude)) for word in WORDS)
    for name, shape, frequency, amplitude in (
        (name, {"smo": "3sin", "squ": "square"}[name[:3]], name[3:5].lower(), name[5:].lower())
        for name in SIGNAL_SCHOOL
    )
}
"""Of each, which of the WORDS describe it."""


def parse_waves(signal: Any) -> list[Wave]:
    """One wave a channel, from what a config says of them; StreamError for anything not in `ACCEPTED`."""
    several = signal if isinstance(signal, list | tuple) else [signal]
    if not several:
        raise StreamError(Problem("signal", f"an empty list; it takes {ACCEPTED}"))
    return [_parse_wave(one) for one in several]


def _parse_wave(signal: Any) -> Wave:
    if isinstance(signal, str):
        return _named(signal)
    match signal:
        case {"sines": [_, *_] as terms, **rest} if not rest:
            return Sines(tuple(_pair(term) for term in terms))
        case {"square": {"amplitude": a, "frequency": f, **extra}, **rest} if not rest and not extra:
            return Square(*_pair((a, f)))
    raise StreamError(Problem("signal", f"cannot read {signal!r}; it takes {ACCEPTED}"))


def _named(name: str) -> Wave:
    if name in SIGNAL_SCHOOL:
        return SIGNAL_SCHOOL[name]
    known = ", ".join(SIGNAL_SCHOOL)
    message = (
        f"no signal is called {name!r}; the signal school has {known}{did_you_mean(name, SIGNAL_SCHOOL)}"
    )
    raise StreamError(Problem("signal", message))


def _pair(term: Sequence[Any] | Mapping[str, Any]) -> tuple[float, float]:
    match term:
        case [int() | float() as amplitude, int() | float() as frequency] if (
            math.isfinite(amplitude) and math.isfinite(frequency) and frequency > 0
        ):
            return float(amplitude), float(frequency)
    raise StreamError(
        Problem("signal", f"expected an amplitude and a frequency above 0, two finite numbers, not {term!r}")
    )
