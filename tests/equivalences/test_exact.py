"""Exact gradients forward in time (`time: exact`), and what is refused of them.

At frozen weights the sum of a memory layer's drives is autograd's gradient of all losses, through the whole sequence,
within 1e-10: sums run in another order, and no more. With moving weights, and for PyTorch's cells, a plain loop over
the derivatives that autograd gives is met within the same.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from support.inline import learning, run_through, runtime_of
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.utils._pytree import tree_leaves

from hamdist import Learner
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.spec import PLAIN, STACKED, Execution
from hamdist.errors import ConfigError, NetworkError
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.network import Network
from hamdist.physics import statespace as ss
from hamdist.physics.modules import Residual
from hamdist.physics.statespace.walk import Reads, StepForward
from hamdist.planning.build_plan import plan_of

pytestmark = pytest.mark.usefixtures("one_fitter")

TOLERANCE = 1e-10
mse = nn.functional.mse_loss
Pairs = list[tuple[Tensor, Tensor]]
Make = Callable[[], nn.Module]

EXACT: dict[str, tuple[Make, float]] = {
    "DiagonalReal": (lambda: nn.Sequential(ss.DiagonalReal(4, 6, 5), nn.Tanh(), nn.Linear(5, 3)), 1.0),
    "DiagonalComplex": (lambda: ss.DiagonalComplex(4, 6, 3, initial="learnt"), 1.0),
    "LRU": (lambda: nn.Sequential(nn.Tanh(), ss.LRU(4, 6, 3, initial="input")), 0.5),
    "CTB": (lambda: ss.CTB(4, 6, 3, "learnt", damping=0.1, projected=True, fastest=2.0), 0.7),
    "CTBE": (lambda: ss.CTBE(4, 6, 3, initial="input", activation="tanh"), 0.3),
    "not driven": (lambda: ss.CTBE(4, 6, 3, initial="input", driven=False), 0.3),
    "residual": (lambda: nn.Sequential(Residual(ss.LRU(4, 5, 4)), nn.Linear(4, 3)), 1.0),
    "one number": (lambda: nn.Sequential(ss.DiagonalReal(4, 1), nn.Linear(1, 3)), 1.0),
}
"""Layers with one memory, and τ."""


def drawn(count: int, rows: int = 3) -> Pairs:
    generator = torch.Generator().manual_seed(5)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return [(draw(rows, 4), draw(rows, 3)) for _ in range(count)]


def flags(tick: int, rows: int) -> Tensor:
    """Episodes begin in every row at the first tick, in the first at 3, in the second at 9."""
    return torch.tensor([tick in (0, 3), tick in (0, 9), tick == 0][:rows])


def made(make: Make) -> nn.Module:
    torch.manual_seed(0)
    return make().double()


def exact_runtime(
    module: nn.Module, batches: Pairs, reads: Reads = "new", mode: str = "nonlocal", **settings: Any
) -> InlineRuntime:
    """A memory layer "m", and a layer that only bends what it says."""
    network = Network.of([LayerSpec("m", lambda: module, reads=reads), nn.Tanh()], mse)
    return runtime_of(network, batches, mode=mode, exact=True, **settings)


def presented(runtime: InlineRuntime, batches: Pairs) -> InlineRuntime:
    for tick, (x, y) in enumerate(batches):
        list(runtime.present(x, y, restarts=flags(tick, len(x))))
    list(runtime.drain())
    return runtime


def gradients(module: nn.Module, batches: Pairs, tau: float, reads: Reads) -> dict[str, Tensor]:
    """Of the sum of all losses, through the whole sequence."""
    state, total = None, torch.zeros((), dtype=torch.float64)
    for tick, (x, y) in enumerate(batches):
        step = StepForward(tau, reads, state, None if state is None else flags(tick, len(x)))
        total = total + mse(torch.tanh(step(module, x)), y)
        state = tuple(step.after)
    weights = dict(module.named_parameters())
    return dict(zip(weights, torch.autograd.grad(total, list(weights.values())), strict=True))


def check_sums(runtime: InlineRuntime, tau: float, expected: dict[str, Tensor]) -> None:
    """Without dissipation ω is τ times the sum of all drives."""
    found = runtime.nodes["m"].carry.weight_costate
    assert found.keys() == expected.keys()
    for name, theirs in expected.items():
        torch.testing.assert_close(found[name] / tau, theirs, rtol=0, atol=TOLERANCE, msg=name)


FROZEN = partial(learning, 0.0, weight_dissipation=0.0)


@pytest.mark.parametrize("reads", ["new", "old"])
@pytest.mark.parametrize("name", EXACT)
def test_drives_sum_to_backpropagation_through_all_of_time(name: str, reads: Reads) -> None:
    """Batches of one row and of three, with episodes."""
    make, tau = EXACT[name]
    for rows in (1, 3):
        module, batches = made(make), drawn(14, rows)
        runtime = presented(exact_runtime(module, batches, reads, rule=FROZEN(tau=tau)), batches)
        check_sums(runtime, tau, gradients(module, batches, tau, reads))


CHUNKS = Execution(stacked=True, chunk=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode", "execution"),
    [
        *((name, mode, PLAIN) for name in ("LRU", "CTB") for mode in ("nonlocal", "local")),
        ("LRU", "local", STACKED),
        ("CTB", "nonlocal", STACKED),
        ("LRU", "nonlocal", CHUNKS),
        ("CTB", "local", CHUNKS),
    ],
    ids=lambda value: {PLAIN: "plain", STACKED: "stacked", CHUNKS: "chunk"}.get(value, value),
)
def test_the_same_late_and_in_other_forms(name: str, mode: str, execution: Execution) -> None:
    """Fully local, the costate is two ticks late: so is the sensitivity."""
    make, tau = EXACT[name]
    module, batches = made(make), drawn(26)
    runtime = exact_runtime(module, batches, mode=mode, rule=FROZEN(tau=tau), execution=execution)
    check_sums(presented(runtime, batches), tau, gradients(module, batches, tau, "new"))


def test_hold_out_samples_and_samples_without_targets_leave_the_past_as_it_is() -> None:
    """A tick without any target moves state and sensitivity, and no more; a row without one is left out of the mean."""
    make, tau = EXACT["DiagonalComplex"]
    module, batches = made(make), drawn(10)
    batches[4][1][:] = torch.nan
    batches[6][1][1] = torch.nan
    runtime = exact_runtime(module, batches, rule=FROZEN(tau=tau))
    state, total = None, torch.zeros((), dtype=torch.float64)
    for tick, (x, y) in enumerate(batches):
        if tick == 5:
            list(runtime.evaluate(drawn(3)))
        list(runtime.present(x, y))
        step = StepForward(tau, "new", state)
        output, known = torch.tanh(step(module, x)), ~y.isnan().any(1)
        total = total + (mse(output[known], y[known]) if known.any() else 0)
        state = tuple(step.after)
    theirs = torch.autograd.grad(total, list(module.parameters()))
    check_sums(runtime, tau, dict(zip(dict(module.named_parameters()), theirs, strict=True)))


def test_what_is_kept_does_not_grow() -> None:
    """Fully local, where points are stashed as well: the bytes of a cut after 20 ticks and after 150."""
    module, batches = made(EXACT["LRU"][0]), drawn(150)
    runtime = exact_runtime(module, batches, mode="local")
    sizes = {}
    for tick, (x, y) in enumerate(batches, start=1):
        list(runtime.present(x, y))
        if tick in (20, 150):
            leaves = tree_leaves(runtime.cut())
            sizes[tick] = sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))
    assert sizes[20] == sizes[150]
    carried = runtime.nodes["m"].carry.sensitivity
    weights = runtime.nodes["m"].carry.parameters
    assert all(s.numel() == 3 * 2 * weights[name].numel() for name, s in carried.items())


def test_frozen_memories_carry_nothing_and_what_reads_them_learns() -> None:
    module, batches = made(lambda: ss.LRU(4, 6, 3)), drawn(12)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith("c"))
    runtime = exact_runtime(module, batches, rule=FROZEN())
    state, total = None, torch.zeros((), dtype=torch.float64)
    for x, y in batches:
        list(runtime.present(x, y))
        step = StepForward(1.0, "new", state)
        total = total + mse(torch.tanh(step(module, x)), y)
        state = tuple(step.after)
    assert runtime.nodes["m"].carry.sensitivity == {}
    learns = {n: p for n, p in module.named_parameters() if p.requires_grad}
    check_sums(
        runtime, 1.0, dict(zip(learns, torch.autograd.grad(total, list(learns.values())), strict=True))
    )


def test_the_plan_says_what_is_carried_and_what_is_left_out() -> None:
    layers = {
        "embed": nn.Linear(4, 4),
        "lru": ss.LRU(4, 8, 4),
        "gru": nn.GRUCell(4, 4),
        "head": nn.Linear(4, 3),
    }
    network = Network.of({name: partial(deepcopy, layer) for name, layer in layers.items()}, mse)
    notes = plan_of(runtime_of(network, drawn(1), exact=True).program).notes
    weights = 3 * 8 + 2 * 4 * 8
    assert [note.removeprefix("exact: ") for note in notes if note.startswith("exact: ")] == [
        f"lru carries the derivatives of its state by {weights} weights, for 3 rows and 2 units each: 4.2 kB",
        "gru carries the derivatives of its state by 120 weights, for 3 rows and 1 unit each: 2.9 kB",
        "an approximation in gru, whose units move each other: what they do to each other is left out, but in the last "
        "step (SnAp-1)",
        "not in embed and lru, before a memory: what is told there of an input is what it did at once, not what a "
        "memory made of it later",
    ]


def test_the_plan_says_where_there_is_nothing_to_be_exact_about() -> None:
    notes = plan_of(runtime_of([nn.Linear(4, 3)], drawn(1), exact=True).program).notes
    assert "exact: no layer has a memory, so that locality.time changes nothing" in notes


# With moving weights: plain loops


def stepped(module: nn.Module, theta: dict[str, Tensor], a: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Output and state after a step of length 1, of one row."""
    output, state = functional_call(module, theta, (a[None], (h[None],)))
    return output[0], state[0][0]


