"""Contenders measured in turn: every round measures each of them once, in an order that rotates from round to round.

So all of them see the same machine, whatever else it does, and none always follows the same other one.
"""

import statistics
from collections.abc import Callable, Mapping

Times = Mapping[str, list[float]]
"""The figures of each contender, round by round."""


def in_rounds(contenders: Mapping[str, Callable[[], float]], rounds: int) -> Times:
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number * len(names) // rounds
        for name in names[first:] + names[:first]:
            times[name].append(contenders[name]())
    return times


def ratio(above: list[float], below: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
