"""A run: from a config to a stream, a network, a runtime and a run directory; also `plan`.

A run goes on until its stream ends, or until Ctrl-C; then it drains, so that every sample has driven every layer, tests
on the hold-out, and writes its weights and its summary.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from hamdist.assembly import (
    dtype_of,
    learning_of,
    locality_of,
    network_keys,
    network_of,
    stream_keys,
    stream_of,
)
from hamdist.config.loader import Loaded, load, resolved_yaml
from hamdist.config.schema import RunConfig
from hamdist.errors import StreamError, UserError
from hamdist.interruption import interruptible
from hamdist.network.locality import apply_locality
from hamdist.network.plan import Plan
from hamdist.report.progress import Snapshot
from hamdist.run_directory import RunDirectory, fresh_directory
from hamdist.runtime.devices import local_device
from hamdist.runtime.inline import InlineRuntime
from hamdist.runtime.plan import plan_of
from hamdist.runtime.program import Program, program
from hamdist.streams import Batch, Stream
from hamdist.summary import Spent, summarise

Source = str | Path | Mapping[str, Any]
OnProgress = Callable[[Snapshot], None]
SECONDS_BETWEEN_SNAPSHOTS = 0.25


def run(
    config: Source,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Runs a config to the end of its stream and returns the summary, which is also in the run directory.

    config: a file, the name of an example, or a mapping.  out: the run directory, runs/<name> if None.
    Raises UserError for what is wrong with config or stream, RunError for a run that fails on its way.
    """
    loaded = load(config, overrides)
    with _located(loaded), _threads(loaded.config.placement.threads):
        prepared = prepare(loaded.config)
        path = fresh_directory(loaded.config.name) if out is None else Path(out)
        directory = RunDirectory(path, resolved_yaml(loaded.config))
        return Execution(prepared, directory, on_progress).run()


def plan(config: Source, overrides: Sequence[str] = ()) -> Plan:
    """What a config would run: layers, edges, delays and costs."""
    loaded = load(config, overrides)
    with _located(loaded):
        return plan_of(prepare(loaded.config).program)


@dataclass(frozen=True)
class Prepared:
    """All that a run needs, checked: batches start with the first one, which was read to learn the shapes."""

    config: RunConfig
    stream: Stream
    batches: Iterator[Batch]
    program: Program


def prepare(config: RunConfig) -> Prepared:
    """Opens the stream, reads its first batch and builds the program for it."""
    device = local_device(config.placement.device)
    with network_keys():
        network = network_of(config.network, config.seed)
    locality = locality_of(config.locality, network.names, config.stream.hold)
    with network_keys("network.edges"):
        apply_locality(network.graph, locality)
    stream = stream_of(config.stream, config.seed, dtype_of(config.network))
    batches = iter(stream)
    with stream_keys():
        first = next(batches)
    learning, dtype = learning_of(config.learning), dtype_of(config.network)
    with network_keys():
        built = program(network, locality, learning, on(device, first), config.seed, dtype)
    return Prepared(config, stream, chain([first], batches), built)


def on(device: torch.device, batch: Batch) -> Batch:
    """The batch on a device."""
    return Batch(batch.inputs.to(device), None if batch.targets is None else batch.targets.to(device))


class Execution:
    """One run under way."""

    def __init__(self, prepared: Prepared, directory: RunDirectory, on_progress: OnProgress | None) -> None:
        self.prepared = prepared
        self.directory = directory
        self.runtime = InlineRuntime(prepared.program)
        self.started = time.perf_counter()
        self._learnt: Spent | None = None
        self._on_progress = on_progress
        self._metrics: dict[str, float] = {}
        self._next_metrics = prepared.config.metrics_every
        self._next_snapshot = SECONDS_BETWEEN_SNAPSHOTS

    def run(self) -> dict[str, Any]:
        """To the end of the stream; whatever happens, what was learnt until then is in the run directory."""
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

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    @property
    def spent(self) -> Spent:
        return Spent(self.runtime.tick, self.elapsed)

    def _learn(self) -> str:
        """Every batch of the stream, then the drain, also where the stream breaks a promise midway."""
        with interruptible() as interruption:
            try:
                for batch in interruption.until_asked(self._batches()):
                    for _ in self.runtime.present(*self._placed(batch)):
                        pass
                    self._report()
            except StreamError:
                self._drain()
                raise
            self._drain()
        return "interrupted" if interruption.asked else "finished"

    def _batches(self) -> Iterator[Batch]:
        """The stream's batches; what the user's own code raises in making them becomes a StreamError."""
        try:
            yield from self.prepared.batches
        except UserError:
            raise
        except Exception as error:
            raise StreamError(f"the stream failed after {self.runtime.samples} samples: {error!r}") from error

    def _drain(self) -> None:
        for _ in self.runtime.drain():
            pass
        self._learnt = self.spent
        self._write_metrics()

    def _test(self) -> None:
        holdout = self.prepared.stream.holdout()
        if holdout is not None:
            for _ in self.runtime.evaluate(self._placed(batch) for batch in holdout):
                pass

    def _placed(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        placed = on(self.prepared.program.targets.device, batch)
        assert placed.targets is not None, "checked with the first batch, and by the stream since"
        return placed.inputs, placed.targets

    def _report(self) -> None:
        if self.runtime.samples >= self._next_metrics:
            self._write_metrics()
        if self._on_progress is not None and self.elapsed >= self._next_snapshot:
            self._next_snapshot = self.elapsed + SECONDS_BETWEEN_SNAPSHOTS
            self._on_progress(self._snapshot())

    def _write_metrics(self) -> None:
        """A line of metrics.jsonl with the means since the last one."""
        every = self.prepared.config.metrics_every
        self._next_metrics = (self.runtime.samples // every + 1) * every
        window = self.runtime.loss.prequential.window()
        if window:
            self._metrics = window
            predicted = self.runtime.loss.prequential.rows
            where = {"samples": self.runtime.samples, "predicted": predicted, "ticks": self.runtime.tick}
            self.directory.add_metrics({**where, "seconds": round(self.elapsed, 3), **window})

    def _snapshot(self) -> Snapshot:
        runtime, elapsed = self.runtime, self.elapsed
        metrics = self._metrics or runtime.loss.prequential.total()
        total = self.prepared.stream.samples
        return Snapshot(runtime.tick, runtime.samples, total, metrics, runtime.samples / elapsed, elapsed)

    def _finish(self, status: str, error: Exception | None = None) -> dict[str, Any]:
        self._write_metrics()
        summary = summarise(self.runtime, status, self._learnt or self.spent, self.elapsed, error)
        self.directory.finish(summary, self.runtime.tensors())
        return {**summary, "directory": str(self.directory.path)}


@contextmanager
def _located(loaded: Loaded) -> Iterator[None]:
    """Errors from within get the place of the key they speak of."""
    try:
        yield
    except UserError as error:
        error.restate(*loaded.explain(error))
        raise


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch uses so many threads within an operation; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