@pytest.mark.parametrize("mode", ["nonlocal", "local"])
def test_moving_weights_carry_the_derivatives_of_todays(mode: str) -> None:
    """At the inputs and states of D ticks ago, whole ∂h/∂θ [units, *weight]; SGD with momentum."""
    module, batches, beta, late = (
        made(lambda: ss.DiagonalReal(4, 3, 3)),
        drawn(12, 1),
        0.3,
        2 * (mode == "local"),
    )
    runtime = exact_runtime(module, batches, mode=mode, rule=learning(beta, weight_dissipation=0.4))
    run_through(runtime, batches)

    theta = {n: p.detach().clone() for n, p in module.named_parameters()}
    omega = {n: torch.zeros_like(t) for n, t in theta.items()}
    carried = {n: t.new_zeros(3, *t.shape) for n, t in theta.items()}
    h, met = torch.zeros(3, dtype=torch.float64), []
    for tick in range(len(batches) + late):
        if tick < len(batches):
            a = batches[tick][0][0]
            output, after = stepped(module, theta, a, h)
            met.append((a, h, output.detach().clone(), batches[tick][1][0]))
            h = after.detach()
        if tick < late:
            continue
        a, before, output, y = met[tick - late]
        said = output.requires_grad_()
        (q,) = torch.autograd.grad(mse(torch.tanh(said), y), said)
        (by_theta, to_h), (turned, to_state) = (
            jacrev(lambda t, h, k=k: stepped(module, t, a, h)[k], argnums=(0, 1))(theta, before)  # noqa: B023
            for k in (0, 1)
        )
        for n, t in theta.items():
            drive = torch.tensordot(q, by_theta[n], 1) + torch.tensordot(q @ to_h, carried[n], 1)
            carried[n] = turned[n] + torch.tensordot(to_state, carried[n], 1)
            omega[n] = 0.6 * omega[n] + drive
            theta[n] = (t - beta * omega[n]).detach()
    for n, ours in runtime.nodes["m"].carry.parameters.items():
        torch.testing.assert_close(ours, theta[n], rtol=0, atol=TOLERANCE, msg=n)


