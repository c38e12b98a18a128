"""A run in one process: it presents batch after batch, drains, tests on the hold-out, and writes what came of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any

import torch

from hamdist.cluster.outcome import harmless, outcome_of, stream_failed
from hamdist.config.schema import RunConfig
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.kept import check_kept, kept_of
from hamdist.engine.loss_node import Prediction
from hamdist.engine.prediction_lines import lines_of
from hamdist.engine.profiler import Timeline, timeline_of
from hamdist.engine.source import Given
from hamdist.errors import DivergenceError, StreamError, StreamExitError, UserError
from hamdist.report.latency import Latency
from hamdist.report.metrics import Windows
from hamdist.report.wording import listed
from hamdist.runs.answers import Answers
from hamdist.runs.assembly import labels_of, network_keys
from hamdist.runs.checkpoints import Found, checkpoints_of
from hamdist.runs.inline_cuts import InlineCuts
from hamdist.runs.inline_start import InlineStart
from hamdist.runs.interruption import Interruption, Signalled, interruptible
from hamdist.runs.prepare import OpenStream, on
from hamdist.runs.record import RunDirectory
from hamdist.runs.recorder import OnProgress, Recorder
from hamdist.runs.results import Learnt, Results, executions, results_of
from hamdist.runs.saved import saved
from hamdist.streams import Batch

NAME = "inline"
CUT_SECONDS = 6.0  # for a last cut once a signal breaks off


def run_inline(
    config: RunConfig,
    open_directory: Callable[[], RunDirectory],
    on_progress: OnProgress | None,
    profile: bool = False,
    answers: Answers | None = None,
    begun: float | None = None,
    resumed: Found | None = None,
) -> dict[str, Any]:
    """Runs a config in this process and returns the summary; the directory is opened when all is checked.

    resumed: the checkpoint from which it goes on.
    """
    with _threads(config.placement.threads):
        start = InlineStart(config, timeline := timeline_of(profile), resumed)
        runtime, stream = start.first()
        with network_keys():
            for spec in runtime.program.nodes.values():
                check_kept(spec)
        recorder = Recorder(
            directory := open_directory(),
            on_progress,
            stream.stream.samples,
            len(stream.first.inputs),
            config.stream.hold,
            config.metrics_every,
            answers,
            begun,
            None if resumed is None else resumed.manifest.record,
        )
        checkpoints = checkpoints_of(config, directory.path)
        cuts = InlineCuts(checkpoints, config.checkpoint, runtime, stream, recorder, start.rollbacks)
        run = InlineRun(start, recorder, cuts, config.metrics_every, timeline, labels_of(config.stream))
        run.take(runtime, stream)
        return run.run()


class InlineRun:
    """One run under way; it begins with `take`.  start: where it starts anew.  cuts: its checkpoints.  labels: of the
    classes, where they have names.
    """

    def __init__(
        self,
        start: InlineStart,
        recorder: Recorder,
        cuts: InlineCuts,
        every: int,
        timeline: Timeline,
        labels: Sequence[Any] = (),
    ) -> None:
        self.recorder, self._start, self._cuts = recorder, start, cuts
        self._every, self._labels = every, labels
        self._timeline, self._reading = timeline, timeline.span("read")
        self._latency, self._compiling = Latency(), 0.0
        self._answers = recorder.answers
        self._left_off = False  # since nobody read the answers any more
        self._learnt: Learnt | None = None

    def take(self, runtime: InlineRuntime, stream: OpenStream) -> None:
        """With these it goes on."""
        self.program, self.runtime, self.stream = runtime.program, runtime, stream
        self._lines = lines_of(runtime.loss, self._labels)
        self._windows = Windows(
            runtime.loss.prequential, runtime.batch, self.program.locality.hold, self._every
        )
        self._windows.go_on(runtime.tick)

    def run(self) -> dict[str, Any]:
        """To the end of the stream; whatever happens, what was learnt until then is in the run directory."""
        self._timeline.start()
        with interruptible() as interruption:
            if self._cuts.on:
                interruption.grace_seconds = CUT_SECONDS
            try:
                while not self._went_through(interruption):
                    pass
            except Signalled:
                self._finish(interruption, "interrupted")
                interruption.check()
            except BaseException as error:
                failure = harmless(error, "the run", self.runtime.tick)
                self._start.rollbacks.tell(failure, self.recorder.directory.path, self._cuts.whole)
                self._finish(interruption, "failed", failure)
                raise failure from failure.__cause__
            ended = interruption.asked or self._left_off
            return self._finish(interruption, "interrupted" if ended else "finished")

    def _went_through(self, interruption: Interruption) -> bool:
        """To the end of the stream; False where it went back, since numbers were not finite."""
        try:
            with interruption.learning():
                self._learn(interruption)
            self._test()
        except DivergenceError as error:
            begun = self._start.after(error, self.runtime.tick, self._cuts.newest)
            if begun is None:
                raise
            self.take(*begun)
            self._cuts.go_back(*begun)
            return False
        return True

    def _learn(self, interruption: Interruption) -> None:
        """Every batch of the stream, then the drain, also where the stream breaks a promise midway.

        After a tick that broke off there is nothing to drain.
        """
        try:
            for batches in interruption.until_asked(self._batches()):
                if interruption.ending:
                    self._cuts.last()
                self._predicted(self.runtime.present_all(map(self._placed, batches)))
                self._report()
                self._cuts.look()
                if self._answers is not None and self._answers.unread:
                    self._left_off = True
                    break
        except (StreamError, StreamExitError):
            if self.runtime.whole:
                self._drain()
            raise
        if interruption.ending or self._left_off:
            self._cuts.last()
        self._drain()

    def _batches(self) -> Iterator[list[Batch]]:
        """The stream's batches, as many at a time as run in one go; all that came before an error are among them.

        What the user's own code raises in making them becomes a StreamError, or a StreamExitError.
        """
        together = self._cuts.step // self.program.locality.hold
        failure: BaseException | None = None
        while failure is None:
            read: list[Batch] = []
            asked = perf_counter()
            try:
                with self._reading:
                    for batch in islice(self.stream.batches, together):
                        read.append(batch)  # one by one, so that none is lost
            except BaseException as error:
                failure = error
            if self.stream.stream.live:
                for batch in read:
                    self._latency.present(batch.arrivals, asked)
            if read:
                yield read
            elif failure is None:
                return
        if isinstance(failure, UserError | Signalled):
            raise failure
        raise stream_failed(failure, self.runtime.samples)

    def _drain(self) -> None:
        for prediction in self.runtime.drain():
            self._predicted([prediction])
        self._learnt = Learnt(self.runtime.samples, self.runtime.tick, self.recorder.elapsed)
        self._close_lines()

    def _predicted(self, predictions: Sequence[Prediction]) -> None:
        """Hands them to whoever wants them, and notes how long live samples waited for that."""
        if self._answers is not None:
            for prediction in predictions:
                self._answers.add(self._lines(prediction) if prediction.learn else [])
        if not self.stream.stream.live:
            return
        if (compiling := self.runtime.execution.get("compile_seconds", 0.0)) != self._compiling:
            self._compiling = compiling
            self._latency.stalled()
        if predictions:
            if predictions[-1].output.is_cuda:
                torch.cuda.synchronize(predictions[-1].output.device)
            self._latency.predicted(predictions[-1].first + predictions[-1].rows, perf_counter())

    def _test(self) -> None:
        holdout = self.stream.stream.holdout()
        if holdout is not None:
            for _ in self.runtime.evaluate(map(self._placed, self._held_out(iter(holdout)))):
                pass

    def _held_out(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Errors as those of `_batches`."""
        while True:
            try:
                batch = next(batches, None)
            except (UserError, Signalled):
                raise
            except BaseException as error:
                raise stream_failed(error, self.runtime.samples) from error
            if batch is None:
                return
            yield batch

    def _placed(self, batch: Batch) -> Given:
        placed, told = on(self.program.targets.device, batch), batch.targets
        assert told is not None, "checked with the first batch, and by the stream since"
        assert placed.targets is not None
        return placed.inputs, placed.targets, placed.restarts, told

    def _report(self) -> None:
        runtime = self.runtime
        self._windows.after(runtime.tick)
        self.recorder.add(self._windows.take(), runtime.tick, runtime.samples)
        self.recorder.snapshot(runtime.tick, runtime.samples, runtime.loss.prequential.total)

    def _close_lines(self) -> None:
        """The last line of metrics, of what was predicted since the one before."""
        self._windows.close(self.runtime.tick)
        self.recorder.add(self._windows.take(), 0, self.runtime.samples)
        self.recorder.close(self.runtime.samples, self.runtime.tick)

    def _finish(
        self, interruption: Interruption, status: str, error: Exception | None = None
    ) -> dict[str, Any]:
        with interruption.writing():
            self._cuts.close()
            with suppress(
                DivergenceError
            ):  # of ticks in one go, told once: what ended the run is told already
                _ = self.runtime.nodes
            self._close_lines()
            weights = {
                name: partial(interruption.unless_insisted, partial(kept_of, node))
                for name, node in self.runtime.nodes.items()
            }
            summary = self.recorder.finish(self._results(), status, weights, error)
            interruption.saved = saved(summary, list(weights), self._cuts.counts.tick if self._cuts.on else 0)
        return summary

    def _results(self) -> Results:
        runtime = self.runtime
        learnt = self._learnt or Learnt(runtime.samples, runtime.tick, self.recorder.elapsed)
        outcome = outcome_of(runtime, timeline=self._timeline)
        layers, told = list(runtime.nodes), {NAME: outcome}
        profile, latency = outcome.profile, self._latency.told()
        return replace(
            results_of(told, layers, runtime.loss.name, learnt),
            promised=self.stream.asked,
            profiles={f"{NAME} ({listed(layers)})": profile} if profile else {},
            more=executions(told)
            | self._cuts.told()
            | self._start.told()
            | ({"latency": latency} if latency else {}),
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch uses so many threads within an operation; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
