"""What hangs on a module: hooks of modules run, what torch computes anew is pruned or normed as it should be, and what
would be lost is refused.

The oracle is torch.optim.SGD; tolerance 1e-12 in float64.
"""

import threading
import warnings

import pytest
import torch
from support.comparing import largest_difference
from support.inline import runtime_of
from support.plain_steps import nonlocal_run, sgd
from support.samples import samples
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from hamdist.errors import NetworkError
from hamdist.network.network import Network

BATCHES = samples(10, (8,))


def layers(change):
    torch.manual_seed(0)
    first, second, third = nn.Linear(8, 8).double(), nn.Linear(8, 8).double(), nn.Linear(8, 3).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's older weight_norm is deprecated, and still in use
        return [first, change(second) or second, third]


class Centred(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w - w.mean()


def _used(linear):
    prune.random_unstructured(linear, "weight", 0.5)
    linear(torch.zeros(1, 8).double())


HONOURED = {
    "forward hook": lambda m: m.register_forward_hook(lambda m, i, o: 2 * o) and None,
    "forward hook before": lambda m: m.register_forward_pre_hook(lambda m, i: (2 * i[0],)) and None,
    "backward hook": lambda m: m.register_full_backward_hook(lambda m, gi, go: (gi[0] / 2,)) and None,
    "backward hook before": lambda m: m.register_full_backward_pre_hook(lambda m, go: (go[0] / 2,)) and None,
    "pruned": lambda m: prune.random_unstructured(m, "weight", 0.5),
    "pruned and used": _used,
    "pruned for good": lambda m: prune.remove(prune.random_unstructured(m, "weight", 0.5), "weight"),
    "old weight norm": weight_norm,
    "old spectral norm": spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "parametrised": lambda m: parametrize.register_parametrization(m, "weight", Centred()),
}


@pytest.mark.parametrize("kind", HONOURED)
def test_what_hangs_on_a_module_does_what_it_does_in_torch(kind):
    expected = sgd(nn.Sequential(*layers(HONOURED[kind])), BATCHES)
    assert largest_difference(nonlocal_run(layers(HONOURED[kind]), BATCHES), expected) < 1e-12


def test_a_pruned_layer_that_a_function_makes_stays_pruned():
    made = layers(HONOURED["pruned"])
    ours = nonlocal_run([lambda layer=layer: layer for layer in made], BATCHES)
    assert largest_difference(ours, sgd(nn.Sequential(*layers(HONOURED["pruned"])), BATCHES)) < 1e-12


def test_a_lazy_norm_is_copied_before_it_has_shapes():
    network = [nn.Linear(8, 8).double(), nn.LazyBatchNorm1d(), nn.Linear(8, 3).double()]
    assert nonlocal_run(network, BATCHES)["1.running_mean"].shape == (8,)


# What would be lost


class Derived(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.double = 2 * linear.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) @ self.double


class Locked(nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 8)
        self.lock = threading.Lock()


def _unhooked(linear):
    linear.weight.register_hook(lambda g: 0 * g).remove()


LOST = {
    "a gradient hook": (
        lambda m: m.weight.register_hook(lambda g: 0 * g) and None,
        "layer '1': a gradient hook hangs on 'weight', .*utils.parametrize",
    ),
    "a hook on a sum": (
        lambda m: m.bias.register_post_accumulate_grad_hook(lambda p: None) and None,
        "layer '1': a gradient hook hangs on 'bias'",
    ),
    "what was computed": (Derived, "layer '1' keeps in 'double' what was computed from weights"),
    "a lock": (
        lambda m: Locked().double(),
        r"layer '1' \(Locked\) cannot be copied: .*give a function that makes it",
    ),
}


@pytest.mark.parametrize("kind", LOST)
def test_what_would_be_lost_is_refused_by_name(kind):
    change, message = LOST[kind]
    with pytest.raises(NetworkError, match=message):
        runtime_of(layers(change), BATCHES)


@pytest.mark.parametrize("kind", ["a gradient hook", "a hook on a sum"])
def test_so_it_is_where_functions_make_the_layers(kind):
    change, message = LOST[kind]
    made = layers(change)
    with pytest.raises(NetworkError, match=message):
        runtime_of([lambda layer=layer: layer for layer in made], BATCHES)


def test_a_hook_that_was_taken_off_hinders_nothing():
    assert Network.of(layers(_unhooked), nn.functional.cross_entropy).names == ("0", "1", "2")


def test_what_need_not_be_copied_may_keep_what_cannot_be():
    nonlocal_run([Locked, nn.Linear(8, 3).double()], BATCHES)


def test_a_hook_that_reads_the_weights_of_the_original_is_refused():
    def change(linear):
        linear.register_forward_hook(lambda module, inputs, output: output * linear.weight.sum())

    with pytest.raises(NetworkError, match="layer '1' uses weights that are not its own parameters"):
        runtime_of(layers(change), BATCHES)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(4, 8).double())])
def test_scripted_modules_are_layers(make):
    chain = [make(nn.Sequential(nn.Linear(8, 8), nn.Tanh()).double()), nn.Linear(8, 3).double()]
    batches = samples(6, (8,))
    found = nonlocal_run(chain, batches)
    assert largest_difference(found, sgd(nn.Sequential(*chain), batches)) < 1e-12
