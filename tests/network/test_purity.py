"""A layer is a function of its inputs, weights, buffers and seed: one that keeps something else is found beforehand."""

import functools
import random
from collections import deque

import numpy as np
import pytest
import torch
from support.comparing import changed, largest_difference
from support.delayed_gradients import delayed_gradients
from support.dropout import Reseeded
from support.inline import learning, run_through, runtime_of, weights
from support.samples import samples
from torch import Tensor, nn

from hamdist.errors import NetworkError
from hamdist.network.layer_spec import LayerSpec
from hamdist.physics.randomness import BEYOND_TORCH

BATCHES = samples(12, (8,))
GENERATOR = np.random.default_rng(0)
CALLS = 0


class Keeps(nn.Module):
    """A linear layer and whatever else stands on it."""

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        vars(self).update(attributes)


class Spiking(Keeps):
    """A membrane that leaks."""

    def forward(self, x: Tensor) -> Tensor:
        self.membrane = 0.9 * self.membrane + 0.1 * self.linear(x).detach()
        return torch.sigmoid(self.linear(x)) + self.membrane


class Silent(Keeps):
    """The same, which says nothing before the membrane has gone far."""

    def forward(self, x: Tensor) -> Tensor:
        self.membrane = 0.9 * self.membrane + 0.01 * x.detach()
        return self.linear(x) * (self.membrane > 10)


