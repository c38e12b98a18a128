"""Signals, raised here where they are to come: what each ends, and what it leaves to end by itself."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest
from support.patience import patient

from hamdist.errors import RunError
from hamdist.runs import interruption as under_test
from hamdist.runs.interruption import ASKED, BrokenOff, Interruption, interruptible

INT, TERM = signal.SIGINT, signal.SIGTERM


def test_the_first_ctrl_c_while_a_run_learns_is_a_request(caplog: pytest.LogCaptureFixture):
    worked = []
    with interruptible() as interruption, interruption.learning():
        for number in interruption.until_asked(range(100)):
            if number == 3:
                signal.raise_signal(INT)
            worked.append(number)
    assert (worked, interruption.asked, interruption.broken) == ([0, 1, 2, 3], True, None)
    assert [record.getMessage() for record in caplog.records] == [ASKED % "Ctrl-C"]


def silent(number: int) -> Iterator[int]:
    """Whoever waits for the second item would not wake by itself."""
    yield 0
    signal.raise_signal(number)
    threading.Event().wait(patient(60))
    yield 1


def test_one_that_finds_the_run_waiting_wakes_it():
    with interruptible() as interruption, interruption.learning():
        assert list(interruption.until_asked(silent(INT))) == [0]
    with pytest.raises(BrokenOff), interruptible() as interruption, interruption.learning():
        assert list(interruption.until_asked(silent(TERM))) == [0]


def ended_by(work: Callable[[Interruption], None]) -> BrokenOff:
    """What ends this work."""
    with pytest.raises(BrokenOff) as caught, interruptible() as interruption:
        work(interruption)
    return caught.value


@pytest.mark.parametrize("numbers", [(TERM,), (INT, INT), (INT, TERM)])
def test_what_breaks_off_lets_the_work_end_and_is_raised_then(numbers: tuple[int, ...]):
    worked = []

    def work(interruption: Interruption) -> None:
        with interruption.learning():
            for number in interruption.until_asked(range(100)):
                if number == 2:
                    for each in numbers:
                        signal.raise_signal(each)
                worked.append(number)
            worked.append(-1)  # as a drain

    ended = ended_by(work)
    assert worked == [0, 1, 2, -1]
    assert ended.number == numbers[-1]
    assert str(ended) == ("terminated" if numbers[-1] == TERM else "interrupted")


def test_work_that_takes_long_is_left_in_its_midst(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_test, "GRACE_SECONDS", 0.0)

    def work(interruption: Interruption) -> None:
        with interruption.learning():
            signal.raise_signal(TERM)
            threading.Event().wait(patient(60))
            pytest.fail("it was not left")

    assert ended_by(work).number == TERM


@pytest.mark.parametrize("number", [INT, TERM])
def test_before_a_run_learns_either_ends_it_at_once(number: int):
    def work(_: Interruption) -> None:
        signal.raise_signal(number)
        pytest.fail("it went on")

    assert ended_by(work).number == number


def test_while_results_are_written_the_first_waits_for_all_and_the_second_for_the_file_in_work():
    written = []

    def work(interruption: Interruption) -> None:
        with interruption.writing():
            for name in "abc":
                with suppress(RunError):
                    written.append(interruption.unless_insisted(partial(str, name)))
                if name != "c":
                    signal.raise_signal(TERM)
            interruption.saved = "the weights of a and b are in out"
        signal.raise_signal(INT)
        written.append("cleared up")

    assert str(ended_by(work)) == "terminated; the weights of a and b are in out"
    assert written == ["a", "b", "cleared up"]


def test_a_signal_that_the_users_code_swallows_is_heard_all_the_same():
    def deaf() -> Iterator[int]:
        for number in range(100):
            try:
                if number == 4:
                    signal.raise_signal(INT)
            except BaseException:
                pass
            yield number

    with interruptible() as interruption, interruption.learning():
        worked = list(interruption.until_asked(deaf()))
    assert worked == [0, 1, 2, 3, 4]
    assert interruption.asked


def test_an_interrupt_of_the_users_own_is_none_of_ours():
    def raising() -> Iterator[int]:
        yield 0
        raise KeyboardInterrupt

    with interruptible() as interruption, interruption.learning(), pytest.raises(KeyboardInterrupt) as caught:
        list(interruption.until_asked(raising()))
    assert type(caught.value) is KeyboardInterrupt


def test_handlers_from_before_are_back_and_another_thread_leaves_them_alone():
    before = [signal.getsignal(number) for number in (INT, TERM)]
    with interruptible() as outer, interruptible() as inner:
        assert inner is outer
        assert signal.getsignal(INT) == outer.handle
    found = []

    def elsewhere() -> None:
        with interruptible():
            found.extend(signal.getsignal(number) for number in (INT, TERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(patient(60))
    assert found == before == [signal.getsignal(number) for number in (INT, TERM)]
