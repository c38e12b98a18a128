"""A run whose layers are Ray actors: it watches them, and writes down what comes of them.

Nothing of a tick passes through here. The driver asks for news about once a second.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

from hamdist.cluster.failure import Failure, is_lost, report_of
from hamdist.cluster.handle import results
from hamdist.cluster.ray_workers import STARTED_SECONDS, STOPPED_SECONDS, location_here
from hamdist.cluster.source_part import SourcePart
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.cluster.supervisor import Ending, Supervisor
from hamdist.cluster.worker import Worker
from hamdist.config.schema import RunConfig
from hamdist.engine.divergence import check_finite
from hamdist.engine.kept import Kept
from hamdist.engine.state import PartitionState
from hamdist.errors import DivergenceError, RunError
from hamdist.runs.allowance import Allowance
from hamdist.runs.answers import Answers
from hamdist.runs.assembly import labels_of, network_keys
from hamdist.runs.checkpoints import Found, checkpoints_of, read_nodes
from hamdist.runs.cuts import Cuts
from hamdist.runs.generations import Generations
from hamdist.runs.interruption import Interruption, Signalled, interruptible
from hamdist.runs.launch import LaunchedRun, launched
from hamdist.runs.prepare import prepare
from hamdist.runs.ray_results import results_over
from hamdist.runs.ray_stream import JOURNAL, keeps_journal, stream_source
from hamdist.runs.record import RunDirectory
from hamdist.runs.recorder import OnProgress, Recorder
from hamdist.runs.results import Results
from hamdist.runs.rollbacks import Rollbacks
from hamdist.runs.saved import saved

SECONDS_BETWEEN_NEWS = 0.5
CUT_SECONDS = 6.0  # for a last cut once a signal breaks off
LAST_SECONDS = 0.05  # between two looks at whether a cut is whole
GRACE_SECONDS = 5.0  # beyond a heartbeat, for the others to end by themselves


def run_on_ray(
    config: RunConfig,
    open_directory: Callable[[], RunDirectory],
    on_progress: OnProgress | None,
    profile: bool = False,
    answers: Answers | None = None,
    begun: float | None = None,
    resumed: Found | None = None,
) -> dict[str, Any]:
    """Runs a config over Ray actors and returns the summary; the directory is opened when all stand ready.

    resumed: the checkpoint from which it goes on.
    """
    setup = replace(prepare(config, profile), labels=None if answers is None else labels_of(config.stream))
    setup = Rollbacks(config, resumed).lowered(setup)
    at = () if resumed is None else (resumed.source(), resumed.directory / JOURNAL)
    source = stream_source(config, profile, *at)
    with network_keys(), launched(setup, source) as run:
        results([worker.call(Worker.check_kept) for worker in run.group.workers], STARTED_SECONDS)
        directory = open_directory()
        if keeps_journal(config) and resumed is None:
            journal = run.group.stream.call(StreamWorker.keep_journal, directory.path / JOURNAL)
            results([journal], STARTED_SECONDS)
        return RayRun(config, run, directory, on_progress, answers, begun, resumed).run()


class RayRun:
    """One run under way.  resumed: the checkpoint from which it goes on."""

    def __init__(
        self,
        config: RunConfig,
        run: LaunchedRun[StreamWorker],
        directory: RunDirectory,
        on_progress: OnProgress | None,
        answers: Answers | None = None,
        begun: float | None = None,
        resumed: Found | None = None,
    ) -> None:
        self._answers, self._resumed = answers, resumed
        self._checkpoints = checkpoints_of(config, directory.path)
        rows, stream = run.layout.inputs.shape[0], config.stream
        self.recorder = Recorder(
            directory,
            on_progress,
            stream.samples,
            rows,
            stream.hold,
            config.metrics_every,
            answers,
            begun,
            None if resumed is None else resumed.manifest.record,
        )
        self._promised = stream.samples
        self._rollbacks = Rollbacks(config, resumed)
        newest = None if resumed is None else resumed.source()
        self._cuts = Cuts(len(run.group.workers), self._commit, self._checkpoints.abandon, newest)
        self.generations = Generations(
            run,
            Allowance(
                config.recovery.max_failures,
                config.recovery.failures_per_hour,
                config.recovery.back_off_seconds,
            ),
            config.placement.heartbeat_seconds + GRACE_SECONDS,
            self._cuts,
            self._checkpoints.writer(run.setup.outline.graph.edges, location_here().host),
            self._stored,
        )

    @property
    def launched(self) -> LaunchedRun[StreamWorker]:
        """The actors as they are now."""
        return self.generations.run

    def run(self) -> dict[str, Any]:
        """To the end; whatever happens, what was learnt until then is in the run directory."""
        with interruptible() as interruption:
            if self._checkpoints.on:
                interruption.grace_seconds = CUT_SECONDS
            supervisor = self.generations.first()
            try:
                with interruption.learning():
                    ending = self._last(supervisor, interruption)
            except Signalled:
                ending = self.generations.supervisor.ending(0.0)
                self._hear_the_last(ending)
                self._finish(interruption, "interrupted", ending)
                interruption.check()
            ended = interruption.asked or self._left_off
            if ending.failure is not None:
                tick = self._cuts.counts.tick
                self._rollbacks.tell(ending.failure.error, self.recorder.directory.path, tick)
            summary = self._finish(interruption, _status(ending, ended), ending)
            if ending.failure is not None:
                whole = None not in ending.outcomes and not self.launched.session.lost()
                goes_on = self._cuts.counts.tick and not isinstance(ending.failure.error, DivergenceError)
                raise ending.failure.raised(interruption.saved if goes_on or not whole else "")
            return summary

    def _last(self, supervisor: Supervisor, interruption: Interruption) -> Ending:
        """How the last generation ended; where one fails for want of a machine, another follows."""
        following: Supervisor | None = supervisor
        while following is not None:
            supervisor = following
            self._follow(supervisor, interruption)
            if not supervisor.machines_failed:
                self._answer_all()
            ending = self._ending(supervisor)
            if ending.outcomes[self.launched.first_loss] is not None:
                self._answer_all()
            following = None if self.launched.session.lost() else self._next(ending)
        self._hear_the_last(ending)
        return ending

    def _next(self, ending: Ending) -> Supervisor | None:
        """The generation after one that has ended like this, if there is to be one."""
        if ending.failure is None or not isinstance(ending.failure.error, DivergenceError):
            return self.generations.next(ending)
        if not self._rollbacks.next():
            return None
        self._hear(self.generations.supervisor)  # a cut of which all parts are there is one
        return self.generations.rolled_back(ending, self._rollbacks.factor)

    def _follow(self, supervisor: Supervisor, interruption: Interruption) -> None:
        """News now and then, and predictions at once, until the run has ended, or somebody failed, or Ray itself."""
        asked, due = False, 0
        while not supervisor.wait(self._patience) and not self.launched.session.lost():
            self._answer()
            if (interruption.asked or interruption.broken or self._left_off) and not asked:
                asked, due = True, self._cuts.reached
                supervisor.end()
            if self._hear(supervisor) and self._cuts.counts.tick >= due:
                interruption.check()  # what there is to be kept is kept

    @property
    def _patience(self) -> float:
        """Seconds until the next look."""
        if self._answers is not None:
            return 0.0
        return LAST_SECONDS if self._cuts.awaited else SECONDS_BETWEEN_NEWS

    def _hear(self, supervisor: Supervisor) -> bool:
        """What there is to be written down, a cut after all that came before it; whether one became whole."""
        learning, stream = supervisor.progress()
        entered = stream.ticks if stream.entered_ticks is None else stream.entered_ticks
        self.recorder.add(learning.windows, entered, stream.samples)
        self.recorder.snapshot(learning.ticks, stream.samples, dict)
        self._cuts.reached = learning.ticks
        self._cuts.entered(stream.cuts)
        whole = self._cuts.add(supervisor.parts(learning, self._cuts.awaited))
        if whole is not None:
            self.generations.whole(whole)
        for tick in self._cuts.given_up():
            supervisor.given_up(tick)
        return whole is not None

    def _hear_the_last(self, ending: Ending) -> None:
        """A cut that is under way when the run ends may still become whole, after all that came before it."""
        stream = ending.stream
        entered, samples = (stream.entered_ticks, stream.samples) if stream else (0, 0)
        self.recorder.add(ending.windows, entered, samples)
        deadline = perf_counter() + STOPPED_SECONDS
        self._hear(self.generations.supervisor)
        while self._cuts.awaited and perf_counter() < deadline:
            time.sleep(LAST_SECONDS)
            self._hear(self.generations.supervisor)

    def _commit(self, source: SourcePart, files: Sequence[Any]) -> None:
        """Makes a checkpoint, once all that was predicted before it has left; it waits in the actor by now."""
        if self._answer() is None:
            raise RunError("what was predicted before it does not come")
        record = {
            **self.recorder.position(source.tick),
            "restarts": len(self.generations.restarts),
            **self._rollbacks.told(),
        }
        self._checkpoints.commit(source, files, record)

    def _stored(self, tick: int, nodes: Sequence[str]) -> PartitionState:
        """What some nodes had at a cut. Raises CheckpointError."""
        if self._resumed is not None and tick == self._resumed.tick:
            return read_nodes(self._resumed.folder, self._resumed.manifest, nodes)
        return self._checkpoints.read(tick, nodes)

    @property
    def _left_off(self) -> bool:
        """Whether nobody reads the predictions any more."""
        return self._answers is not None and self._answers.unread

    def _answer_all(self) -> None:
        """Hands on the predictions that have come, until none comes."""
        while self._answer():
            pass

    def _answer(self) -> bool | None:
        """Hands on the predictions that have come, or come soon; whether there were any, None where nobody knows."""
        if self._answers is None:
            return False
        asked = self.launched.group.workers[self.launched.first_loss].ask(Worker.predicted)
        wait([asked], STOPPED_SECONDS)
        lines = report_of(asked)
        self._answers.add(lines or [])
        return None if lines is None else bool(lines)

    def _ending(self, supervisor: Supervisor) -> Ending:
        """Without Ray the actors may go on for a while, and can say what they have."""
        lost = self.launched.session.lost()
        if not lost:
            return self._judged(supervisor.ending(0.0 if supervisor.machines_failed else None))
        supervisor.end()
        ending = supervisor.ending()
        ticks = ending.stream.ticks if ending.stream else supervisor.progress()[0].ticks
        error = RunError(f"{lost} ended at about tick {ticks}, and so the run; start it again")
        return replace(ending, failure=Failure(error))

    def _judged(self, ending: Ending) -> Ending:
        """A regular end after which weights are not finite, or cannot be seen, is none, though no loss told of it."""
        if ending.failure is not None:
            return ending
        assert ending.stream is not None
        asked = [worker.call(Worker.extents) for worker in self.launched.group.workers]
        try:
            extents = [extent for part in results(asked, STARTED_SECONDS) for extent in part]
            check_finite(ending.stream.ticks, extents)
        except RunError as error:
            lost = tuple(number for number, call in enumerate(asked) if is_lost(call))
            return replace(ending, failure=Failure(error, of_machines=bool(lost)), lost=lost)
        return ending

    def _finish(self, interruption: Interruption, status: str, ending: Ending) -> dict[str, Any]:
        names = self.launched.setup.network.names
        self._checkpoints.end_at(self._cuts.counts.tick)
        with interruption.writing():
            came = self._results(ending)
            error = None if ending.failure is None else ending.failure.error
            weights = {
                name: partial(interruption.unless_insisted, fetch)
                for name, fetch in self._weights(ending).items()
            }
            lost = [name for name in names if name not in weights]
            summary = self.recorder.finish(came, status, weights, error, lost)
            interruption.saved = saved(summary, names, self._cuts.counts.tick)
        return summary

    def _weights(self, ending: Ending) -> dict[str, Callable[[], Kept]]:
        """What fetches them, layer by layer, so that the driver never holds more than one; not of lost actors, and
        none where layers do not stand where they ended.
        """
        hosts = self.launched.layout.hosts
        if self.generations.astray:
            return {}
        return {
            name: partial(self._kept, name)
            for name in self.launched.setup.network.names
            if ending.outcomes[hosts[name]] is not None
        }

    def _kept(self, name: str) -> Kept:
        worker = self.launched.group.workers[self.launched.layout.hosts[name]]
        return results([worker.call(Worker.kept, name)], STARTED_SECONDS)[0]

    def _results(self, ending: Ending) -> Results:
        """What came of all actors."""
        in_one_go = not self.generations.restarts and self._resumed is None
        more = {
            "restarts": [restart.told() for restart in self.generations.restarts],
            **({"checkpoints": self._cuts.counts.told()} if self._checkpoints.on else {}),
        }
        return results_over(self.launched, ending, self.recorder.elapsed, in_one_go, self._promised, more)


def _status(ending: Ending, asked: bool) -> str:
    """asked: for the end."""
    if ending.failure is not None:
        return "failed"
    return "interrupted" if asked else "finished"