class Cell(Keeps):
    def __init__(self) -> None:
        super().__init__(state=None)
        self.cell = nn.LSTMCell(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        self.state = self.cell(x, self.state and tuple(part.detach() for part in self.state))
        return self.state[0]


class Annealed(Keeps):
    """Says something else after so many calls."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x) * (0.5 if self.calls > 500 else 1.0)


class Counted(Keeps):
    """The count is everybody's."""

    def forward(self, x: Tensor) -> Tensor:
        global CALLS
        CALLS += 1
        return self.linear(x) / CALLS


class Slotted:
    __slots__ = ("calls",)


class Late(Keeps):
    """Its count stands on an object without a dictionary."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept.calls += 1
        return self.linear(x) * (1.0 if self.kept.calls < 3000 else 0.5)


def late() -> Late:
    kept = Slotted()
    kept.calls = 0
    return Late(kept=kept)


class Averaging(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        self.last.append(x.detach())
        return self.linear(sum(self.last) / len(self.last))


class Caching(Keeps):
    """What it said when evaluated is added to what it says then."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        if not self.training:
            self.cache = self.cache + y.detach()
            return self.cache
        return y


class Drawing(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * (self.generator.random() > 0.001)


class DrawingFromAll(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * (GENERATOR.random() > 0.001)


class DrawingTensors(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + torch.rand(8, generator=self.generator, dtype=x.dtype)


class Growing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, module: Keeps) -> Tensor:
        ctx.module = module
        return x.clone()

    @staticmethod
    def backward(ctx, q: Tensor):
        ctx.module.calls += 1
        return q * ctx.module.calls, None


class GrowingBackward(Keeps):
    """Its derivative is another each time."""

    def forward(self, x: Tensor) -> Tensor:
        return Growing.apply(self.linear(x), self)


REFUSED = {
    "a membrane": (lambda: Spiking(membrane=0.0), "keeps a state of its own in 'membrane'"),
    "a silent one": (
        lambda: Silent(membrane=0.0),
        "state of its own in 'membrane', on which its output depends",
    ),
    "a cell's state": (Cell, r"keeps a state of its own in 'state\[\d\]'"),
    "a count": (
        lambda: Annealed(calls=0),
        "keeps a state of its own in 'calls', on which its output depends",
    ),
    "a global count": (Counted, r"keeps a state of its own in 'Counted.forward \(CALLS\)'"),
    "a count in a slot": (late, "keeps a state of its own in 'kept.calls', on which its output depends"),
    "its last inputs": (
        lambda: Averaging(last=deque(maxlen=3)),
        "keeps a state|something else when it is called",
    ),
    "a cache of evaluation": (lambda: Caching(cache=0.0), "keeps a state of its own in 'cache'"),
    "Python's generator": (lambda: Drawing(generator=random.Random(0)), "generator of its own, 'generator'"),
    "NumPy's generator": (
        lambda: Drawing(generator=np.random.default_rng(0)),
        "generator of its own, 'generator'",
    ),
    "torch's generator": (
        lambda: DrawingTensors(generator=torch.Generator()),
        "generator of its own, 'generator'",
    ),
    "a global generator": (DrawingFromAll, r"generator of its own, 'DrawingFromAll.forward \(GENERATOR\)'"),
    "a derivative's count": (lambda: GrowingBackward(calls=0), "keeps a state of its own in 'calls'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_layer_keeps_to_itself_is_refused_by_name(kind):
    make, message = REFUSED[kind]
    layers = [nn.Linear(8, 8).double(), make().double(), nn.Linear(8, 3).double()]
    with pytest.raises(NetworkError, match=f"layer '1' .*({message})"):
        runtime_of(layers, BATCHES)


# What changes nothing of what a layer says


class Noting(Keeps):
    """Counts, and notes what it said: for a look at it from outside."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.said = self.linear(x)
        self.means.append(self.said.detach().mean())
        self.smooth = 0.9 * self.smooth + 0.1 * float(self.means[-1])
        return self.said


class Tabled(Keeps):
    """A table of positions, made when it is first needed, and anew for other rows."""

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None or len(self.table) != len(x):
            self.table = torch.linspace(0, 1, len(x), dtype=x.dtype)[:, None]
        return self.linear(x) + self.table


class Numeric(Keeps):
    """Out of training it has no derivative, as nobody asks for one."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return torch.tanh(self.linear(x))
        return torch.from_numpy(np.tanh(self.linear(torch.from_numpy(x.numpy())).detach().numpy()))


@functools.cache
def halves(rows: int) -> Tensor:
    return torch.full((rows, 1), 0.5)


class Remembered(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + halves(len(x))


ALLOWED = {
    "notes": lambda: Noting(calls=0, means=[], smooth=0.0),
    "a table": lambda: Tabled(table=None),
    "a function that caches": Remembered,
    "an evaluation by other means": Numeric,
}


@pytest.mark.parametrize("kind", ALLOWED)
def test_what_changes_nothing_of_what_it_says_is_its_own_affair(kind):
    runs = [runtime_of([ALLOWED[kind]().double(), nn.Linear(8, 3).double()], BATCHES) for _ in range(2)]
    for runtime in runs:
        for node, other in zip(runtime.nodes.values(), runs[0].nodes.values(), strict=True):
            node.carry = node.carry._replace(
                parameters={k: t.clone() for k, t in other.carry.parameters.items()}
            )
    run_through(runs[0], BATCHES)
    for x, y in BATCHES:
        list(runs[1].present(x, y))
        assert torch.equal(runs[1].predict(x), runs[1].predict(x))
    list(runs[1].drain())
    assert not changed(weights(runs[0]), weights(runs[1])), "predictions in between changed what was learnt"


class Counting(nn.Module):
    """Parts that count, among which every call is counted."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = nn.Sequential(*(Noting(calls=0, means=[], smooth=0.0) for _ in range(parts)))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        CALLED.append(self)
        return self.parts(x)


CALLED: list[nn.Module] = []


def test_a_layer_of_many_counts_is_tried_as_often_as_one_of_few():
    tried = []
    for parts in (1, 6):
        CALLED.clear()
        runtime_of([Counting(parts).double(), nn.Linear(8, 3).double()], BATCHES)
        tried.append(len(CALLED))
    assert tried[1] <= tried[0]


# Generators of the whole process


class Dropping(nn.Module):
    """Drops rows, or units, by a generator of the process."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if self.kind == "python":
            return x * torch.tensor([random.random() > 0.5 for _ in range(len(x))])[:, None]
        return x * torch.from_numpy(np.random.rand(*x.shape) > 0.5)


@pytest.mark.parametrize("kind", BEYOND_TORCH)
def test_draws_from_python_and_numpy_are_seeded_for_every_sample(kind):
    """As dropout's: against a plain loop of delayed gradients that reseeds; tolerance 1e-10."""

    def make():
        torch.manual_seed(0)
        layers = [nn.Sequential(nn.Linear(8, 8), Dropping(kind)) for _ in range(2)]
        return [layer.double() for layer in (*layers, nn.Linear(8, 3))]

    before = random.getstate(), np.random.get_state()[1].tobytes()
    runtime = runtime_of(make(), BATCHES)
    run_through(runtime, BATCHES)
    runtime.predict(BATCHES[0][0])
    assert before == (random.getstate(), np.random.get_state()[1].tobytes()), "nobody else's draws change"
    oracle = [Reseeded(layer, str(i), 4) for i, layer in enumerate(make())]
    expected = delayed_gradients(oracle, BATCHES, [0.1] * 3, 0.0)
    expected = {key.replace(".inner.", "."): value for key, value in expected.items()}
    assert largest_difference(weights(runtime), expected) < 1e-10


def test_weights_that_a_builder_draws_from_numpy_are_the_seeds():
    class Drawn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.from_numpy(np.random.randn(8, 3)) * random.random())

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    spec = LayerSpec("a", Drawn)
    first, again, other = (
        spec.make(seed, torch.float64, torch.device("cpu")).pure.parameters()["weight"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# Weights


class Clamped(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        self.linear.weight.data.clamp_(-0.1, 0.1)
        return self.linear(x)


class Borrowing(Keeps):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.scales[0]


def test_a_layer_that_writes_its_weights_is_refused():
    with pytest.raises(NetworkError, match=r"layer '0' writes its own weights linear\.weight"):
        runtime_of([Clamped().double()], samples(1, (8,), classes=8), rule=learning(0.1))


def test_weights_that_are_not_the_layers_own_are_refused():
    scales = [nn.Parameter(torch.ones(8).double())]
    with pytest.raises(NetworkError, match="layer '0' uses weights that are not its own parameters"):
        runtime_of([Borrowing(scales=scales).double()], samples(1, (8,), classes=8))
