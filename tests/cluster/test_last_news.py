"""What an actor tells last, to the supervisor: windows of metrics go into the ending, and no cut is lost by that."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from hamdist.cluster.cut_keeper import PartNews
from hamdist.cluster.outcome import Progress
from hamdist.cluster.supervisor import Supervisor
from hamdist.cluster.worker_group import Peer


class Says:
    """Stands for an actor that has ended, and answers once with this, then with nothing new."""

    def __init__(self, progress: Progress) -> None:
        self.name, self._progress = "actor", [progress]

    def call(self, *asked: Any) -> Future[Any]:
        return done(SimpleNamespace(error=None, details="", ticks=9, windows=("second",)))

    def ask(self, asked: Any) -> Future[Any]:
        if asked is not Peer.progress:
            return done(True)
        return done(self._progress.pop() if self._progress else Progress(9))


class Runs(Says):
    """One that runs until it is stopped, and has as many windows to tell as it has been asked."""

    def __init__(self) -> None:
        super().__init__(Progress(9))
        self._run, self._told = Future[Any](), 0

    def call(self, *asked: Any) -> Future[Any]:
        return self._run

    def ask(self, asked: Any) -> Future[Any]:
        if asked is Peer.stop:
            self._run.set_result(SimpleNamespace(error=None, details="", ticks=9, windows=()))
        if asked is not Peer.progress:
            return done(True)
        self._told += 1
        return done(Progress(9, windows=(self._told,)))


def done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def test_a_cut_that_comes_with_the_last_windows_is_not_lost() -> None:
    part, windows = PartNews(8, ("file",)), ("first",)
    actor, stream = Says(Progress(9, windows=windows, cuts=(part,))), Says(Progress(9))
    group: Any = SimpleNamespace(
        workers=[actor], stream=stream, everyone=(actor, stream), names=("actor", "the stream")
    )
    supervisor = Supervisor(group, 0, 0.0)
    assert supervisor.ending().windows == ("first", "second")
    learning, _ = supervisor.progress()
    assert supervisor.parts(learning, True) == {0: (part,)}
    assert supervisor.parts(supervisor.progress()[0], True) == {0: ()}


def test_who_is_stopped_is_asked_for_no_news_that_nobody_hears() -> None:
    actor, stream = Runs(), Says(Progress(9))
    group: Any = SimpleNamespace(
        workers=[actor], stream=stream, everyone=(actor, stream), names=("actor", "the stream")
    )
    supervisor = Supervisor(group, 0, 0.0)
    assert supervisor.ending().windows == (1,)
    assert [supervisor.progress()[0].windows for _ in range(2)] == [(2,), (3,)]
