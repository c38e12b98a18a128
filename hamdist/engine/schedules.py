"""Schedules of the user's own: β must be a number that depends on the updates alone, and be traced where layers are."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hamdist.compiler.trace import Traced
from hamdist.engine.fused.eligibility import in_words
from hamdist.errors import NetworkError, Problem
from hamdist.physics.rates import Rate, Schedule

KEY = "learning.beta"
FIRST = (0, 1)
LATER = (10, 1000, 10**6)  # where a schedule need not reach
REMEDY = "Write it in torch, as torch.where(n < 100, 0.1, 0.01), or leave out `stack` and `compile`"


def check_schedule(name: str, rate: Rate, traced: bool, device: torch.device) -> None:
    """Raises NetworkError for a schedule that does not do for a layer.  traced: whether that runs as a trace."""
    if not callable(rate.beta):
        return
    for n in FIRST:
        beta, again = (_checked(name, rate.beta, n, device) for _ in range(2))
        if beta != again:
            raise _refused(
                name, f"gives {beta:g} and then {again:g} for {n} updates: it must depend on these alone"
            )
    if not traced:
        return
    try:
        followed = _written_down(rate.beta, device)
    except Exception as error:
        raise _refused(name, f"cannot be traced: {in_words(error)}. {REMEDY}") from error
    for n in (*FIRST, *LATER):
        if not _agree(rate.beta, followed, n, device):
            raise _refused(
                name, f"is another for {n} updates when it is traced than when it is called. {REMEDY}"
            )


def _at(beta: Callable[[Tensor], Any], n: int, device: torch.device) -> Any:
    value = beta(torch.tensor(float(n), dtype=torch.float64, device=device))
    return value.item() if isinstance(value, Tensor) and value.dim() == 0 else value


def _checked(name: str, beta: Schedule, n: int, device: torch.device) -> float:
    try:
        value = _at(beta, n, device)
    except Exception as error:
        raise _refused(name, f"fails for {n} updates: {in_words(error)}") from error
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refused(name, f"gives {value!r} for {n} updates, which is no finite number")
    return float(value)


def _agree(beta: Schedule, followed: Schedule, n: int, device: torch.device) -> bool:
    """Where a schedule goes so far."""
    try:
        value = _at(beta, n, device)
    except Exception:
        return n in LATER
    return bool(
        torch.isclose(torch.tensor(value), torch.tensor(_at(followed, n, device)), rtol=1e-5, atol=0.0)
    )


def _written_down(beta: Schedule, device: torch.device) -> Schedule:
    def one(n: Tensor) -> tuple[Tensor]:
        return (n * 0 + beta(n),)

    trace = Traced(one, torch.zeros((), dtype=torch.float64, device=device))
    return lambda n: trace(n)[0]


def _refused(name: str, what: str) -> NetworkError:
    return NetworkError(Problem(KEY, f"layer {name!r}: the schedule of β {what}"))
