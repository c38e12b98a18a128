"""Which modules are layers by themselves, and which are lists of layers.

The oracle is the module's own forward under torch.optim.SGD; tolerance 1e-12 in float64: the operations are the same.
"""

import pytest
import torch
from support.comparing import largest_difference
from support.plain_steps import nonlocal_run, sgd
from support.samples import samples
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hamdist.errors import NetworkError
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.network import Network
from hamdist.physics.modules import Residual
from hamdist.physics.statespace import CSSM

BATCHES = samples(10, (8,))


class Doubling(nn.Sequential):
    """Not its parts alone."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x) + 1


class Calling(nn.Sequential):
    def __call__(self, x: Tensor) -> Tensor:
        return -super().__call__(x)


class Listed(nn.ModuleList):
    """A list that can be called."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = torch.tanh(layer(x))
        return x


class Scaled(nn.Sequential):
    """Its parts, and a scale that stands on none of them."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__(*parts)
        self.register_buffer("scale", torch.ones(1))


def parts():
    torch.manual_seed(0)
    return [nn.Linear(8, 8).double(), nn.Tanh(), nn.Linear(8, 3).double()]


def hooked():
    module = nn.Sequential(*parts())
    module.register_forward_hook(lambda module, inputs, output: 3 * output)
    return module


def patched():
    module = nn.Sequential(*parts())
    module.forward = lambda x: module[2](module[0](x))
    return module


WHOLE = {
    "own forward": lambda: Doubling(*parts()),
    "own call": lambda: Calling(*parts()),
    "a list with a forward": lambda: Listed([parts()[0], parts()[2]]),
    "a hook": hooked,
    "a buffer": lambda: Scaled(*parts()),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_sequence_that_is_more_than_its_parts_is_one_layer(kind):
    ours, theirs = nonlocal_run(WHOLE[kind](), BATCHES), sgd(WHOLE[kind](), BATCHES)
    assert largest_difference(ours, {f"0.{name}": tensor for name, tensor in theirs.items()}) < 1e-12


def test_a_forward_put_in_its_place_that_calls_the_parts_of_the_original_is_refused():
    """A copy would have weights that nothing reads."""
    with pytest.raises(NetworkError, match="layer '0' uses weights that are not its own parameters"):
        nonlocal_run(patched(), BATCHES)


def test_one_inside_a_sequence_is_a_layer_of_it():
    def make():
        torch.manual_seed(0)
        return nn.Sequential(Doubling(nn.Linear(8, 8), nn.Tanh()), hooked()).double()

    assert largest_difference(nonlocal_run(make(), BATCHES), sgd(make(), BATCHES)) < 1e-12


@pytest.mark.parametrize("container", [nn.Sequential, lambda *parts: nn.ModuleList(parts)])
def test_a_sequence_that_is_its_parts_is_taken_apart(container):
    network = Network.of(container(*parts()), nn.functional.cross_entropy)
    assert network.names == ("0", "1", "2")


def test_a_subclass_without_a_forward_of_its_own_is_its_parts():
    class Named(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*parts())
            self.note = "nothing that runs"

    assert Network.of(Named(), nn.functional.cross_entropy).names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (nn.Linear(8, 3), r"a single Linear was given: write \[layer\]"),
        (
            nn.ModuleDict({"a": nn.Linear(8, 3)}),
            r"a ModuleDict, which has no order of its own: write dict\(layers\)",
        ),
        (
            lambda: nn.Linear(8, 3),
            r"layers are a list, a mapping by name, or an nn.Sequential, not <function",
        ),
        (3, "layers are a list, a mapping by name, or an nn.Sequential, not 3"),
        ({1: nn.Linear(8, 3), "1": nn.Linear(8, 3)}, "layer '1' is listed twice"),
    ],
)
def test_what_is_no_list_of_layers(layers, message):
    with pytest.raises(NetworkError, match=message):
        Network.of(layers, nn.functional.cross_entropy)


# Around a memory


class Wrapped(nn.Sequential):
    """Has a cell inside, which it calls by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return -self[1](self[0](x))


def test_a_cell_inside_a_forward_of_ones_own_is_called_by_that():
    def make():
        torch.manual_seed(0)
        return nn.Sequential(Wrapped(nn.Linear(8, 8), nn.GRUCell(8, 8)), nn.Linear(8, 3)).double()

    assert largest_difference(nonlocal_run(make(), BATCHES), sgd(make(), BATCHES)) < 1e-12


def _hooked(module):
    module.register_forward_hook(lambda module, inputs, output: output)
    return module


def _parametrised(module):
    class Doubled(nn.Module):
        def forward(self, w):
            return 2 * w

    parametrize.register_parametrization(module, "scale", Doubled())
    return module


class OwnForward(CSSM):
    def forward(self, a, state=None, tau=1.0):
        return super().forward(2 * a, state, tau)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: _hooked(nn.Sequential(nn.Linear(8, 8), nn.GRUCell(8, 3))),
            "memory inside a Sequential with hooks",
        ),
        (lambda: Scaled(nn.Linear(8, 8), nn.GRUCell(8, 3)), "memory inside a Scaled with hooks, or tensors"),
        (lambda: _hooked(Residual(nn.GRUCell(8, 8))), "memory inside a Residual with hooks"),
        (lambda: _hooked(CSSM(8, 4, 3)), r"hooks on a memory \(CSSM\), which would not run"),
        (lambda: OwnForward(8, 4, 3), r"a memory \(OwnForward\) with a forward of its own"),
    ],
)
def test_what_would_not_run_around_a_memory_is_refused(make, message):
    with pytest.raises(NetworkError, match=f"layer 'a' has .*{message}"):
        LayerSpec("a", make).make(0, torch.float64, torch.device("cpu"))
