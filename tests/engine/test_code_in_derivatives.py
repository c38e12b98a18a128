"""Layers whose derivatives run code of their own: a checkpoint that computes again, a backward that reads a weight.

The oracle is the same layer without such code. Tolerance 1e-12 in float64 over 20 batches: the operations are the same,
in another order at most.
"""

import pytest
import torch
from support.comparing import largest_difference
from support.inline import learning, run_through, runtime_of, weights
from support.samples import samples
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hamdist.engine.spec import STACKED
from hamdist.errors import NetworkError


class Checkpointed(nn.Module):
    """Keeps no activations: the derivative computes them again."""

    def __init__(self, inner: nn.Module, reentrant: bool = False) -> None:
        super().__init__()
        self.inner, self.reentrant = inner, reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


class ReadsItsWeight(torch.autograd.Function):
    """x Wᵀ, whose derivative asks the module for W."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, module: nn.Linear) -> Tensor:
        ctx.module = module
        ctx.save_for_backward(x)
        return x @ weight.t()

    @staticmethod
    def backward(ctx, q: Tensor):
        (x,) = ctx.saved_tensors
        return q @ ctx.module.weight, q.t() @ x, None


class Read(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return ReadsItsWeight.apply(x, self.weight, self)


def body(*more: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), *more, nn.Tanh(), nn.Linear(8, 8))


FORMS = {
    "checkpoint": (lambda: Checkpointed(body()), body),
    "with dropout": (lambda: Checkpointed(body(nn.Dropout(0.3))), lambda: body(nn.Dropout(0.3))),
    "with batch norm": (lambda: Checkpointed(body(nn.BatchNorm1d(8))), lambda: body(nn.BatchNorm1d(8))),
    "before a memory": (
        lambda: nn.Sequential(Checkpointed(body()), nn.GRUCell(8, 8)),
        lambda: nn.Sequential(body(), nn.GRUCell(8, 8)),
    ),
    "function": (lambda: Read(8, 8, bias=False), lambda: nn.Linear(8, 8, bias=False)),
}
BATCHES = samples(20, (8,))


def learnt(make, **place) -> list[Tensor]:
    """All weights and buffers in order, for names differ between the forms."""
    torch.manual_seed(0)
    layers = [nn.Sequential(make(), nn.Tanh()).double() for _ in range(2)]
    runtime = runtime_of([*layers, nn.Linear(8, 3).double()], BATCHES, rule=learning(0.1), **place)
    run_through(runtime, BATCHES)
    return [tensor for tensors in runtime.tensors().values() for tensor in tensors.values()]


@pytest.mark.parametrize("place", [{"mode": "nonlocal"}, {}, {"stash": "graph"}], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_a_derivative_that_runs_code_meets_the_weights_of_its_evaluation(form, place):
    theirs, plain = (learnt(make, **place) for make in FORMS[form])
    assert all((a - b).abs().max() < 1e-12 for a, b in zip(theirs, plain, strict=True))


@pytest.mark.parametrize("form", ["checkpoint", "function"])
def test_where_layers_are_stacked_they_run_on_their_own(form):
    theirs, plain = (learnt(make, execution=STACKED) for make in FORMS[form])
    assert all((a - b).abs().max() < 1e-12 for a, b in zip(theirs, plain, strict=True))


class Damped(nn.Module):
    """Halves what comes back by a hook, which a trace of a stack does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = body()

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        if y.requires_grad:
            y.register_hook(lambda q: q / 2)
        return y


@pytest.mark.parametrize("mode", ["nonlocal", "local"])
def test_a_trace_has_the_derivatives_of_the_layer(mode):
    plain, traced = learnt(Damped, mode=mode), learnt(Damped, mode=mode, execution=STACKED)
    assert all((a - b).abs().max() < 1e-12 for a, b in zip(plain, traced, strict=True))


@pytest.mark.parametrize("first", [lambda: nn.Linear(8, 8), lambda: nn.Embedding(8, 8)])
def test_a_reentrant_checkpoint_is_refused_since_its_derivative_goes_to_grad(first):
    """Behind integers torch only warns, and learns nothing."""
    batches = BATCHES if isinstance(first(), nn.Linear) else [(torch.zeros(4).long(), y) for _, y in BATCHES]
    layer = Checkpointed(nn.Sequential(first(), nn.Linear(8, 3)), reentrant=True).double()
    with pytest.raises(
        NetworkError, match=r"layer '0' has no derivative: .*checkpoint\(…, use_reentrant=False\)"
    ):
        runtime_of([layer], batches)


def test_a_prediction_in_between_changes_nothing_of_a_kept_graph():
    """It leaves the module in evaluation mode, in which dropout computed again would be none."""
    torch.manual_seed(0)
    layers = [Checkpointed(body(nn.Dropout(0.3))).double(), nn.Linear(8, 3).double()]
    asked, left = (runtime_of(layers, BATCHES, stash="graph") for _ in range(2))
    for x, y in BATCHES:
        list(asked.present(x, y))
        asked.predict(x)
        list(left.present(x, y))
    assert largest_difference(weights(asked), weights(left)) == 0
