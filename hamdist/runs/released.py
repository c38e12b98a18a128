"""A network on workers that go as far as they are told, and no further: for a Learner, whose caller looks in between.

A release is a call: every worker goes on to a tick and answers when it is done, so that whatever is asked next is asked
of that tick. Nothing of it is in the loop of a run that goes on by itself.
"""

import atexit
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from hamdist.cluster.failure import Failure, failure_of, loss_of, report_of
from hamdist.cluster.handle import Handle, results
from hamdist.cluster.outcome import Advance
from hamdist.cluster.ray_workers import STARTED_SECONDS, STOPPED_SECONDS
from hamdist.cluster.source_worker import Presenter
from hamdist.cluster.worker import Worker
from hamdist.cluster.worker_group import STREAM, Peer
from hamdist.engine.divergence import check_finite
from hamdist.engine.free_run import FreeRun
from hamdist.engine.inline import chunked
from hamdist.engine.layer_view import LayerView
from hamdist.engine.loss_node import Prediction
from hamdist.engine.message import Message
from hamdist.engine.source import Given, Source
from hamdist.engine.state import PartitionState, RuntimeState, copied, united
from hamdist.errors import RunError
from hamdist.runs.launch import LaunchedRun, StreamSource, launched
from hamdist.runs.prepare import RunSetup

TICKS_TOGETHER = 64  # that are released in one call
BYTES_TOGETHER = 64 * 2**20  # of what enters in them
RELEASES = 2  # under way at a time
GRACE_SECONDS = 5.0  # beyond a heartbeat, for the others to end by themselves
KEPT = "; the weights of their layers can still be read"
Result = TypeVar("Result")


class Release(NamedTuple):
    """Ticks under way: the calls to all workers, and to the source."""

    workers: list[Future[Advance]]
    source: Future[Advance]


