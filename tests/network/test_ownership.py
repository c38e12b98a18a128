"""What layers share: weights and moving buffers are refused by name; within a layer they are tied.

Where something learns, the oracle is torch.optim.SGD; tolerance 1e-12 in float64.
"""

import pytest
import torch
from support.comparing import largest_difference
from support.inline import runtime_of
from support.plain_steps import nonlocal_run, sgd
from support.samples import samples
from torch import Tensor, nn

from hamdist.errors import NetworkError
from hamdist.network.network import Network
from hamdist.network.ownership import shared_buffers

BATCHES = samples(10, (8,))


def three():
    torch.manual_seed(0)
    return [nn.Linear(8, 8).double(), nn.Linear(8, 8).double(), nn.Linear(8, 3).double()]


def _parameter(a, b):
    b.weight = a.weight


def _data(a, b):
    b.weight.data = a.weight.data


def _turned(a, b):
    b.weight.data = a.weight.data.t()


def _rows(a, b):
    whole = torch.randn(12, 8).double()
    a.weight.data, b.weight.data = whole[:8], whole[4:]


def _columns(a, b):
    whole = torch.randn(8, 15).double()
    a.weight.data, b.weight.data = whole[:, :8], whole[:, 7:]


def _frozen(a, b):
    b.weight = nn.Parameter(a.weight.data, requires_grad=False)


SHARED = [_parameter, _data, _turned, _rows, _columns, _frozen]


@pytest.mark.parametrize("share", SHARED)
def test_weights_in_the_memory_of_another_layers_are_refused(share):
    a, b, c = three()
    share(a, b)
    with pytest.raises(
        NetworkError, match=r"layers '0' and '1' share weights: .*0\.weight and 1\.weight.*put both"
    ):
        Network.of([a, nn.Sequential(nn.Tanh(), b)[1], c], nn.functional.cross_entropy)


@pytest.mark.parametrize("share", [_data, _turned])
def test_so_they_are_where_functions_build_the_layers_also_in_another_type(share):
    a, b, c = (layer.float() for layer in three())
    share(a, b)
    with pytest.raises(NetworkError, match="layers '0' and '1' share weights"):
        runtime_of([lambda: a, lambda: b, lambda: c], BATCHES)


def test_a_module_listed_twice_is_refused_where_it_learns_or_moves_something():
    norm = nn.BatchNorm1d(8, affine=False).double()
    a, b, c = three()
    with pytest.raises(NetworkError, match="layers '0' and '1' share weights"):
        Network.of([a, a, c], nn.functional.cross_entropy)
    with pytest.raises(
        NetworkError, match=r"layer '1' moves 'running_mean', which lies in the memory of '3\.running"
    ):
        runtime_of([a, norm, b, norm, c], BATCHES)
    with pytest.raises(NetworkError, match="layer '1' moves 'running_mean'"):
        runtime_of([lambda: a, lambda: norm, lambda: b, lambda: norm, lambda: c], BATCHES)
    runtime_of([a, act := nn.Tanh(), b, act, c], BATCHES)


class Masked(nn.Linear):
    def __init__(self, mask: Tensor) -> None:
        super().__init__(8, 8)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.mask


def test_what_does_not_move_may_be_shared():
    def make():
        torch.manual_seed(0)
        mask, whole = torch.rand(8).double(), torch.randn(16, 8).double()
        a, b, c = Masked(mask).double(), Masked(mask).double(), nn.Linear(8, 3).double()
        a.weight.data, b.weight.data = whole[:8], whole[8:]  # side by side in one memory, as are the next two
        return [a, b, c]

    layers = make()
    assert shared_buffers({"a": layers[0], "b": layers[1]}) == {
        "a": {"mask": "b.mask"},
        "b": {"mask": "a.mask"},
    }
    expected = sgd(nn.Sequential(*make()), BATCHES)
    assert largest_difference(nonlocal_run(layers, BATCHES), expected) < 1e-12


def test_columns_of_one_matrix_side_by_side_are_nobody_elses():
    def make():
        a, b, c = three()
        whole = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).double()
        a.weight.data, b.weight.data = whole[:, :8], whole[:, 8:]
        return [a, b, c]

    expected = sgd(nn.Sequential(*make()), BATCHES)
    assert largest_difference(nonlocal_run(make(), BATCHES), expected) < 1e-12


class Two(nn.Module):
    def __init__(self, share) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        share(self.a, self.b)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)))


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("share", [_parameter, _data])
def test_weights_that_are_one_within_a_layer_learn_as_one(share, built):
    """However they were tied, and though conversion to float64 unties them."""
    expected = sgd(nn.Sequential(Two(_parameter).double(), three()[2]), BATCHES)
    layer = (lambda: Two(share)) if built else Two(share)
    assert largest_difference(nonlocal_run([layer, three()[2]], BATCHES), expected) < 1e-12


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("share", [_turned, _frozen])
def test_those_that_overlap_otherwise_are_refused(share, built):
    layer = (lambda: Two(share)) if built else Two(share)
    with pytest.raises(NetworkError, match=r"layer '0': 'a\.weight' and 'b\.weight' lie in the same memory"):
        runtime_of([layer, three()[2]], BATCHES)