CELLS: dict[str, tuple[Make, int]] = {
    "RNN": (lambda: nn.RNNCell(4, 3), 1),
    "relu": (lambda: nn.RNNCell(4, 3, nonlinearity="relu"), 1),
    "GRU": (lambda: nn.GRUCell(4, 3), 1),
    "LSTM": (lambda: nn.LSTMCell(4, 3, bias=False), 2),
}


@pytest.mark.parametrize("execution", [PLAIN, STACKED], ids=["plain", "stacked"])
@pytest.mark.parametrize("name", CELLS)
def test_cells_leave_out_what_units_do_to_each_other(name: str, execution: Execution) -> None:
    """SnAp-1: of ∂ξ'/∂ξ units of one place stay, but in the last step, which is whole. SGD, two episodes."""
    make, components = CELLS[name]
    cell, batches, beta = made(make), drawn(14, 1), 0.5
    runtime = exact_runtime(cell, batches, rule=learning(beta), execution=execution)
    presented(runtime, batches)

    def after(theta: dict[str, Tensor], state: Tensor, a: Tensor) -> Tensor:
        """The state after a step, all components of one row in a vector."""
        parts = tuple(part[None] for part in state.chunk(components))
        found = functional_call(cell, theta, (a[None], parts if components > 1 else parts[0]))
        return torch.cat(found if components > 1 else (found,), 1)[0]

    theta = {n: p.detach().clone() for n, p in cell.named_parameters()}
    units = 3 * components
    near = torch.arange(units)[:, None] % 3 == torch.arange(units) % 3
    state = torch.zeros(units, dtype=torch.float64)
    carried = {n: t.new_zeros(units, *t.shape) for n, t in theta.items()}
    for tick, (x, y) in enumerate(batches):
        if flags(tick, 1).item():
            state = torch.zeros_like(state)
            carried = {n: torch.zeros_like(s) for n, s in carried.items()}
        now = after(theta, state, x[0])
        q = torch.zeros_like(now)
        said = now[:3].detach().requires_grad_()
        (q[:3],) = torch.autograd.grad(mse(torch.tanh(said), y[0]), said)
        own, turn = jacrev(after, argnums=(0, 1))(theta, state, x[0])
        for n, t in theta.items():
            drive = torch.tensordot(q, own[n], 1) + torch.tensordot(q @ turn, carried[n], 1)
            carried[n] = own[n] + torch.tensordot(torch.where(near, turn, 0.0), carried[n], 1)
            theta[n] = t - beta * drive
        state = now
    for n, ours in runtime.nodes["m"].carry.parameters.items():
        torch.testing.assert_close(ours, theta[n], rtol=0, atol=TOLERANCE, msg=n)


