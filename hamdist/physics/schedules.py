"""β as a function of time: of n, the number of updates a layer has made (a 0-dimensional tensor)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Schedule = Callable[[Tensor], Tensor]


def cosine(start: float, end: float, over: int) -> Schedule:
    """From start to end along half a cosine in `over` updates, then end."""
    return lambda n: end + (start - end) * (1 + torch.cos(math.pi * (n / over).clamp(max=1))) / 2


def linear(start: float, end: float, over: int) -> Schedule:
    """From start to end along a line in `over` updates, then end."""
    return lambda n: start + (end - start) * (n / over).clamp(max=1)


def exponential(start: float, factor: float, over: int) -> Schedule:
    """start · factor^(n/over)."""
    return lambda n: start * factor ** (n / over)


def stepped(start: float, factor: float, over: int) -> Schedule:
    """start · factor^⌊n/over⌋."""
    return lambda n: start * factor ** torch.floor(n / over)


def inverse_sqrt(start: float, over: int) -> Schedule:
    """start / √(1 + n/over)."""
    return lambda n: start / torch.sqrt(1 + n / over)


def warmed_up(schedule: Schedule, updates: int) -> Schedule:
    """The schedule, scaled by (n + 1)/updates for the first `updates` updates."""
    return lambda n: schedule(n) * ((n + 1) / updates).clamp(max=1)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "cosine": cosine,
    "linear": linear,
    "exponential": exponential,
    "step": stepped,
    "inverse-sqrt": inverse_sqrt,
}
