"""Which layers run as traced operations, and which of them stack: found by trying, never by believing."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support.comparing import largest_difference
from support.inline import learning, run_through, runtime_of, weights
from support.samples import samples
from support.timelines import Together
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from hamdist.engine.fused import eligibility
from hamdist.engine.spec import PLAIN, STACKED
from hamdist.physics.rates import Adam


def plans(layers: Sequence[nn.Module], batches: Any = None, **settings: Any) -> list[Any]:
    runtime = runtime_of(layers, batches or samples(1, (8,)), execution=STACKED, **settings)
    return [plan.traced for plan in runtime.program.nodes.values()]


def layer(*more: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), *(more or (nn.Tanh(),))).double()


def families(layers: Sequence[nn.Module], **settings: Any) -> list[int | None]:
    """Of every layer, the place of the first that it may compute with; None where it does not stack."""
    found = plans(layers, **settings)
    known = [traced.family if traced is not None and traced.stacks else None for traced in found]
    return [None if family is None else known.index(family) for family in known]


@pytest.mark.slow
def test_layers_of_equal_structure_are_one_family():
    layers = [layer(), layer(), layer(nn.GELU()), layer(), nn.Linear(8, 3).double()]
    assert families(layers) == [0, 0, 2, 0, 4]


@pytest.mark.slow
def test_constants_tell_layers_apart():
    slopes = [layer(nn.LeakyReLU(slope)) for slope in (0.1, 0.2, 0.1)]
    assert families([*slopes, nn.Linear(8, 3).double()]) == [0, 1, 0, 3]


class Scaled(nn.Module):
    """With numbers of its own, that are neither a parameter nor a buffer."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8).double()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x)) * torch.tensor([self.scale] * 8, dtype=x.dtype)


class Holding(nn.Module):
    """Holds such numbers as a tensor, which may change at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(8, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@pytest.mark.slow
def test_layers_with_numbers_of_their_own_keep_them():
    layers = [*(Scaled(k + 1.0) for k in range(3)), nn.Linear(8, 3).double()]
    assert families(layers) == [0, 1, 2, 3]
    batches = samples(24, (8,))
    heard = Together()
    runtimes = [
        runtime_of(layers, batches, execution=STACKED, timeline=heard),
        runtime_of(layers, batches, execution=PLAIN),
    ]
    for runtime in runtimes:
        runtime.present_all(batches)
    assert heard.lengths(runtimes[0].tick)
    assert largest_difference(*map(weights, runtimes)) < 1e-10


class Reversed(torch.autograd.Function):
    """What it says is another's, and its derivative its own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * 1.0

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def backward(ctx: Any, q: Tensor) -> Tensor:
        return -0.5 * q


class Turning(nn.Module):
    def __init__(self, turns: bool) -> None:
        super().__init__()
        self.linear, self.turns = nn.Linear(8, 8).double(), turns

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(Reversed.apply(x) if self.turns else x * 1.0)


@pytest.mark.slow
def test_derivatives_tell_layers_apart():
    """A stacked run ends as one node by node, up to the order of sums."""
    layers, batches = [Turning(turns) for turns in (False, True, False)], samples(12, (8,))
    layers.append(nn.Linear(8, 3).double())
    assert families(layers) == [0, 1, 0, 3]
    ends = []
    for execution in (PLAIN, STACKED):
        runtime = runtime_of(layers, batches, execution=execution)
        run_through(runtime, batches)
        ends.append(weights(runtime))
    assert largest_difference(*ends) < 1e-14


@pytest.mark.slow
def test_of_a_family_the_code_of_the_first_alone_runs():
    noted: list[float] = []
    noting = nn.Linear(8, 8).double()
    noting.register_forward_hook(lambda _module, _inputs, output: noted.append(output.sum().item()))
    batches = samples(4, (8,))
    layers = [nn.Linear(8, 8).double(), noting, nn.Linear(8, 3).double()]
    ends = []
    for execution in (PLAIN, STACKED):
        runtime = runtime_of(layers, batches, execution=execution, mode="nonlocal")
        run_through(runtime, batches)
        ends.append(weights(runtime))
    assert largest_difference(*ends) < 1e-14


class Choosy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else 2 * x


class Quiet(nn.Module):
    """Behaves otherwise when evaluated."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else 0.5 * x


class Itself(nn.Module):
    """Says its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 8, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight


class Deprecated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("use another", stacklevel=1)
        return x


class Breaks(nn.Module):
    """Where nothing holds data, as in a trace."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.detach().numpy().mean() if not torch.compiler.is_compiling() else x


class Projecting(nn.Module):
    """Draws the same numbers at every call."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn(8, generator=torch.Generator().manual_seed(3), dtype=x.dtype)


