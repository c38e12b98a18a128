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

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=TURN_SECONDS):
            raise RunError(
                f"another thread has been at work with this learner for {TURN_SECONDS:g} s: let one thread present "
                "batches, or give each a learner of its own"
            )

    def __exit__(self, *raised: object) -> None:
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
