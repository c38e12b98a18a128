"""The workers of one run as Ray actors: placed, made, called, and none of them left afterwards."""

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Concatenate

from hamdist.cluster.actor import FOR_LAYERS, FOR_THE_STREAM, Location, WorkerActor
from hamdist.cluster.handle import ActorLostError, Arguments, Handle, Hosted, Result, ThreadHandle, results
from hamdist.cluster.resources import Bundle
from hamdist.cluster.stand_ins import StandIns, put_down, reap, started
from hamdist.cluster.worker import Worker
from hamdist.cluster.worker_group import STREAM, AnyStream, Peer, WorkerGroup
from hamdist.errors import Problem, RunError, UserError
from hamdist.signal_mask import signals_wait

PLACED_SECONDS = 60.0
STARTED_SECONDS = 180.0
STOPPED_SECONDS = 4.0
CONTROL = "control"


class RayHandle(Handle[Hosted]):
    """A worker in an actor of Ray. A call raises the actor's own UserError or RunError as it was; RunError where the
    actor died.
    """

    def __init__(self, name: str, actor: Any) -> None:
        super().__init__(name)
        self.actor = actor

    def make(self, make: Callable[[], Hosted]) -> Future[Location]:
        """The actor makes what it hosts."""
        from ray import cloudpickle

        search = [os.path.abspath(folder) for folder in sys.path]
        return _translated(
            self.actor.make.remote(cloudpickle.dumps(make), self.name, search).future(), self.name
        )

    def call(
        self,
        method: Callable[Concatenate[Hosted, Arguments], Result],
        /,
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Future[Result]:
        return _translated(self.actor.call.remote(method, *arguments, **named).future(), self.name)

    def ask(
        self,
        method: Callable[Concatenate[Hosted, Arguments], Result],
        /,
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Future[Result]:
        asked = self.actor.ask.options(concurrency_group=CONTROL)
        return _translated(asked.remote(method, *arguments, **named).future(), self.name)


class RayWorkers(WorkerGroup[AnyStream]):
    """locations: where everyone is, the stream last, once all are made.  addresses: at which they listen, by edge, once
    they are joined.  stand_ins: for those that are lost.
    """

    workers: list[RayHandle[Worker]]

    def __init__(
        self, workers: list[RayHandle[Worker]], stream: Handle[AnyStream], stand_ins: StandIns
    ) -> None:
        import ray

        self.workers, self.stream, self.stand_ins = workers, stream, stand_ins
        self.locations: list[Location] = []
        self.addresses: dict[int, str] = {}
        self._own_node = ray.get_runtime_context().get_node_id()

    @property
    def _actors(self) -> list[RayHandle[Any]]:
        return [handle for handle in self.everyone if isinstance(handle, RayHandle)]

    def found_at(self, addresses: Mapping[int, str]) -> None:
        """Where everyone listens from now on, by edge; of where they did before, nothing is left."""
        before, self.addresses = self.addresses, dict(addresses)
        for address in before.values():
            _remove_socket(address)

    def replace(self, number: int) -> RayHandle[Any]:
        """Puts another actor in the place of a lost one, which hosts nothing yet. Raises RunError."""
        lost, before = self.everyone[number], self.locations[number]
        if not isinstance(lost, RayHandle):
            raise RunError(f"{lost.name}, which lives with the driver, does not stop")
        put_down(lost.actor, before, self._own_node)
        layers = number < len(self.workers)
        handle: RayHandle[Any] = RayHandle(lost.name, self.stand_ins.take(number, before, layers))
        if layers:
            self.workers[number] = handle
        else:
            self.stream = handle
        return handle

    def close(self) -> None:
        """First with the actors' consent."""
        import ray

        if isinstance(self.stream, ThreadHandle):
            self.stream.hosted.stop()
            self.stream.close()
        if ray.is_initialized():
            wait([handle.ask(Peer.stop) for handle in self._actors], STOPPED_SECONDS)
            for handle in self._actors:
                ray.kill(handle.actor)
            self.stand_ins.close()
        for location in self.locations:
            if location.node == self._own_node and location.pid != os.getpid():
                reap(location.pid)
        for address in self.addresses.values():
            _remove_socket(address)


def made(calls: Sequence[Future[Location]]) -> list[Location]:
    """Where the actors are that make what they host. Raises a UserError with the problems of all, or RunError."""
    problems: list[Problem] = []
    error: UserError | None = None
    wait(calls, STARTED_SECONDS)
    for call in calls:
        try:
            results([call], 0.0)
        except UserError as found:
            error = error or found
            problems += [problem for problem in found.problems if problem not in problems]
    if error is not None:
        error.restate(*problems)
        raise error
    return [call.result() for call in calls]


def location_here() -> Location:
    """Of what this process hosts itself."""
    import ray

    node, host = ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()
    return Location(node, host, os.getpid())


@contextmanager
def ray_workers(
    bundles: Sequence[Bundle], count: int, stream: Handle[AnyStream] | None = None, spares: int = 0
) -> Iterator[RayWorkers[AnyStream]]:
    """Within it a Ray actor for every bundle has been asked for. Raises RunError where they cannot be placed now.

    count: of the workers that host layers.  stream: if it is hosted here; else the last bundle is its actor's.
    spares: how many are to stand ready for those that are lost.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    placed = placement_group(
        [dict(bundle.resources) for bundle in bundles],
        strategy="PACK",
        bundle_label_selector=[dict(bundle.labels) for bundle in bundles],
    )
    group: RayWorkers[AnyStream] | None = None
    try:
        _await_places(placed)
        remote = ray.remote(concurrency_groups={CONTROL: 1})(WorkerActor)  # type: ignore[call-overload]
        actors = [
            started(remote, placed, index, bundle, FOR_LAYERS if index < count else FOR_THE_STREAM)
            for index, bundle in enumerate(bundles)
        ]
        workers: list[RayHandle[Worker]] = [
            RayHandle(f"actor {number}", actor) for number, actor in enumerate(actors[:count])
        ]
        stand_ins = StandIns(remote, placed, bundles, spares)
        stand_ins.refill()
        group = RayWorkers(workers, RayHandle(STREAM, actors[count]) if stream is None else stream, stand_ins)
        yield group
    finally:
        with signals_wait():
            if group is not None:
                group.close()
            if ray.is_initialized():
                _within(STOPPED_SECONDS, partial(remove_placement_group, placed))


def _within(seconds: float, do: Callable[[], None]) -> None:
    """A Ray without its control service would wait for it for a minute."""
    doing = threading.Thread(target=do, daemon=True)
    doing.start()
    doing.join(seconds)


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


def _translated(call: Future[Any], name: str) -> Future[Any]:
    """The same call, which raises in terms of hamdist.  name: of who was called."""
    answer: Future[Any] = Future()

    def told(done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(_translation(error, name))

    call.add_done_callback(told)
    return answer


def _translation(error: BaseException, name: str) -> BaseException:
    import ray

    if isinstance(error, ray.exceptions.RayTaskError):
        if isinstance(error.cause, UserError | RunError):
            error.cause.__cause__ = error
            return error.cause
        return RunError(f"an actor failed: {str(error).strip().splitlines()[-1]}")
    return (
        ActorLostError(name, cause_of_death(error)) if isinstance(error, ray.exceptions.RayError) else error
    )


def cause_of_death(error: BaseException) -> str:
    """What Ray says of an actor that died, in a line."""
    text = " ".join(str(error).split())
    for mark in ("Worker exit detail: ", "The actor is dead because "):
        if mark in text:
            return text.partition(mark)[2].partition(" Some common causes")[0][:300]
    return text[:300]


def _remove_socket(address: str) -> None:
    """An actor that was killed could not remove the folder of its ipc sockets; on this machine it is gone now."""
    _, is_ipc, path = address.partition("ipc://")
    if is_ipc:
        shutil.rmtree(Path(path).parent, ignore_errors=True)
