"""The two halves of a tick under torch's transforms: stacked by vmap, compiled, moved to another dtype or device."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from hamdist.physics.dynamics import Dynamics
from hamdist.physics.hamiltonian import Wanted
from hamdist.physics.layers import Instant, Layer, Point, Relaxing
from hamdist.physics.pure_module import PureModule
from hamdist.physics.rates import Adam, Rate, RMSprop, cosine
from hamdist.physics.soap import Soap
from hamdist.physics.step import Carry, Motion, Pattern, evaluate, initial_carry, react

STACK, TICKS = 4, 5
MOMENTUM = Dynamics(tau=0.5, weight_dissipation=0.2, weight_decay=0.01)
RULES = {
    "momentum": MOMENTUM,
    "no momentum": Dynamics(weight_decay=0.01),
    "nesterov": Dynamics(tau=0.5, weight_dissipation=0.2, nesterov=True),
    "dampening": Dynamics(tau=0.5, weight_dissipation=0.2, dampening=0.6),
    "explicit": Dynamics(step="explicit", sign=1, weight_dissipation=0.5),
    "exponential, schedule": Dynamics(step="exponential", tau=0.5, rate=Rate(cosine(0.1, 0.01, 4))),
    "Adam": Dynamics(weight_decay=0.01, rate=Rate(0.01, adaptive=Adam())),
    "AdamW": Dynamics(weight_decay=0.1, rate=Rate(0.01, adaptive=Adam(decoupled=True))),
    "RMSprop": Dynamics(tau=0.5, rate=Rate(0.01, adaptive=RMSprop(momentum=0.9))),
    "SOAP": Dynamics(weight_decay=0.1, rate=Rate(0.01, adaptive=Soap())),
}

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler"
)


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh())


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.GELU())


ROWS = {
    dense: (3, 6),
    attention: (3, 5, 6),
    convolution: (3, 2, 4, 4),
}  # signals of each, a batch of three rows


class Stack:
    """A few layers of one kind with weights of their own, at rest, and for each an input and a costate."""

    def __init__(self, kind: Callable[[], nn.Module], rule: Dynamics, relaxing: float | None = None) -> None:
        torch.manual_seed(0)
        shape = (STACK, *ROWS[kind])
        self.rule = rule
        self.layers = [layer_of(kind().double(), relaxing) for _ in range(STACK)]
        self.inputs = torch.randn(shape, dtype=torch.float64)
        self.costates = torch.randn(shape, dtype=torch.float64)

    def at_rest(self, index: int) -> Carry:
        return initial_carry(self.layers[index], (self.inputs[index],), self.rule)

    def tick(self) -> Callable[[Carry, Tensor, Tensor], tuple[Carry, Tensor, Tensor]]:
        """One tick of the first layer, which is that of all: only their carries differ."""
        return tick_of(self.layers[0], self.rule)

    def plain(self, index: int) -> Any:
        """What the last of the ticks of one layer gives, with nothing transformed."""
        tick = tick_of(self.layers[index], self.rule)
        return after_ticks(tick, self.at_rest(index), self.inputs[index], self.costates[index])


def layer_of(module: nn.Module, relaxing: float | None) -> Layer:
    pure = PureModule(module)
    return Instant(pure) if relaxing is None else Relaxing(pure, relaxing)


def tick_of(layer: Layer, rule: Dynamics) -> Callable[[Carry, Tensor, Tensor], tuple[Carry, Tensor, Tensor]]:
    """A whole tick under `current` as one function: (carry, a, q) → (carry, y, ∂H/∂a)."""
    motion = Motion(layer, rule, Wanted())

    def tick(carry: Carry, a: Tensor, q: Tensor) -> tuple[Carry, Tensor, Tensor]:
        carry, output, met = evaluate(motion, carry, Point((a,), carry.state), Pattern())
        carry, partials = react(motion, carry, met, q, Pattern())
        return carry, output, partials.inputs[0]

    return tick


@torch.no_grad()
def after_ticks(tick: Callable[..., Any], carry: Carry, a: Tensor, q: Tensor) -> Any:
    returned: Any = (carry,)
    for _ in range(TICKS):
        returned = tick(returned[0], a, q)
    return returned


def furthest(ours: Any, theirs: Any) -> float:
    """The largest difference between two trees of tensors."""
    pairs = zip(tree_leaves(ours), tree_leaves(theirs), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


def stacked(trees: list[Any]) -> Any:
    return tree_map(lambda *tensors: torch.stack(tensors), *trees)


def rounding(rule: Dynamics) -> float:
    """How far apart two orders of the same sums may be. A basis is found to rounding over its ridge of 1e-4, and again
    in every tick from the one before."""
    return 1e-6 if isinstance(rule.rate.adaptive, Soap) else 1e-10


def check_stacked(stack: Stack, tick: Callable[..., Any], tolerance: float = 1e-10) -> None:
    """One call for all layers gives what each gives alone: only the order of sums may differ."""
    together = after_ticks(
        tick, stacked([stack.at_rest(i) for i in range(STACK)]), stack.inputs, stack.costates
    )
    alone = stacked([stack.plain(i) for i in range(STACK)])
    assert furthest(together, alone) < tolerance
    assert furthest(alone[0], stacked([stack.at_rest(i) for i in range(STACK)])) > 1e-3  # something moved


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_stack_of_equal_layers_ticks_as_each_alone(rule: Dynamics) -> None:
    stack = Stack(dense, rule)
    check_stacked(stack, torch.vmap(stack.tick()), rounding(rule))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's fused attention, on a CPU
@pytest.mark.parametrize("kind", [attention, convolution])
def test_attention_convolutions_and_batch_norm_can_be_stacked(kind: Callable[[], nn.Module]) -> None:
    stack = Stack(kind, MOMENTUM)
    check_stacked(stack, torch.vmap(stack.tick()))


def test_relaxing_layers_can_be_stacked() -> None:
    stack = Stack(dense, MOMENTUM, relaxing=2.0)
    check_stacked(stack, torch.vmap(stack.tick()))


def test_layers_of_different_delays_can_be_stacked() -> None:
    """The factor by which its delay scales a layer's rate may be one more argument of the stack."""
    stack, factors = Stack(dense, MOMENTUM), torch.tensor([1.0, 0.5, 0.2, 0.1], dtype=torch.float64)

    def tick(carry: Carry, a: Tensor, q: Tensor, factor: Any) -> Any:
        rule = replace(MOMENTUM, rate=replace(MOMENTUM.rate, delay_factor=factor))
        return tick_of(stack.layers[0], rule)(carry, a, q)

    at_rest = [stack.at_rest(i) for i in range(STACK)]
    with torch.no_grad():
        together = torch.vmap(tick)(stacked(at_rest), stack.inputs, stack.costates, factors)
        alone = [
            tick(at_rest[i], stack.inputs[i], stack.costates[i], factors[i].item()) for i in range(STACK)
        ]
    assert furthest(together, stacked(alone)) < 1e-10


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("rule", [MOMENTUM, RULES["Adam"], RULES["SOAP"]], ids=["momentum", "Adam", "SOAP"])
def test_a_compiled_tick_is_the_plain_one(rule: Dynamics) -> None:
    """Without a break in the graph; to rounding, since compiled code fuses operations and may round otherwise."""
    torch._dynamo.reset()
    stack = Stack(dense, rule)
    compiled = torch.compile(stack.tick(), fullgraph=True)
    theirs = after_ticks(compiled, stack.at_rest(0), stack.inputs[0], stack.costates[0])
    assert furthest(stack.plain(0), theirs) < rounding(rule)


