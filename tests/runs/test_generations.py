"""A failure while a run is made to go on after another one: with actors that only note what they are asked."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hamdist.cluster.failure import Failure
from hamdist.cluster.handle import ActorLostError
from hamdist.cluster.outcome import Outcome, Progress, StreamOutcome
from hamdist.cluster.source_part import SourcePart
from hamdist.cluster.supervisor import Ending
from hamdist.cluster.worker import UnderWay
from hamdist.engine.state import SourceState
from hamdist.errors import DivergenceError, RunError, StreamError
from hamdist.runs import generations
from hamdist.runs.allowance import Allowance
from hamdist.runs.cuts import Cuts
from hamdist.runs.generations import Generations

ANSWERS: dict[str, Any] = {"progress": Progress(0), "keeps": True, "said": UnderWay({}, {})}
DEAD = ActorLostError("actor 0", "killed")
Replaced = list[list[int]]


class Noted:
    """An actor that answers at once, but to `run`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def call(self, method: Callable[..., Any], *arguments: Any) -> Future[Any]:
        call: Future[Any] = Future()
        if method.__name__ != "run":
            call.set_result(ANSWERS.get(method.__name__))
        return call

    ask = call


def going_on(
    monkeypatch: pytest.MonkeyPatch, fails: Sequence[Exception | None]
) -> tuple[Generations, Replaced]:
    """Of two actors and a stream.  fails: what replacing actors raises, one time after another; also whom it was to
    replace.
    """
    workers, stream = [Noted("actor 0"), Noted("actor 1")], Noted("the stream")
    group = SimpleNamespace(
        workers=workers,
        stream=stream,
        everyone=(*workers, stream),
        names=("actor 0", "actor 1", "the stream"),
        stand_ins=SimpleNamespace(refill=lambda: None),
    )
    outline = SimpleNamespace(graph=SimpleNamespace(edges=()))
    run: Any = SimpleNamespace(
        group=group, layout=SimpleNamespace(hosts={}), setup=SimpleNamespace(outline=outline), first_loss=1
    )
    replaced: Replaced = []
    raised = iter(fails)

    def replace(_: Any, lost: Sequence[int]) -> None:
        replaced.append(list(lost))
        if (error := next(raised)) is not None:
            raise error

    for name, function in {
        "replace_lost": replace,
        "remake": replace,
        "rejoined": lambda run: run,
        "lowered": lambda run, _: run,
    }.items():
        monkeypatch.setattr(generations, name, function)
    newest = SourcePart(SourceState(20), {}, (torch.zeros(1), None))
    cuts = Cuts(2, lambda *_: None, lambda _: None, newest)
    begun = Generations(run, Allowance(5, 50, 0.0), 1.0, cuts, None, lambda *_: pytest.fail("kept"))
    begun.first()
    return begun, replaced


def ending(error: Exception, lost: Sequence[int]) -> Ending:
    """Of a generation that has failed for it."""
    outcomes = tuple(None if number in lost else Outcome(number, 25) for number in range(2))
    machines = not isinstance(error, DivergenceError)
    return Ending(
        outcomes, StreamOutcome(1, 1, 1), failure=Failure(error, of_machines=machines), lost=tuple(lost)
    )


def test_who_was_not_wholly_replaced_is_replaced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two new actors dies while it is made; the other one has made nothing of which it was to tell."""
    after, replaced = going_on(monkeypatch, [DEAD, None])
    assert after.next(ending(DEAD, [0, 1])) is not None
    assert replaced == [[0, 1], [0, 1]]
    assert [restart.lost for restart in after.restarts] == [["actor 0", "actor 1"]] * 2


def test_a_stream_that_cannot_be_opened_again_ends_the_run_in_order(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    after, replaced = going_on(monkeypatch, [StreamError("digits.csv is gone")])
    assert after.next(ending(DEAD, [0])) is None
    assert len(replaced) == 1
    assert "digits.csv is gone" in caplog.text


def test_what_ends_all_tries_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    after, replaced = going_on(monkeypatch, [DEAD] * 5)
    assert after.next(ending(DEAD, [0])) is None
    assert len(replaced) == 5
    assert "recovery.max_failures is 5" in caplog.text


def test_a_failure_while_it_is_rolled_back_is_recovered_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lives may have been made with the new β or not."""
    after, replaced = going_on(monkeypatch, [RunError("an actor failed"), None])
    assert after.rolled_back(ending(DivergenceError("diverged"), []), 0.5) is not None
    assert replaced == [[], [0, 1]]
    assert [restart.tick for restart in after.restarts] == [20, 20]


def test_an_actor_that_died_beside_what_is_not_finite_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    after, replaced = going_on(monkeypatch, [None])
    assert after.rolled_back(ending(DivergenceError("diverged"), [0]), 0.5) is not None
    assert replaced == [[0]]