class ReleasedRuntime:
    """As an InlineRuntime, tick by tick to the same bits. first: a batch like those to come, to learn the shapes.

    The actors are gone after `close`, which also goes with the object and with the interpreter.
    Raises NetworkError for whatever cannot run, ConfigError, RunError.
    """

    def __init__(self, setup: RunSetup, first: tuple[Tensor, Tensor]) -> None:
        opened = ExitStack()
        source = StreamSource(partial(Presenter, STREAM, first), here=True, prompt=True)
        self._run: LaunchedRun[Presenter] = opened.enter_context(launched(setup, source))
        self._closing = weakref.finalize(self, opened.close)
        self._closing.atexit = False
        atexit.register(self._closing)  # after Ray's own, and so before it
        layout = self._run.layout
        outline = layout.outline
        self._source = Source(
            layout.rows, outline.locality.hold, layout.stream_ticks, layout.entrance, outline.recent
        )
        self._under_way: deque[Release] = deque()
        self._failure: Failure | None = None

    @property
    def stands(self) -> bool:
        """Whether it can be asked: nothing has failed."""
        return self._failure is None

    @property
    def samples(self) -> int:
        """The number of samples that entered, hold-out not counted."""
        return self._source.samples

    @property
    def batch(self) -> int:
        """The rows of a full batch, those of the first one."""
        return self._source.batch

    def present(
        self, inputs: Tensor, targets: Tensor, learn: bool = True, restarts: Tensor | None = None
    ) -> list[Prediction]:
        """As an InlineRuntime's; returns when its ticks are done."""
        return self._present([(inputs, targets, restarts)], learn)

    def present_all(self, batches: Iterable[Given]) -> list[Prediction]:
        """As an InlineRuntime's: while some ticks run, those of the next batches are released."""
        return self._present(batches, True)

    def drain(self) -> list[Prediction]:
        """As an InlineRuntime's."""
        predictions = self._released(self._source.silence(self._run.setup.outline.drain))
        extents = self._all([worker.call(Worker.extents) for worker in self._workers])
        check_finite(self._source.tick, [extent for part in extents for extent in part])
        return predictions

    def evaluate(self, batches: Iterable[Given]) -> list[Prediction]:
        """As an InlineRuntime's."""
        self._source.begin_episode()
        predictions = self._present(batches, False)
        return predictions + self._released(self._source.silence(self._run.setup.outline.flush))

    def predict(self, inputs: Tensor) -> Tensor:
        """As an InlineRuntime's."""
        with self.free_run() as free:
            return free.step(inputs)

    @contextmanager
    def free_run(self) -> Iterator[FreeRun]:
        """As an InlineRuntime's, each layer where it lives; one at a time."""
        self._all([worker.call(Worker.begin_free_run) for worker in self._workers])
        layers = {name: partial(self._free_step, name) for name in self._names}
        shapes = {name: form.shape for name, form in self._run.layout.outputs.items()}
        try:
            yield FreeRun(self._run.setup.outline, layers, shapes)
        finally:
            self._all([worker.call(Worker.end_free_run) for worker in self._workers])

    def views(self) -> list[LayerView]:
        """Every layer as it is now."""
        return self._all([self._host(name).call(Worker.view, name) for name in self._names])

    def tensors(self) -> dict[str, dict[str, Any]]:
        """Every layer's state_dict."""
        calls = [self._host(name).call(Worker.tensors, name) for name in self._names]
        return dict(zip(self._names, self._all(calls), strict=True))

    def cut(self) -> RuntimeState:
        """As an InlineRuntime's, on the CPU: all stand at the same tick. Raises RunError after a failure."""
        self._require_standing()
        parts = self._all([worker.call(Worker.cut) for worker in self._workers])
        (said,) = self._all([self._run.group.stream.call(Presenter.said)])
        return RuntimeState(united(parts), copied(self._source.state._replace(signals=said)))

    def restore(self, state: RuntimeState) -> None:
        """Goes on from a cut of a runtime of the same program, this one or another, before its first tick."""
        self._all([self._run.group.stream.call(Presenter.resume, state.source)])
        self._all(
            [
                w.call(Worker.restore, self._part(state.partition, names), state.source)
                for w, names in self._hosting()
            ]
        )
        self._source.state = state.source

    def _part(self, state: PartitionState, names: Collection[str]) -> PartitionState:
        """Without the layers that others host, which are most of it."""
        return state._replace(nodes={name: state.nodes[name] for name in names})

    def load_weights(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """As an InlineRuntime's."""
        self._all(
            [
                worker.call(Worker.load_weights, {name: state.get(name, {}) for name in names})
                for worker, names in self._hosting()
            ]
        )

    def forms(self) -> dict[str, dict[str, str]]:
        """As an InlineRuntime's."""
        return self._joined(Worker.forms)

    def extra_states(self) -> dict[str, dict[str, Any]]:
        """As an InlineRuntime's."""
        return self._joined(Worker.extra_states)

    def take_extra_states(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """As an InlineRuntime's."""
        if states:
            self._all([worker.call(Worker.take_extra_states, states) for worker in self._workers])

    def _joined(self, ask: Callable[[Worker], dict[str, Result]]) -> dict[str, Result]:
        """By layer, what the workers say of theirs."""
        found = self._all([worker.call(ask) for worker in self._workers])
        return {name: told for part in found for name, told in part.items()}

    def _hosting(self) -> list[tuple[Handle[Worker], list[str]]]:
        """Every worker, and the layers that it hosts."""
        hosts = self._run.layout.hosts
        return [(w, [name for name in self._names if hosts[name] == i]) for i, w in enumerate(self._workers)]

    def seen_once(self) -> bool:
        """Whether every sample that entered drove every layer exactly once."""
        return all(self._all([worker.call(Worker.seen_once, self.samples) for worker in self._workers]))

    def executions(self) -> dict[str, dict[str, Any]]:
        """How ticks run, by actor; nothing of those of which there is nothing to say."""
        found = self._all([worker.call(Worker.execution) for worker in self._workers])
        return {name: told for name, told in zip(self._run.group.names, found, strict=False) if told}

    def prequential(self) -> dict[str, dict[str, float]]:
        """The means of every loss since the start, by node."""
        return self._of_losses(Worker.prequential)

    def holdout(self) -> dict[str, dict[str, float]]:
        """Their means over the hold-out samples that came since the last time."""
        return self._of_losses(Worker.holdout)

    @property
    def remembers(self) -> bool:
        """Whether a layer has a memory."""
        return any(self._all([worker.call(Worker.remembers) for worker in self._workers]))

    def close(self) -> None:
        """No actor is left."""
        self._closing()
        atexit.unregister(self._closing)

    # Who is where

    @property
    def _workers(self) -> Sequence[Handle[Worker]]:
        return self._run.group.workers

    @property
    def _names(self) -> tuple[str, ...]:
        return self._run.setup.network.names

    def _of_losses(self, means: Callable[[Worker, str], dict[str, float]]) -> dict[str, dict[str, float]]:
        """What the workers that host the losses say of them."""
        nodes = list(self._run.setup.outline.losses)
        found = self._all([self._host(node).call(means, node) for node in nodes])
        return dict(zip(nodes, found, strict=True))

    def _host(self, node: str) -> Handle[Worker]:
        return self._workers[self._run.layout.hosts[node]]

    def _free_step(self, name: str, inputs: tuple[Tensor, ...], restarts: Tensor | None) -> Tensor:
        return self._all([self._host(name).call(Worker.free_step, name, inputs, restarts)])[0]

    def _all(self, calls: Sequence[Future[Result]]) -> list[Result]:
        return results(calls, STARTED_SECONDS)

    # Ticks

    def _present(self, batches: Iterable[Given], learn: bool) -> list[Prediction]:
        """Those before a batch that cannot be had are presented all the same. Raises what it raised."""
        most = min(TICKS_TOGETHER, BYTES_TOGETHER // self._run.layout.tick_bytes)
        predictions: list[Prediction] = []
        try:
            for together in chunked(batches, max(1, most // self._source.hold)):
                predictions += self._released(self._source.present(together, learn), RELEASES - 1)
        finally:
            predictions += self._awaited(0)
        return predictions

    def _released(self, all_said: Iterator[Message], left: int = 0) -> list[Prediction]:
        """Lets the workers do the ticks of which something is said; what came of all but `left` releases.

        Raises what was raised in saying it, when what had been said is under way.
        """
        self._require_standing()
        ready: list[Message] = []
        try:
            for said in all_said:
                ready.append(said)  # one by one, so that none is lost
        finally:
            if ready:
                self._release(ready)
        return self._awaited(left)

    def _require_standing(self) -> None:
        if self._failure is not None:
            raise RunError(f"this learner has failed and cannot go on: {self._failure.error}")

    def _release(self, ready: Sequence[Message]) -> None:
        """Workers first, so that somebody hears what is said."""
        workers = [worker.call(Worker.advance, self._source.tick) for worker in self._workers]
        self._under_way.append(Release(workers, self._run.group.stream.call(Presenter.present, ready)))

    def _awaited(self, left: int) -> list[Prediction]:
        predictions: list[Prediction] = []
        while len(self._under_way) > left:
            release = self._under_way.popleft()
            if not self._done(release):
                self._fail(release)
            predictions += [p for call in release.workers for p in call.result().predictions]
        return predictions

    def _done(self, release: Release) -> bool:
        """Whether all ended well, once all have ended or somebody has failed."""
        calls = [*release.workers, release.source]
        while calls:
            done, rest = wait(calls, return_when=FIRST_COMPLETED)
            if any(call.exception() or call.result().error for call in done):
                return False
            calls = list(rest)
        return True

    def _fail(self, release: Release) -> None:
        """Stops whoever has not ended, and raises the first cause."""
        calls, group = [*release.workers, release.source], self._run.group
        grace = self._run.setup.placement.heartbeat_seconds + GRACE_SECONDS
        if wait(calls, grace).not_done:
            for handle, call in zip(group.everyone, calls, strict=True):
                if not call.done():
                    handle.ask(Peer.stop)
            wait(calls, STOPPED_SECONDS)
        self._under_way.clear()
        reports = [report_of(call) for call in calls]
        self._failure = failure_of(group, reports, [loss_of(call) for call in calls], self._source.tick, KEPT)
        assert self._failure is not None
        raise self._failure.raised()
