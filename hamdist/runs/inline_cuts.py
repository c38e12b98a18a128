"""The checkpoints of a run in one process: cut between batches, written in the background."""

import logging
import threading
from collections.abc import Mapping
from math import lcm
from time import monotonic, perf_counter
from typing import Any

import torch

from hamdist.cluster.cut_keeper import moved_to
from hamdist.cluster.source_part import SourcePart
from hamdist.config.reliability_schema import CheckpointConfig
from hamdist.engine.divergence import unfinite
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.state import RuntimeState
from hamdist.errors import RunError
from hamdist.runs.checkpoint_part import CheckpointError
from hamdist.runs.checkpoints import Checkpoints, Found
from hamdist.runs.cuts import CutCounts
from hamdist.runs.prepare import OpenStream
from hamdist.runs.recorder import Recorder
from hamdist.runs.rollbacks import Rollbacks

_log = logging.getLogger(__name__)


class InlineCuts:
    """schedule: when one is due.  step: ticks of whole holds and chunks, where a cut may be.

    One is written at a time: the next waits for it, and the ticks for none.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        schedule: CheckpointConfig,
        runtime: InlineRuntime,
        stream: OpenStream,
        recorder: Recorder,
        rollbacks: Rollbacks,
    ) -> None:
        self.on, self._checkpoints, self._schedule = checkpoints.on, checkpoints, schedule
        self._runtime, self._stream, self._recorder, self._rollbacks = runtime, stream, recorder, rollbacks
        outline = runtime.program.outline
        self.step = lcm(outline.locality.hold, outline.execution.chunk)
        self._write_parts = checkpoints.writer(outline.graph.edges)
        self.counts = CutCounts(tick=runtime.tick)
        self._last, self._since = runtime.tick, monotonic()
        self._position: Mapping[str, Any] | None = None  # of the stream, after the last batch presented
        self._writing: threading.Thread | None = None

    def look(self) -> None:
        """To be called where all that was read has been presented, and written down."""
        if not self.on:
            return
        self._position = self._stream.batches.position
        if self._due and not (self._writing and self._writing.is_alive()):
            self._cut()

    def last(self) -> None:
        """One as it is now, before the end that somebody asks for; what was read since the last look is not in it."""
        if self.on:
            self._cut()

    @property
    def whole(self) -> int:
        """The tick of the newest that is whole, 0 where there is none."""
        self.close()
        return self.counts.tick if self.on else 0

    def newest(self) -> Found | None:
        """The newest that is whole; None where nothing is, with a word where something should be."""
        self.close()
        try:
            return self._checkpoints.newest()
        except CheckpointError as error:
            _log.warning("there is nothing to go back to: %s", error)
            return None

    def go_back(self, runtime: InlineRuntime, stream: OpenStream) -> None:
        """These go on from a cut; what came after it never was."""
        self._runtime, self._stream, self._position = runtime, stream, None
        self._last, self._since = runtime.tick, monotonic()

    def close(self) -> None:
        """Nothing is being written any more."""
        if self._writing is not None:
            self._writing.join()

    def told(self) -> dict[str, Any]:
        """Of a summary."""
        return {"checkpoints": self.counts.told()} if self.on else {}

    @property
    def _due(self) -> bool:
        ticks, seconds = self._schedule.every_ticks, self._schedule.seconds
        return (ticks is not None and self._runtime.tick - self._last >= ticks) or (
            seconds is not None and monotonic() - self._since >= seconds
        )

    def _cut(self) -> None:
        """Copies all that moves, unless it has not moved, or is between two places for a cut.

        After a last batch that is short there is none: a run that is given more samples has a full one there.
        """
        tick, short = self._runtime.tick, self._runtime.samples % self._runtime.batch
        if (
            self._position is None
            or tick == self._last
            or tick % self.step
            or not self._runtime.whole
            or short
        ):
            return
        self.close()
        started = perf_counter()
        state, first = self._runtime.cut(), self._stream.first
        source = SourcePart(state.source, self._position, (first.inputs, first.targets))
        record = {**self._recorder.position(tick), **self._rollbacks.told()}
        self.counts.paused = max(self.counts.paused, perf_counter() - started)
        self._last, self._since = tick, monotonic()
        arguments = (state, source, record)
        self._writing = threading.Thread(target=self._write, args=arguments, name="hamdist-checkpoint")
        self._writing.start()

    def _write(self, state: RuntimeState, source: SourcePart, record: Mapping[str, Any]) -> None:
        started, tick = perf_counter(), source.tick
        try:
            self._commit(moved_to(torch.device("cpu"), state), source, record)
        except Exception as error:
            self._checkpoints.abandon(tick)
            told = _log.info if self.counts.failed else _log.warning
            told("no checkpoint at tick %d: %s; the run goes on", tick, error)
            self.counts.failed += 1
            return
        self.counts.tick, self.counts.written = tick, self.counts.written + 1
        self.counts.seconds = max(self.counts.seconds, perf_counter() - started)

    def _commit(self, state: RuntimeState, source: SourcePart, record: Mapping[str, Any]) -> None:
        """Raises RunError for numbers that are not finite, OSError."""
        if problem := unfinite(state.partition):
            raise RunError(problem)
        assert self._write_parts is not None
        host = SourcePart(state.source, source.stream, moved_to(torch.device("cpu"), source.first))
        self._checkpoints.commit(host, self._write_parts(state.partition), record)
