"""A run under way: how far it is, its regular end, and what went wrong first where it fails.

An actor that stops takes its neighbours with it, since they hear no more of it; their errors tell of the consequence,
not of the cause, and are looked at last.
"""

import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass, replace

from hamdist.cluster.worker import Outcome, Progress, StreamOutcome
from hamdist.cluster.worker_group import STOPPED_SECONDS, Troupe
from hamdist.engine.divergence import diagnosis
from hamdist.errors import DivergenceError, RunError
from hamdist.report.metrics import Window
from hamdist.transport.base import LinkError


@dataclass(frozen=True)
class Ending:
    """What is left of a run: the outcomes of the actors, None of one that could say nothing, and why it failed.

    windows: of metrics that nobody has taken yet.  details: the traceback in the actor that failed.
    """

    outcomes: tuple[Outcome | None, ...]
    stream: StreamOutcome | None
    windows: tuple[Window, ...] = ()
    error: Exception | None = None
    details: str = ""


class Watch:
    """All actors run from now on; `bearer` is the one with the first loss, the last one is the stream's.

    grace_seconds: how long the others may take to end by themselves once one has failed.
    """

    def __init__(self, troupe: Troupe, bearer: int, grace_seconds: float) -> None:
        self._troupe, self._bearer, self._grace = troupe, bearer, grace_seconds
        self._count = len(troupe.names)
        self._runs = [troupe.call(actor, "run") for actor in range(self._count)]
        self._asked = {actor: troupe.ask(actor, "progress") for actor in (bearer, self._count - 1)}
        self._known = {actor: Progress(0) for actor in self._asked}

    def wait(self, seconds: float) -> bool:
        """Whether the run has ended, well or not, within `seconds`."""
        done, rest = wait(self._runs, seconds, FIRST_EXCEPTION)
        return not rest or any(ticket.exception() or ticket.result().error for ticket in done)

    def progress(self) -> tuple[Progress, Progress]:
        """The latest news of the actor with the first loss, and of the stream; windows of metrics come once."""
        for actor, ticket in self._asked.items():
            known = self._known[actor]
            self._known[actor] = replace(known, windows=())
            if ticket.done() and ticket.exception() is None:
                self._known[actor] = ticket.result()
                self._asked[actor] = self._troupe.ask(actor, "progress")
        return self._known[self._bearer], self._known[self._count - 1]

    def end(self) -> None:
        """Nothing more enters; the run goes on until all has been learnt."""
        self._troupe.ask(self._count - 1, "end")

    def ending(self, grace_seconds: float | None = None) -> Ending:
        """How it ended; where one failed, after the others have ended, too, or have been stopped."""
        if wait(self._runs, self._grace if grace_seconds is None else grace_seconds).not_done:
            for actor in self._running():
                self._troupe.ask(actor, "stop")
            wait(self._runs, STOPPED_SECONDS)
        outcomes = [
            ticket.result() if ticket.done() and ticket.exception() is None else None for ticket in self._runs
        ]
        stream = outcomes.pop()
        found = [
            outcome for outcome in (*outcomes, stream) if outcome is not None and outcome.error is not None
        ]
        error, details = self._cause(found, [*outcomes, stream])
        return Ending(tuple(outcomes), stream, self._windows(outcomes), error, details)

    def _windows(self, outcomes: Sequence[Outcome | None]) -> tuple[Window, ...]:
        """Those in the last news, which may still be under way, and those in the outcome."""
        wait(self._asked.values(), STOPPED_SECONDS)
        news = self.progress()[0].windows
        outcome = outcomes[self._bearer]
        return news if outcome is None else news + outcome.windows

    def _running(self) -> list[int]:
        return [actor for actor, ticket in enumerate(self._runs) if not ticket.done()]

    def _cause(
        self,
        failed: Sequence[Outcome | StreamOutcome],
        outcomes: Sequence[Outcome | StreamOutcome | None],
    ) -> tuple[Exception | None, str]:
        """The error to tell, and its traceback."""
        for outcome in failed:
            error = outcome.error
            if isinstance(error, DivergenceError):
                return self._diverged(error, outcome), outcome.details
        for outcome in failed:
            if not isinstance(outcome.error, LinkError):
                return outcome.error, outcome.details
        lost = [actor for actor, outcome in enumerate(outcomes) if outcome is None]
        if lost:
            return self._lost(lost[0], outcomes), ""
        return (failed[0].error, failed[0].details) if failed else (None, "")

    def _lost(self, actor: int, outcomes: Sequence[Outcome | StreamOutcome | None]) -> RunError:
        """An actor that could say nothing any more: killed, or frozen."""
        ticket, name = self._runs[actor], self._troupe.names[actor]
        ticks = [o.ticks for o in outcomes if isinstance(o, Outcome)] or [
            progress.ticks for progress in self._known.values()
        ]
        if ticket.done():
            try:
                self._troupe.answer(ticket)
                why = "no reason is known"
            except Exception as error:
                why = f"it died: {error}"
        else:
            why = "it gave no sign of life and did not stop when asked to: it was frozen, or its machine was"
        return RunError(
            f"{name} was lost at about tick {max(ticks, default=0)}: {why}. The others have stopped; the weights of "
            "their layers are in the run directory. Look at its machine's memory and log, then start again"
        )

    def _diverged(self, error: DivergenceError, outcome: Outcome | StreamOutcome) -> Exception:
        """The diagnosis over the layers of all actors, where they can still tell."""
        running = [actor for actor in range(self._count - 1) if self._runs[actor].done()]
        try:
            found = self._troupe.all(running, "extents", seconds=STOPPED_SECONDS)
        except RunError:
            traceback.print_exc()
            return error
        extents = [extent for part in found for extent in part]
        return DivergenceError(diagnosis(outcome.ticks, error.loss, extents))
