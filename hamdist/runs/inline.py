"""A run in one process: it presents batch after batch, drains, tests on the hold-out, and writes what came of it."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from time import perf_counter
from typing import Any

import torch

from hamdist.runs.assembly import (
    dtype_of,
    execution_of,
    learning_of,
    locality_of,
    network_keys,
    network_of,
    stream_keys,
    stream_of,
)
from hamdist.config.schema import RunConfig
from hamdist.errors import StreamError, UserError
from hamdist.runs.interruption import interruptible
from hamdist.network.locality import apply_locality
from hamdist.runs.record import OnProgress, Record
from hamdist.report.latency import Latency
from hamdist.report.profile import Profile
from hamdist.report.wording import listed
from hamdist.runs.record import RunDirectory
from hamdist.engine.device import local_device, moved
from hamdist.engine.source import Given
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.loss_node import Prediction
from hamdist.engine.device import peak_memory_bytes
from hamdist.engine.spec import Program, program
from hamdist.engine.profiler import Timeline, timeline_of
from hamdist.streams import Batch, Stream
from hamdist.runs.record import Results, summarise


@dataclass(frozen=True)
class Prepared:
    """All that a run needs, checked: batches start with the first one, which was read to learn the shapes.

    inputs: those of the first batch.
    """

    config: RunConfig
    stream: Stream
    batches: Iterator[Batch]
    inputs: torch.Tensor
    program: Program


def run_inline(
    config: RunConfig,
    open_directory: Callable[[], RunDirectory],
    on_progress: OnProgress | None,
    profile: bool = False,
) -> dict[str, Any]:
    """Runs a config in this process and returns the summary; the directory is opened when all is checked."""
    with _threads(config.placement.threads):
        return InlineRun(prepare(config), open_directory(), on_progress, timeline_of(profile)).run()


def prepare(config: RunConfig) -> Prepared:
    """Opens the stream, reads its first batch and builds the program for it."""
    device = local_device(config.placement.device)
    with network_keys():
        network = network_of(config.network, config.seed)
    locality = locality_of(config.locality, network.names, config.stream.hold)
    with network_keys("network.edges"):
        apply_locality(network.graph, locality)
    dtype, horizon = dtype_of(config.network), config.locality.horizon
    stream = stream_of(config.stream, config.seed, dtype, horizon)
    batches = iter(stream)
    with stream_keys():
        first = next(batches)
    learning, execution = learning_of(config.learning), execution_of(config.placement, stream.live)
    with network_keys():
        built = program(network, locality, learning, on(device, first)[:2], config.seed, dtype, execution)
    return Prepared(config, stream, chain([first], batches), first.inputs, built)


def on(device: torch.device, batch: Batch) -> Batch:
    """The batch on a device."""
    targets = None if batch.targets is None else moved(batch.targets, device)
    return Batch(moved(batch.inputs, device), targets, batch.restarts)


class InlineRun:
    """One run under way."""

    def __init__(
        self,
        prepared: Prepared,
        directory: RunDirectory,
        on_progress: OnProgress | None,
        timeline: Timeline,
    ) -> None:
        self.prepared = prepared
        self.runtime = InlineRuntime(prepared.program, timeline)
        self._timeline, self._reading = timeline, timeline.span("read")
        self.record = Record(directory, on_progress, prepared.stream.samples)
        self._latency, self._compiling = Latency(), 0.0
        self._learnt: tuple[int, float] | None = None  # ticks and seconds
        self._next_metrics = prepared.config.metrics_every

    def run(self) -> dict[str, Any]:
        """To the end of the stream; whatever happens, what was learnt until then is in the run directory."""
        self._timeline.start()
        try:
            status = self._learn()
            self._test()
        except Exception as error:
            self._finish("failed", error)
            raise
        except KeyboardInterrupt:
            self._finish("interrupted")
            raise
        return self._finish(status)

    def _learn(self) -> str:
        """Every batch of the stream, then the drain, also where the stream breaks a promise midway."""
        with interruptible() as interruption:
            try:
                for batches in interruption.until_asked(self._batches()):
                    self._predicted(self.runtime.present_all(map(self._placed, batches)))
                    self._report()
            except StreamError:
                self._drain()
                raise
            self._drain()
        return "interrupted" if interruption.asked else "finished"

    def _batches(self) -> Iterator[list[Batch]]:
        """The stream's batches, as many at a time as run in one go; all that came before an error are among them.

        What the user's own code raises in making them becomes a StreamError.
        """
        outline = self.prepared.program.outline
        together = math.ceil(outline.execution.chunk / outline.locality.hold)
        failure: BaseException | None = None
        while failure is None:
            read: list[Batch] = []
            asked = perf_counter()
            try:
                with self._reading:
                    for batch in islice(self.prepared.batches, together):
                        read.append(batch)  # one by one, so that none is lost
            except (Exception, KeyboardInterrupt) as error:
                failure = error
            if self.prepared.stream.live:
                for batch in read:
                    self._latency.present(batch.arrivals, asked)
            if read:
                yield read
            elif failure is None:
                return
        if isinstance(failure, UserError | KeyboardInterrupt):
            raise failure
        raise StreamError(f"the stream failed after {self.runtime.samples} samples: {failure!r}") from failure

    def _drain(self) -> None:
        for prediction in self.runtime.drain():
            self._predicted([prediction])
        self._learnt = self.runtime.tick, self.record.elapsed
        self._write_metrics()

    def _predicted(self, predictions: Sequence[Prediction]) -> None:
        """Notes how long live samples waited for them."""
        if not self.prepared.stream.live:
            return
        if (compiling := self.runtime.told.get("compile_seconds", 0.0)) != self._compiling:
            self._compiling = compiling
            self._latency.stalled()
        if predictions:
            if predictions[-1].output.is_cuda:
                torch.cuda.synchronize(predictions[-1].output.device)
            self._latency.predicted(predictions[-1].first + predictions[-1].rows, perf_counter())

    def _test(self) -> None:
        holdout = self.prepared.stream.holdout()
        if holdout is not None:
            for _ in self.runtime.evaluate(self._placed(batch) for batch in holdout):
                pass

    def _placed(self, batch: Batch) -> Given:
        placed = on(self.prepared.program.targets.device, batch)
        assert placed.targets is not None, "checked with the first batch, and by the stream since"
        return placed.inputs, placed.targets, placed.restarts

    def _report(self) -> None:
        runtime = self.runtime
        if runtime.samples >= self._next_metrics:
            self._write_metrics()
        self.record.snapshot(runtime.tick, runtime.samples, runtime.loss.prequential.total)

    def _write_metrics(self) -> None:
        """A line of metrics.jsonl with the means since the last one."""
        every, runtime = self.prepared.config.metrics_every, self.runtime
        self._next_metrics = (runtime.samples // every + 1) * every
        window = runtime.loss.prequential.window()
        if window:
            self.record.line(runtime.samples, runtime.loss.prequential.rows, runtime.tick, window)

    def _finish(self, status: str, error: Exception | None = None) -> dict[str, Any]:
        self._write_metrics()
        results = self._results()
        summary = summarise(results, status, self.record.elapsed, error)
        self.record.directory.finish(summary, self.runtime.tensors().items(), results.profiles)
        return {**summary, "directory": str(self.record.directory.path)}

    def _results(self) -> Results:
        runtime = self.runtime
        ticks, seconds = self._learnt or (runtime.tick, self.record.elapsed)
        return Results(
            ticks=ticks,
            seconds=seconds,
            samples=runtime.samples,
            seen_once=runtime.seen_once(),
            prequential=runtime.loss.prequential.total(),
            holdout=runtime.loss.holdout.total(),
            layers={name: {**cell.ledger.counts(), **cell.energies} for name, cell in runtime.cells.items()},
            peak_memory_bytes={"inline": peak_memory_bytes()},
            profiles=self._profiles(),
            more=self._more(),
        )

    def _more(self) -> dict[str, Any]:
        execution = {"inline": self.runtime.told} if self.runtime.told else {}
        told = {"execution": execution, "latency": self._latency.told()}
        return {key: value for key, value in told.items() if value}

    def _profiles(self) -> dict[str, Profile]:
        """That of the only actor; none where none was wanted."""
        profile = self._timeline.profile(self.runtime.tick)
        return {f"inline ({listed(list(self.runtime.cells))})": profile} if profile else {}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch uses so many threads within an operation; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
