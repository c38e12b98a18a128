"""The actors of one run, wherever they live: calls that go out together, and answers awaited with a limit."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from hamdist.errors import RunError


class Company(ABC):
    """Actors by number; the stream's is the last one. A call is to a method of a Worker or a StreamWorker."""

    @abstractmethod
    def call(self, actor: int, method: str, *arguments: Any) -> Any:
        """Begins a call; the ticket is for `answers`."""

    @abstractmethod
    def answers(self, tickets: Sequence[Any], seconds: float) -> list[Any]:
        """What the calls returned, in order. Raises what one of them raised; RunError after `seconds`."""

    def all(self, actors: Iterable[int], method: str, *arguments: Any, seconds: float) -> list[Any]:
        """The same call to several actors at once."""
        return self.answers([self.call(actor, method, *arguments) for actor in actors], seconds)


class Threads(Company):
    """Actors that are threads of this process, one each."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.actors = list(actors)
        self._threads = [ThreadPoolExecutor(1, f"hamdist-{number}") for number in range(len(actors))]

    def call(self, actor: int, method: str, *arguments: Any) -> Future[Any]:
        return self._threads[actor].submit(getattr(self.actors[actor], method), *arguments)

    def answers(self, tickets: Sequence[Future[Any]], seconds: float) -> list[Any]:
        try:
            return [ticket.result(seconds) for ticket in tickets]
        except TimeoutError:
            raise RunError(f"an actor gave no answer for {seconds:g} s") from None

    def close(self) -> None:
        """Stops every actor and ends its thread."""
        for actor in self.actors:
            actor.stop()
        for thread in self._threads:
            thread.shutdown()
