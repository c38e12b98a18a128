"""What went wrong first where a run fails.

An actor that stops takes its neighbours with it, since they hear no more of it; their errors tell of the consequence,
not of the cause, and are looked at last.
"""

import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from hamdist.cluster.handle import ActorLostError, Handle, results
from hamdist.cluster.worker import Worker
from hamdist.cluster.worker_group import AnyStream, WorkerGroup
from hamdist.engine.divergence import diagnosis
from hamdist.errors import DivergenceError, RunError
from hamdist.transport.base import LinkError, StalledError

Result = TypeVar("Result")
STOPPED = ". The others have stopped"
TOLD_SECONDS = 3.0  # for the actors that ended to tell how far off their layers are


class Ended(Protocol):
    """What an actor reports at the end of its ticks, or of some of them: as an Outcome."""

    @property
    def ticks(self) -> int: ...

    @property
    def error(self) -> Exception | None: ...

    @property
    def details(self) -> str: ...


@dataclass(frozen=True)
class Failure:
    """Why a run failed.  details: the traceback in the actor that failed, "" where there is none.

    of_machines: whether a process, a machine or a link failed, and not what ran on it: then another one may go on.
    """

    error: Exception
    details: str = ""
    of_machines: bool = False

    @property
    def cause(self) -> str:
        """Without what is to be done about it."""
        return str(self.error).partition(STOPPED)[0]

    def raised(self, saved: str = "") -> Exception:
        """The error, with what the actor knows of it.  saved: what is left of the run, to be said with it."""
        if saved:
            self.error.args = (f"{self.error}; {saved}", *self.error.args[1:])
        if self.details:
            self.error.add_note(f"In the actor:\n{self.details}")
        return self.error


def report_of(call: Future[Result]) -> Result | None:
    """What an actor reported; None where it could say nothing."""
    return call.result() if call.done() and call.exception() is None else None


def is_lost(call: Future[Result]) -> bool:
    """Whether an actor died, or gives no sign of life."""
    return not call.done() or isinstance(call.exception(), ActorLostError)


def loss_of(call: Future[Result]) -> str:
    """Why an actor could say nothing, killed, or frozen."""
    if call.done():
        error = call.exception()
        return f"it died: {error.cause if isinstance(error, ActorLostError) else error}"
    return "it gave no sign of life and did not stop when asked to: it was frozen, or its machine was"


def failure_of(
    group: WorkerGroup[AnyStream],
    reports: Sequence[Ended | None],
    losses: Sequence[str],
    ticks: int,
    kept: str = "",
) -> Failure | None:
    """The first cause; None where nothing failed.

    reports: of everyone, the stream's last.  losses: why those who could say nothing were lost, by number.
    ticks: how far the run was, as far as is known otherwise.  kept: what is left of those that were not lost.
    """
    failures = [
        (report, Failure(report.error, report.details))
        for report in reports
        if report is not None and report.error is not None
    ]
    for ended, failure in failures:
        if isinstance(failure.error, DivergenceError):
            return _diverged(group, reports, ended.ticks, failure.error, failure.details)
    for _, failure in failures:
        if not isinstance(failure.error, LinkError):
            return failure
    for number, report in enumerate(reports):
        if report is None:
            reached = [each.ticks for each in reports[:-1] if each is not None] or [ticks]
            lost = _lost(group.names[number], max(reached), losses[number], kept)
            return Failure(lost, of_machines=True)
    if not failures:
        return None
    first = failures[0][1]
    return replace(first, of_machines=not isinstance(first.error, StalledError))


def _lost(name: str, ticks: int, why: str, kept: str) -> RunError:
    return RunError(
        f"{name} was lost at about tick {ticks}: {why.rstrip('.')}{STOPPED}{kept}. Look at its machine's memory and "
        "log, then start again"
    )


def _diverged(
    group: WorkerGroup[AnyStream],
    reports: Sequence[Ended | None],
    tick: int,
    error: DivergenceError,
    details: str,
) -> Failure:
    """The diagnosis over the layers of all actors, where they can still tell."""
    there: list[Handle[Worker]] = [
        worker for worker, report in zip(group.workers, reports, strict=False) if report is not None
    ]
    try:
        found = results([worker.call(Worker.extents) for worker in there], TOLD_SECONDS)
    except RunError:
        traceback.print_exc()
        return Failure(error, details)
    extents = [extent for part in found for extent in part]
    return Failure(DivergenceError(diagnosis(tick, error.failed, extents), error.failed), details)
