"""Backpropagation without storing activations: what a tick holds does not grow with depth, and little is kept."""

import gc
import weakref

import pytest
import torch
from support.inline import run_through, runtime_of
from support.networks import residual_net
from support.samples import samples
from torch import Tensor

ROWS, WIDTH = 5, 13  # no other test has signals of this shape


class Saved:
    """A tensor that autograd saved."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()


class Counted(torch.autograd.graph.saved_tensors_hooks):
    """The most bytes that autograd has saved at a time; a storage counts once, weights do not.

    Weights are square here, and signals are not.
    """

    def __init__(self) -> None:
        super().__init__(self._pack, lambda saved: saved.tensor)
        self.most = 0
        self._alive: weakref.WeakSet[Saved] = weakref.WeakSet()

    def _pack(self, tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        if tensor.shape == (ROWS, WIDTH):
            self._alive.add(saved)
        storages = {s.tensor.data_ptr(): s.tensor.nbytes for s in self._alive}
        self.most = max(self.most, sum(storages.values()))
        return saved


def most_saved(depth: int, **locality) -> int:
    """From the first tick to the end of the drain."""
    batches = samples(2 * depth, (WIDTH,), batch=ROWS)
    runtime = runtime_of(residual_net(depth, WIDTH), batches, **locality)
    counted = Counted()
    with counted:
        run_through(runtime, batches)
    return counted.most


def groups_of_four(depth: int) -> dict:
    return {"mode": "groups", "groups": [[str(i + k) for k in range(4)] for i in range(0, depth, 4)]}


@pytest.mark.slow
@pytest.mark.parametrize("pairing", ["current", "stashed"])
def test_fully_local_a_tick_holds_the_activations_of_one_layer_at_a_time(pairing):
    signal = ROWS * WIDTH * 8
    assert most_saved(16, pairing=pairing) == most_saved(4, pairing=pairing) == 2 * signal  # input, tanh


@pytest.mark.slow
def test_in_groups_a_tick_holds_those_of_one_group():
    few, many = (most_saved(depth, pairing="current", **groups_of_four(depth)) for depth in (8, 16))
    assert few == many


def test_non_local_it_holds_them_all_as_backpropagation_does():
    few, many = (most_saved(depth, mode="nonlocal") for depth in (4, 16))
    assert many >= 3.5 * few


def signals_kept(depth: int, pairing: str) -> int:
    """How many signals there are between two ticks, by storage; the batches that are still to come do not count."""
    batches = samples(2 * depth + 4, (WIDTH,), batch=ROWS)
    runtime = runtime_of(residual_net(depth, WIDTH), batches, pairing=pairing)
    while batches:
        list(runtime.present(*batches.pop()))
    gc.collect()
    tensors = [found for found in gc.get_objects() if type(found) is Tensor and found.shape == (ROWS, WIDTH)]
    return len({tensor.data_ptr() for tensor in tensors})


@pytest.mark.slow
@pytest.mark.parametrize("layers", [4, 12])
def test_between_ticks_current_keeps_of_each_layer_its_last_input_a_signal_and_a_costate_under_way(layers):
    assert signals_kept(layers, "current") == layers + 2 * (layers - 1)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [4, 12])
def test_between_ticks_stashed_keeps_the_inputs_until_their_costate_returns(layers):
    """Those of D ticks and of the last one, D = 2 (layers − 1 − i)."""
    stashed = sum(2 * (layers - 1 - i) + 1 for i in range(layers))
    assert signals_kept(layers, "stashed") == stashed + 2 * (layers - 1)