@pytest.mark.slow
@needs_compiler
def test_a_stack_can_be_compiled() -> None:
    torch._dynamo.reset()
    stack = Stack(dense, MOMENTUM, relaxing=2.0)
    check_stacked(stack, torch.compile(torch.vmap(stack.tick()), fullgraph=True))


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.25)])
def test_a_layer_can_be_moved_to_another_dtype(
    kind: Callable[[], nn.Module], dtype: torch.dtype, tolerance: float
) -> None:
    """It stays in that dtype, and near the float64 result: five ticks of rounding, some 2⁻²⁴ or 2⁻⁹ each."""
    stack = Stack(kind, MOMENTUM)

    def to(t: Tensor) -> Tensor:
        return t.to(dtype) if t.is_floating_point() and t.dim() else t

    carry = tree_map(to, stack.at_rest(0))
    ours = after_ticks(stack.tick(), carry, to(stack.inputs[0]), to(stack.costates[0]))
    assert {t.dtype for t in tree_leaves(ours) if t.is_floating_point() and t.dim()} == {dtype}
    assert furthest(ours, stack.plain(0)) < tolerance * max(
        t.abs().max() for t in tree_leaves(stack.plain(0))
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("rule", ["momentum", "Adam", "exponential, schedule"])
def test_a_layer_can_be_moved_to_a_device_without_memory(kind: Callable[[], nn.Module], rule: str) -> None:
    """On `meta` a tick gives the shapes and dtypes that it gives anywhere, and computes nothing."""
    stack = Stack(kind, RULES[rule])
    carry, a, q = tree_map(lambda t: t.to("meta"), (stack.at_rest(0), stack.inputs[0], stack.costates[0]))
    ours, theirs = after_ticks(stack.tick(), carry, a, q), stack.plain(0)
    assert {t.device.type for t in tree_leaves(ours)} == {"meta"}
    assert [(t.shape, t.dtype) for t in tree_leaves(ours)] == [
        (t.shape, t.dtype) for t in tree_leaves(theirs)
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ROWS)
def test_a_layer_can_be_moved_to_a_gpu(kind: Callable[[], nn.Module]) -> None:
    """To 1e-10 in float64: another order of sums, nothing else."""
    stack = Stack(kind, MOMENTUM)
    carry, a, q = tree_map(lambda t: t.to("cuda"), (stack.at_rest(0), stack.inputs[0], stack.costates[0]))
    ours = tree_map(lambda t: t.cpu(), after_ticks(stack.tick(), carry, a, q))
    assert furthest(ours, stack.plain(0)) < 1e-10