# Bad input


class Own(ss.LRU):
    """A memory of one's own, though its parent's would do."""


def coupled() -> nn.Module:
    memory = ss.LRU(4, 3, 3)
    nn.utils.parametrizations.spectral_norm(memory.b[0])
    return memory


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ss.CSSM(4, 3, 3), r"has a memory \(CSSM\) whose units move each other"),
        (
            lambda: ss.CTE(4, 3, 3),
            r"\(CTE\) .*use one of DiagonalReal, .*, LSTMCell, or set locality.time to backward",
        ),
        (lambda: ss.Leapfrog(4, 3), r"\(Leapfrog\) whose units move each other"),
        (lambda: ss.ContinuousRNN(4, 3), r"\(ContinuousRNN\) whose units move each other"),
        (lambda: Own(4, 3, 3), r"\(Own\) whose units move each other, or are not known not to"),
        (
            lambda: nn.Sequential(ss.LRU(4, 3, 3), ss.LRU(3, 3, 3)),
            r"2 memories \(LRU and LRU\).*split it into",
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 3), ss.LRU(3, 3, 3)),
            r"weights before its memory \(0.weight and 0.bias\)",
        ),
        (lambda: nn.Sequential(nn.LayerNorm(4), ss.CTB(4, 2, 3)), "split it there"),
        (coupled, r"weights \(b.0.parametrizations.weight.original\) that move other units"),
    ],
)
def test_layers_that_cannot_learn_exactly(make: Make, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        Learner([made(make), nn.Linear(3, 3)], "mse", time="exact").step(torch.randn(1, 4), torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 3}, "time 'exact' has no horizon"),
        ({"window": "slid"}, "time 'exact' has no windows"),
        ({"states": "reintegrated"}, "'reintegrated' is of windows"),
        ({"pairing": "current"}, "locality.pairing=stashed and locality.stash=inputs"),
        ({"pairing": "reversible"}, "locality.pairing=stashed"),
        ({"stash": "graph"}, "locality.stash=inputs"),
        ({"clip": 1.0}, "learning.clip: is of state costates, which no layer has"),
        ({"dissipation": {"state": 0.1}}, "learning.dissipation.state: is of state costates"),
    ],
)
def test_settings_that_do_not_go_with_exact(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, NetworkError), match=message):
        Learner([nn.GRUCell(4, 3)], "mse", time="exact", **settings).step(
            torch.zeros(1, 4), torch.zeros(1, 3)
        )
