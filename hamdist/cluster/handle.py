"""How a worker is called: by methods with their types, wherever it lives.

    calls = [worker.call(Worker.examine, name, heard) for worker in group.workers]
    found = results(calls, seconds)

A method is named as it stands in its class, so that a type checker sees what it takes and what it returns.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from hamdist.errors import RunError, with_place

Hosted = TypeVar("Hosted")
Reached = TypeVar("Reached", covariant=True)
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class ActorLostError(RunError):
    """An actor died.  cause: in the words of Ray."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name} died: {cause}")
        self.cause = cause


class Handle(ABC, Generic[Reached]):
    """One worker of a group.  name: what errors call it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def call(
        self,
        method: Callable[Concatenate[Reached, Arguments], Result],
        /,
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Future[Result]:
        """Begins a call, which the worker's own thread answers after those before it."""

    @abstractmethod
    def ask(
        self,
        method: Callable[Concatenate[Reached, Arguments], Result],
        /,
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Future[Result]:
        """Begins a call that is answered while the worker is at work: to its `progress`, `stop` and the like."""


class ThreadHandle(Handle[Hosted]):
    """A worker in a thread of this process."""

    def __init__(self, name: str, hosted: Hosted) -> None:
        super().__init__(name)
        self.hosted = hosted
        self._thread = ThreadPoolExecutor(1, f"hamdist {name}")

    def call(
        self,
        method: Callable[Concatenate[Hosted, Arguments], Result],
        /,
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Future[Result]:
        return self._thread.submit(
            partial(contained, self.name, bound(self.hosted, method), *arguments, **named)
        )

    def ask(
        self,
        method: Callable[Concatenate[Hosted, Arguments], Result],
        /,
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Future[Result]:
        answer: Future[Result] = Future()
        answer.set_result(bound(self.hosted, method)(*arguments, **named))
        return answer

    def close(self) -> None:
        """Ends the thread, once what it does has ended."""
        self._thread.shutdown()


def bound(hosted: Any, method: Callable[..., Result]) -> Callable[..., Result]:
    """The method as the hosted object has it: the only place where a call goes by name."""
    found: Callable[..., Result] = getattr(hosted, method.__name__)
    return found


def contained(name: str, do: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
    """What it returns. Raises RunError, with this name, in the place of what would end the process: SystemExit and its
    like, from the user's own code."""
    try:
        return do(*arguments, **named)
    except Exception:
        raise
    except BaseException as error:
        raise RunError(f"{name} failed: {with_place(error)}") from error


def results(calls: Sequence[Future[Result]], seconds: float) -> list[Result]:
    """What the calls returned, in order. Raises what one of them raised; RunError after `seconds`."""
    late = wait(calls, seconds).not_done
    if late:
        raise RunError(f"{len(late)} of {len(calls)} actors gave no answer for {seconds:g} s")
    return [call.result() for call in calls]
