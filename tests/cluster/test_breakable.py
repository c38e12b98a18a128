"""A loop that another thread ends, and one that ends by itself before."""

import threading
from collections.abc import Callable

import pytest
from support.patience import patient

from hamdist.cluster import breakable as under_test
from hamdist.cluster.breakable import Breakable, LoopBrokenError


def ended_by(loop: Callable[[], None], around: Breakable) -> list[BaseException]:
    """What ends a loop in a thread of its own, which is broken once it has begun."""
    begun, raised = threading.Event(), []

    def run() -> None:
        try:
            with around:
                begun.set()
                loop()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(patient(60))
    around.break_soon()
    thread.join(patient(60))
    assert not thread.is_alive()
    return raised


def test_a_loop_that_goes_on_is_left_in_its_midst(monkeypatch: pytest.MonkeyPatch):
    """Also where its own code catches whatever is an Exception."""
    monkeypatch.setattr(under_test, "GRACE_SECONDS", 0.0)

    def loop() -> None:
        while True:
            try:
                sum(range(10))
            except Exception:
                pytest.fail("it was taken for an error")

    (error,) = ended_by(loop, Breakable())
    assert type(error) is LoopBrokenError


def test_one_that_has_ended_or_stops_itself_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_test, "GRACE_SECONDS", 0.0)
    around = Breakable()
    with around:
        around.break_soon()
    around.break_soon()
    around._break()
