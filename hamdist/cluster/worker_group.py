"""The workers of one run: calls that go out together, answers awaited with a limit; as threads, or as actors on Ray."""

import os
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hamdist.cluster.actor import FOR_LAYERS, FOR_THE_STREAM, LayerActor, Whereabouts
from hamdist.cluster.resources import Bundle
from hamdist.errors import Problem, RunError, UserError

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


PLACED_SECONDS = 60.0
STARTED_SECONDS = 180.0
STOPPED_SECONDS = 3.0
CONTROL = "control"


class Troupe(Company):
    """Ray actors by number; the last may be a thread of this process instead, which hosts the stream.

    names: what errors call them.  places: where they are, once they have made what they host.  addresses: at which they
    listen, once they are joined.
    """

    def __init__(self, actors: Sequence[Any], names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.places: list[Whereabouts] = []
        self.addresses: dict[int, str] = {}
        self._actors = list(actors)
        self._here: Threads | None = None

    def begin(self, actor: int, make: Callable[[], Any]) -> Ticket:
        """An actor makes what it hosts; the answer is its Whereabouts."""
        from ray import cloudpickle

        search = [os.path.abspath(folder) for folder in sys.path]
        return self._actors[actor].make.remote(cloudpickle.dumps(make), self.names[actor], search).future()

    def made(self, tickets: Sequence[Ticket]) -> list[Whereabouts]:
        """Where the actors are that have begun. Raises a UserError with the problems of all of them, or RunError."""
        problems: list[Problem] = []
        error: UserError | None = None
        wait(tickets, STARTED_SECONDS)
        for ticket in tickets:
            try:
                self.answers([ticket], 0.0)
            except UserError as found:
                error = error or found
                problems += [problem for problem in found.problems if problem not in problems]
        if error is not None:
            error.restate(*problems)
            raise error
        return [self.answer(ticket) for ticket in tickets]

    def host_here(self, worker: Any) -> Whereabouts:
        """The stream lives in a thread of this process, and has no actor."""
        import ray

        self._here = Threads([worker])
        node, host = ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()
        return Whereabouts(node, host, os.getpid())

    def call(self, actor: int, method: str, *arguments: Any) -> Ticket:
        if self._here is not None and actor == len(self._actors):
            return self._here.call(0, method, *arguments)
        return self._actors[actor].do.remote(method, *arguments).future()

    def ask(self, actor: int, method: str) -> Ticket:
        if self._here is not None and actor == len(self._actors):
            return self._here.ask(0, method)
        return self._actors[actor].ask.options(concurrency_group=CONTROL).remote(method).future()

    def answer(self, ticket: Ticket) -> Any:
        """Raises an actor's own UserError or RunError as it was; RunError for an actor that died."""
        import ray

        try:
            return ticket.result()
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError | RunError):
                raise error.cause from error
            raise RunError(f"an actor failed: {str(error).strip().splitlines()[-1]}") from error
        except ray.exceptions.RayError as error:
            raise RunError(cause_of_death(error)) from error

    def close(self) -> None:
        """Stops every actor, first with its consent; none is left on this machine."""
        import ray

        if self._here is not None:
            self._here.close()
        wait([self.ask(number, "stop") for number in range(len(self._actors))], STOPPED_SECONDS)
        for actor in self._actors:
            ray.kill(actor)
        own = ray.get_runtime_context().get_node_id()
        for place in self.places:
            if place.node == own:
                _reap(place.pid)
        for address in self.addresses.values():
            _remove_socket(address)


@contextmanager
def troupe_of(bundles: Sequence[Bundle], names: Sequence[str]) -> Iterator[Troupe]:
    """Within it a Ray actor for every bundle has been asked for. Raises RunError where they cannot be placed now.

    names: of the actors, the stream's last, also where that has no bundle.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group(
        [dict(bundle.resources) for bundle in bundles],
        strategy="PACK",
        bundle_label_selector=[dict(bundle.labels) for bundle in bundles],
    )
    troupe = None
    try:
        _await_places(group)
        remote = ray.remote(concurrency_groups={CONTROL: 1})(LayerActor)  # type: ignore[call-overload]
        actors = [
            remote.options(
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=index
                ),
                **bundle.options(),
            ).remote(FOR_THE_STREAM if index == len(names) - 1 else FOR_LAYERS)
            for index, bundle in enumerate(bundles)
        ]
        troupe = Troupe(actors, names)
        yield troupe
    finally:
        if troupe is not None:
            troupe.close()
        remove_placement_group(group)


def _await_places(group: Any) -> None:
    import ray

    try:
        ray.get(group.ready(), timeout=PLACED_SECONDS)
    except ray.exceptions.GetTimeoutError:
        free = {
            name: round(amount, 3)
            for name, amount in sorted(ray.available_resources().items())
            if not name.startswith(("node:", "memory", "object_store_memory"))
        }
        raise RunError(
            f"the actors could not be placed for {PLACED_SECONDS:g} s: together they ask for {group.bundle_specs}, and "
            f"free now are {free}; wait until others have finished, ask for less, or add nodes"
        ) from None


def _reap(pid: int) -> None:
    """Ray's own kill does not reach a process that is frozen; this one does."""
    with suppress(FileNotFoundError, ProcessLookupError):  # it is gone already, as it should be
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
            os.kill(pid, signal.SIGKILL)


def _remove_socket(address: str) -> None:
    """An actor that was killed could not remove the folder of its ipc sockets; on this machine it is gone now."""
    _, is_ipc, path = address.partition("ipc://")
    if is_ipc:
        shutil.rmtree(Path(path).parent, ignore_errors=True)


def cause_of_death(error: Exception) -> str:
    """What Ray says of an actor that died, in a line."""
    text = " ".join(str(error).split())
    for mark in ("Worker exit detail: ", "The actor is dead because "):
        if mark in text:
            return text.partition(mark)[2].partition(" Some common causes")[0][:300]
    return text[:300]
