"""Threads that share a learner: one at a time, and none waits for ever."""

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from hamdist.errors import RunError

TURN_SECONDS = 60.0  # that a thread waits for another


class ThreadTurn:
    """Held by one thread at a time, within which it may be taken again."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._depth = 0

    @property
    def nested(self) -> bool:
        """Whether whoever holds it has taken it within another turn of its own."""
        return self._depth > 1

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=TURN_SECONDS):
            raise RunError(
                f"another thread has been at work with this learner for {TURN_SECONDS:g} s: let one thread present "
                "batches, or give each a learner of its own"
            )
        self._depth += 1

    def __exit__(self, *raised: object) -> None:
        self._depth -= 1
        self._lock.release()


class Shared(Protocol):
    """What threads may share."""

    _turn: ThreadTurn


Owner = TypeVar("Owner", bound=Shared)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_turn(
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """A method that threads call in turn."""

    @wraps(method)
    def alone(self: Owner, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with self._turn:
            return method(self, *arguments, **named)

    return alone


def between_steps(
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """The same, of what is not to be asked from within another call, such as a signal that comes in the midst of it.

    Raises RunError.
    """

    @in_turn
    @wraps(method)
    def alone(self: Owner, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        if self._turn.nested:
            raise RunError(
                f"{method.__name__} was asked for in the midst of another call of this learner, where no tick is "
                "whole: ask between two calls (a signal handler sets a flag, which the loop looks at)"
            )
        return method(self, *arguments, **named)

    return alone