ASKS, RANDOM = "it asks for the value of a tensor, as by .item() or an if", "it draws random numbers"
UNTRACED = {
    "random": (lambda: layer(nn.Dropout(0.2)), RANDOM, None),
    "batch statistics": (
        lambda: layer(nn.BatchNorm1d(8)),
        "its rows depend on each other, as in batch statistics",
        None,
    ),
    "data-dependent": (Choosy, ASKS, "x if x.sum() > 0 else"),
    "evaluation": (
        Quiet,
        "its operations, written down once, give other numbers when evaluated",
        "class Quiet",
    ),
    "its weights": (Itself, "it says its own weights", "class Itself"),
    "a warning": (Deprecated, "it warns: use another", "warnings.warn("),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNTRACED)
@pytest.mark.filterwarnings("ignore:use another")
def test_what_is_not_traced_says_why_and_where_in_the_users_code(name: str):
    make, why, line = UNTRACED[name]
    layers = [layer(), make(), nn.Linear(8, 3).double()]
    runtime = runtime_of(layers, samples(1, (8,)), execution=STACKED, pairing="current")
    (reason,) = runtime.execution["not_traced"].values()
    assert runtime.execution["not_traced"].keys() == {"1"}
    if line is None:
        assert reason == why
        return
    number = 1 + next(k for k, text in enumerate(Path(__file__).read_text().splitlines()) if line in text)
    assert reason == f"{why} ({__file__}:{number})"


def test_what_does_not_stack_says_why():
    rule = learning(adaptive=Adam())
    runtime = runtime_of([layer(), nn.Linear(8, 3).double()], samples(1, (8,)), execution=STACKED, rule=rule)
    why = "its rate has other last bits for one number of updates than for several at once"
    assert runtime.execution["not_stacked"] == {"0": why, "1": why}
    assert "not_traced" not in runtime.execution
    alone = runtime_of([nn.Tanh(), nn.Linear(8, 3).double()], samples(1, (8,)), execution=STACKED)
    assert alone.execution["not_stacked"] == {"0": "it has no weights"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [*(make for make, *_ in UNTRACED.values()), Holding, Breaks, Projecting],
    ids=[*UNTRACED, "its own tensor", "beyond torch", "a generator made anew"],
)
@pytest.mark.filterwarnings("ignore:use another")
def test_what_a_trace_cannot_mean_runs_as_python(make: Callable[[], nn.Module]):
    layers = [layer(), make(), layer(), nn.Linear(8, 3).double()]
    runtime = runtime_of(layers, samples(1, (8,)), execution=STACKED, rule=learning(), pairing="current")
    traced = [plan.traced is not None for plan in runtime.program.nodes.values()]
    assert traced == [True, False, True, True]
    assert runtime.execution["node_by_node"] == "not traced: '1'"
    assert runtime.execution["not_traced"]["1"]


def test_kept_graphs_are_of_plain_layers():
    runtime = runtime_of(
        [layer(), nn.Linear(8, 3).double()], samples(1, (8,)), execution=STACKED, stash="graph"
    )
    assert [plan.traced for plan in runtime.program.nodes.values()] == [None, None]


@pytest.mark.slow
def test_a_loss_that_asks_for_values_is_judged_node_by_node():
    def loss(output: Tensor, target: Tensor) -> Tensor:
        mean = nn.functional.cross_entropy(output, target)
        return mean if mean.item() < 100 else mean / 2

    batches = samples(20, (8,))
    runtime = runtime_of([layer(), nn.Linear(8, 3).double()], batches, loss=loss, execution=STACKED)
    runtime.present_all(batches)
    list(runtime.drain())
    assert "node_by_node" in runtime.execution
    assert runtime.seen_once()


@pytest.mark.slow
def test_a_layer_whose_bits_depend_on_company_is_traced_but_stands_alone(monkeypatch):
    """Whatever the kernels of this machine do, here those of many members differ in their last bit."""
    real = eligibility.apart

    def disturbed(tree: Any, count: int) -> list[Any]:
        return [
            tree_map(lambda t: torch.nextafter(t, t + 1) if t.is_floating_point() else t, one)
            for one in real(tree, count)
        ]

    layers = [layer(), layer(), nn.Linear(8, 3).double()]
    assert families(layers) == [0, 0, 2]
    monkeypatch.setattr(eligibility, "apart", disturbed)
    assert families(layers) == [None, None, None]
    assert [traced is not None for traced in plans(layers)] == [True] * 3
