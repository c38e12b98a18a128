"""A loop that another thread ends, and one that ends by itself before."""

import threading
from collections.abc import Callable

import pytest
import torch
from support.actors import Ensemble
from support.patience import patient
from torch import Tensor, nn

from hamdist.cluster import breakable as under_test
from hamdist.cluster.breakable import Breakable, LoopBrokenError
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.network import Network


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
    around._break(1)
    with around:
        around._break(1)  # asked of the loop before


class Endless(nn.Linear):
    """Goes on for ever, in Python, once `stalls` is set."""

    stalls, stalled = threading.Event(), threading.Event()

    def forward(self, a: Tensor) -> Tensor:
        while self.stalls.is_set():
            self.stalled.set()
        return super().forward(a)


def test_an_actor_that_is_stopped_in_the_midst_of_a_layer_has_not_failed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_test, "GRACE_SECONDS", 0.0)
    network = Network.of([nn.Linear(3, 3), Endless(3, 2)], "mse", None)
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    with Ensemble(network, Locality(), Learning(), [(x, y)], [network.names]) as ensemble:
        Endless.stalls.set()
        try:
            ran, _ = ensemble.start()
            assert Endless.stalled.wait(patient(60))
            ensemble.workers[0].stop()
            outcome = ran.result(patient(60))
        finally:
            Endless.stalls.clear()
    assert (outcome.error, outcome.details) == (None, "")
