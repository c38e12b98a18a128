"""A run under way: how far it is, its end, and why it failed where it did."""

import math
import time
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, replace
from typing import Any

from hamdist.cluster.cut_keeper import PartNews
from hamdist.cluster.failure import Failure, failure_of, is_lost, loss_of, report_of
from hamdist.cluster.handle import Handle
from hamdist.cluster.outcome import Outcome, Progress, StreamOutcome
from hamdist.cluster.ray_workers import STOPPED_SECONDS
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.cluster.worker import Worker
from hamdist.cluster.worker_group import Peer, WorkerGroup
from hamdist.report.metrics import Window
from hamdist.transport.base import LinkError

ANSWER_SECONDS = 2.0  # for an actor that lives
LINKS_SECONDS = 15.0  # for one that lives to close its links, which may hold what a neighbour never takes


@dataclass(frozen=True)
class Ending:
    """What is left of a run: the outcomes of the actors, None of one that could say nothing, and why it failed.

    windows: of metrics that nobody has taken yet.  lost: the numbers of those that died, or gave no sign of life.
    """

    outcomes: tuple[Outcome | None, ...]
    stream: StreamOutcome | None
    windows: tuple[Window, ...] = ()
    failure: Failure | None = None
    lost: tuple[int, ...] = ()

    @property
    def of_machines(self) -> bool:
        """Whether the run failed for a process, a machine or a link, and others could go on from a cut."""
        silent = [n for n, report in enumerate((*self.outcomes, self.stream)) if report is None]
        return self.failure is not None and self.failure.of_machines and set(silent) <= set(self.lost)


class News:
    """How far one worker is, asked again and again; windows of metrics, and news of cuts, come once."""

    def __init__(self, worker: Handle[Peer]) -> None:
        self._worker, self.known = worker, Progress(0)
        self.asked = worker.ask(Peer.progress)

    def latest(self) -> Progress:
        self.known = replace(self.known, windows=(), cuts=())
        if (progress := report_of(self.asked)) is not None:
            self.known = progress
            self.asked = self._worker.ask(Peer.progress)
        return self.known


class Supervisor:
    """All actors run from now on; `first_loss` is the number of the one with the first loss.

    grace_seconds: how long the others may take to end by themselves once one has failed.  ended_at: when the run was
    first seen to have ended, or that somebody failed, in seconds since 1970.
    """

    def __init__(self, group: WorkerGroup[StreamWorker], first_loss: int, grace_seconds: float) -> None:
        self._group, self._first_loss, self._grace = group, first_loss, grace_seconds
        self._runs = [worker.call(Worker.run) for worker in group.workers]
        self._stream = group.stream.call(StreamWorker.run)
        self._all: list[Future[Any]] = [*self._runs, self._stream]
        self._news = [News(worker) for worker in group.workers]
        self._learning, self._entering = self._news[first_loss], News(group.stream)
        self.ended_at = math.inf
        self._set_aside: tuple[PartNews, ...] = ()  # news of cuts that came with the last windows

    def wait(self, seconds: float) -> bool:
        """Whether the run has ended, well or not, within `seconds`."""
        done, rest = wait(self._all, seconds, FIRST_EXCEPTION)
        ended = not rest or any(call.exception() or call.result().error for call in done)
        if ended:
            self.ended_at = min(self.ended_at, time.time())
        return ended

    def progress(self) -> tuple[Progress, Progress]:
        """The latest news of the actor with the first loss, and of the stream; windows of metrics come once."""
        return self._learning.latest(), self._entering.latest()

    def parts(self, learning: Progress, all_actors: bool) -> dict[int, tuple[PartNews, ...]]:
        """News of cuts since the last time, by the number of the actor.  learning: the latest of that with the first
        loss, which is not told again.  all_actors: whether to look at the others', too.
        """
        others = [(n, news) for n, news in enumerate(self._news) if all_actors and news is not self._learning]
        found = {n: news.latest().cuts for n, news in others}
        cuts, self._set_aside = self._set_aside + learning.cuts, ()
        return {**found, self._first_loss: cuts}

    def whole(self, tick: int) -> None:
        """The cut of this tick is whole: nobody needs those before it."""
        for worker in self._group.workers:
            worker.ask(Worker.whole, tick)
        self._group.stream.ask(StreamWorker.whole, tick)

    def given_up(self, tick: int) -> None:
        """The cut of this tick will not be whole: nobody waits for it."""
        for worker in self._group.workers:
            worker.ask(Worker.given_up, tick)
        self._group.stream.ask(StreamWorker.given_up, tick)

    def end(self) -> None:
        """Nothing more enters; the run goes on until all has been learnt."""
        self._group.stream.ask(StreamWorker.end)

    def ending(self, grace_seconds: float | None = None) -> Ending:
        """How it ended; where one failed, after the others have ended, too, or have been stopped."""
        if wait(self._all, self._grace if grace_seconds is None else grace_seconds).not_done:
            self._stop()
        outcomes, stream = [report_of(run) for run in self._runs], report_of(self._stream)
        ticks = max(news.known.ticks for news in (self._learning, self._entering))
        return Ending(
            tuple(outcomes),
            stream,
            self._windows(outcomes[self._first_loss]),
            failure_of(self._group, [*outcomes, stream], [loss_of(run) for run in self._all], ticks),
            tuple(number for number, run in enumerate(self._all) if is_lost(run)),
        )

    def _stop(self) -> None:
        """Who gives no sign of life is not waited for. Who has stopped by then is not stopped later, in the midst of
        the next generation.
        """
        running = [each for each in zip(self._group.everyone, self._all, strict=True) if not each[1].done()]
        asked = [(handle.ask(Peer.alive), handle.ask(Peer.stop), run) for handle, run in running]
        wait([sign for sign, *_ in asked], ANSWER_SECONDS)
        alive = [(stop, run) for sign, stop, run in asked if sign.done()]
        wait([call for calls in alive for call in calls], LINKS_SECONDS)

    @property
    def machines_failed(self) -> bool:
        """Whether somebody has failed, and nobody for what is not a link or a process, as far as is known."""
        failed = [run for run in self._all if run.done() and (run.exception() or run.result().error)]
        return bool(failed) and all(is_lost(run) or _lost_a_link(run) for run in failed)

    def _windows(self, outcome: Outcome | None) -> tuple[Window, ...]:
        """Those in the last news, which may still be under way, and those in the outcome."""
        wait([self._learning.asked], 0.0 if outcome is None else STOPPED_SECONDS)
        news = self._learning.latest()
        self._set_aside += news.cuts
        return news.windows if outcome is None else news.windows + outcome.windows


def _lost_a_link(run: Future[Any]) -> bool:
    return run.exception() is None and isinstance(run.result().error, LinkError)
