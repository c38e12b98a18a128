"""What a Learner is given: kinds of batches that are as good as others, kinds that are refused, threads, copies."""

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from support.comparing import largest_difference
from support.networks import mlp
from support.patience import patient
from support.samples import samples
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hamdist import Learner
from hamdist.errors import RunError, StreamError
from hamdist.runs import turn

pytestmark = pytest.mark.usefixtures("one_fitter")

DOUBLE: dict[str, Any] = {"dtype": torch.float64}
X, Y = samples(1, (8,))[0]


def learner(**settings: Any) -> Learner:
    return Learner(mlp(2), **DOUBLE, **settings)


# Batches


def test_booleans_are_numbers_as_in_streams():
    ours, theirs = learner(), learner()
    ours.step(X > 0, Y)
    theirs.step((X > 0).double(), Y)
    ours.step(X, Y)
    theirs.step(X, Y)
    assert largest_difference(ours.state_dict(), theirs.state_dict()) == 0


def test_a_list_of_whole_numbers_is_floating_where_numbers_are():
    one = Learner([nn.Linear(2, 1)], "mse")
    one.step([[0.5, 1.0]], [[0.5]])
    one.step([[1, 2]], [[3]])
    assert one.predict([[1, 2]]).dtype == torch.float32


def test_a_data_loader_gives_batches():
    (x, y), ours, theirs = samples(1, (8,), batch=12)[0], learner(), learner()
    ours.steps(DataLoader(TensorDataset(x, y), batch_size=4))
    theirs.steps(zip(x.split(4), y.split(4), strict=True))
    assert largest_difference(ours.state_dict(), theirs.state_dict()) == 0


@pytest.mark.parametrize("restart", [True, np.True_, torch.tensor(True), [True] * 4, np.ones(4, dtype=bool)])
def test_flags_of_any_kind(restart: Any):
    def state(flag: Any) -> torch.Tensor:
        cell = Learner({"cell": lambda: nn.GRUCell(8, 3)}, **DOUBLE)
        cell.steps([(X, Y), (X, Y, flag)])
        return cell.layers[0].state[0]

    assert torch.equal(state(restart), state(torch.full((4,), True)))
    assert not torch.equal(state(restart), state(None))


REFUSED: list[tuple[Any, str]] = [
    (torch.tensor(1.0), "x must be a batch, its first dimension the rows, not a single number"),
    (X[:0], "x has no rows: a batch has one at least"),
    (X.to_sparse(), "x is a sparse_coo tensor: give a dense one, with one shape for all rows"),
    (X.to("meta"), "x is a meta tensor: give one with numbers"),
    (None, "x is an array of object; expected numbers"),
    ("abc", "x is an array of <U3; expected numbers"),
    (iter([X]), "x is an array of object; expected numbers"),
    ([[1, 2], [3]], "x is a list that makes no array of numbers: setting an array element with a sequence."),
]


@pytest.mark.parametrize(("x", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_is_no_batch(x: Any, message: str):
    one = learner()
    for sample in (0, 4):
        with pytest.raises(StreamError) as caught:
            one.step(x, Y)
        assert str(caught.value).startswith(f"the batch at sample {sample}: {message}")
        one.step(X, Y)


@pytest.mark.parametrize("batch", [X, (X,), {"x": X, "y": Y}])
def test_what_is_no_pair(batch: Any):
    with pytest.raises(StreamError, match=r"^the batch at sample 0: a batch is \(x, target\) or "):
        learner().steps([batch])


# Threads, and copies


def test_threads_take_turns():
    """As many batches as were presented drive every layer once; without turns two would be in one tick."""
    shared = learner()
    shared.step(X, Y)

    def present() -> None:
        for _ in range(50):
            shared.step(X, Y)
            shared.predict(X)

    with ThreadPoolExecutor(4) as threads:
        for call in [threads.submit(present) for _ in range(4)]:
            call.result(patient(60))
    shared.drain()
    assert shared.samples == 4 * 201
    assert shared.samples_seen_once


def test_a_thread_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(turn, "TURN_SECONDS", 0.0)
    shared, entered, go_on = learner(), Event(), Event()

    def slow() -> Any:
        yield X, Y
        entered.set()
        go_on.wait(patient(60))

    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(shared.steps, slow())
        assert entered.wait(patient(60))
        with pytest.raises(RunError, match=r"^another thread has been at work with this learner for 0 s: "):
            shared.step(X, Y)
        assert shared.metrics == {}
        go_on.set()
        call.result(patient(60))


@pytest.mark.parametrize("settings", [{}, {"stack": True, "chunk": 2}], ids=["node by node", "stacked"])
def test_a_copy_goes_on_by_itself(settings: dict[str, Any]):
    batches, one = samples(8, (8,)), learner(**settings)
    one.steps(batches[:4])
    twin, before = copy.deepcopy(one), one.state_dict()
    twin.steps(batches[4:])
    assert largest_difference(one.state_dict(), before) == 0
    one.steps(batches[4:])
    assert largest_difference(one.state_dict(), twin.state_dict()) == 0
    assert one.metrics == twin.metrics
