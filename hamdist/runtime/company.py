"""The actors of one run, wherever they live: calls that go out together, and answers awaited with a limit."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from hamdist.errors import RunError

Ticket = Future[Any]


class Company(ABC):
    """Actors by number; the stream's is the last one. A call is to a method of a Worker or a StreamWorker."""

    @abstractmethod
    def call(self, actor: int, method: str, *arguments: Any) -> Ticket:
        """Begins a call, which the actor's own thread answers after those before it."""

    @abstractmethod
    def ask(self, actor: int, method: str) -> Ticket:
        """Begins a call that is answered while the actor is at work: to `progress`, `stop` or `end`."""

    def answers(self, tickets: Sequence[Ticket], seconds: float) -> list[Any]:
        """What the calls returned, in order. Raises what one of them raised; RunError after `seconds`."""
        late = wait(tickets, seconds).not_done
        if late:
            raise RunError(f"{len(late)} of {len(tickets)} actors gave no answer for {seconds:g} s")
        return [self.answer(ticket) for ticket in tickets]

    def answer(self, ticket: Ticket) -> Any:
        """What a call that is done returned; raises what it raised."""
        return ticket.result()

    def all(self, actors: Iterable[int], method: str, *arguments: Any, seconds: float) -> list[Any]:
        """The same call to several actors at once."""
        return self.answers([self.call(actor, method, *arguments) for actor in actors], seconds)


class Threads(Company):
    """Actors that are threads of this process, one each."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.actors = list(actors)
        self._threads = [ThreadPoolExecutor(1, f"hamdist-{number}") for number in range(len(actors))]

    def call(self, actor: int, method: str, *arguments: Any) -> Ticket:
        return self._threads[actor].submit(getattr(self.actors[actor], method), *arguments)

    def ask(self, actor: int, method: str) -> Ticket:
        ticket: Ticket = Future()
        ticket.set_result(getattr(self.actors[actor], method)())
        return ticket

    def close(self) -> None:
        """Stops every actor and ends its thread."""
        for actor in self.actors:
            actor.stop()
        for thread in self._threads:
            thread.shutdown()
