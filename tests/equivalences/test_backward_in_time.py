"""E7: costates that go back through a window of time are backpropagation through time.

Blocked windows equal autograd's truncated BPTT(K, K), slid ones TBPTT(1, K) at frozen weights and a plain loop else,
within 1e-10; states that were integrated back are within 1e-8 of stored ones over 1000 steps.
"""

from collections.abc import Callable

import pytest
import torch
from support.inline import learning, runtime_of
from torch import Tensor, nn

from hamdist import Learner, check, plan
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.spec import PLAIN, STACKED, Execution
from hamdist.errors import ConfigError, NetworkError
from hamdist.network.locality import Horizon
from hamdist.network.network import Network
from hamdist.physics import statespace as ss
from hamdist.physics.statespace.walk import memories

TOLERANCE = 1e-10
mse = nn.functional.mse_loss
Pairs = list[tuple[Tensor, Tensor]]

NETWORKS: dict[str, Callable[[], list[nn.Module]]] = {
    "CSSM": lambda: [ss.CSSM(4, 6, 5), ss.CSSM(5, 6, 3)],
    "GRU": lambda: [nn.GRUCell(4, 6), nn.Linear(6, 3)],
    "LSTM": lambda: [nn.LSTMCell(4, 5), nn.Linear(5, 4), nn.LSTMCell(4, 3)],
    "CTBE": lambda: [nn.Linear(4, 3), ss.CTBE(3, 6, 4), nn.Tanh(), nn.Linear(4, 3)],
    "learnt start": lambda: [ss.Cell("GRUCell", 4, 6, initial="learnt"), nn.Linear(6, 3)],
}


def drawn(count: int, rows: int = 2) -> Pairs:
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(rows, 4, generator=generator, dtype=torch.float64),
            torch.randn(rows, 3, generator=generator, dtype=torch.float64),
        )
        for _ in range(count)
    ]


def modules_of(name: str) -> list[nn.Module]:
    torch.manual_seed(1)
    return [module.double() for module in NETWORKS[name]()]


class Plain:
    """The modules in plain PyTorch, with the states of their memories."""

    def __init__(self, modules: list[nn.Module], tau: float) -> None:
        self.modules, self.tau = modules, tau
        self.states: list[tuple[Tensor, ...] | None] = [None] * len(modules)

    def step(self, a: Tensor, begins: Tensor) -> Tensor:
        for k, module in enumerate(self.modules):
            if not memories(module):
                a = module(a)
                continue
            state = self._begun(k, module, a, begins)
            if isinstance(module, ss.StateSpace):
                a, self.states[k] = module(a, state, self.tau)
            else:
                after = module(a, state if len(state) > 1 else state[0])
                self.states[k] = (after,) if isinstance(after, Tensor) else after
                a = self.states[k][0]
        return a

    def detach(self) -> None:
        self.states = [None if state is None else tuple(t.detach() for t in state) for state in self.states]

    def _begun(self, k: int, module: nn.Module, a: Tensor, begins: Tensor) -> tuple[Tensor, ...]:
        start = memories(module)[0].initial_state(a)
        state = self.states[k]
        if state is None:
            return start
        return tuple(torch.where(begins[:, None], s, xi) for s, xi in zip(start, state, strict=True))


def flags(tick: int) -> Tensor:
    """Episodes begin in one row at ticks 3 and 9, in both at the first."""
    return torch.tensor([tick in (0, 3), tick in (0, 9)])


def weights_of(modules: list[nn.Module]) -> dict[str, Tensor]:
    return {f"{k}.{n}": p.detach().clone() for k, m in enumerate(modules) for n, p in m.named_parameters()}


def weights(runtime: InlineRuntime) -> dict[str, Tensor]:
    return {f"{k}.{n}": t for k, c in runtime.nodes.items() for n, t in c.carry.parameters.items()}


def runtime_for(
    modules: list[nn.Module], batches: Pairs, horizon: Horizon, execution: Execution = PLAIN, **rule: float
) -> InlineRuntime:
    place = {"mode": "nonlocal", "horizon": horizon, "execution": execution}
    return runtime_of(Network.of(modules, mse), batches, rule=learning(**rule), **place)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("horizon", "execution"),
    [(1, PLAIN), (5, PLAIN), (64, PLAIN), (5, STACKED)],
    ids=["1", "5", "64", "5-stacked"],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_are_truncated_backpropagation_through_time(
    name: str, horizon: int, execution: Execution
) -> None:
    """Two blocks and a half; SGD with momentum, τ of 1 and, for exact rotations, of 0.1."""
    tau = 0.1 if name == "CTBE" else 1.0
    beta, momentum = 0.05 / tau**2, 0.5
    batches = drawn(2 * horizon + (horizon + 1) // 2 + 8 * (horizon == 1))
    modules = modules_of(name)
    rule = {"beta": beta, "tau": tau, "weight_dissipation": (1 - momentum) / tau}
    runtime = runtime_for(modules, batches, Horizon(horizon), execution, **rule)
    predictions = [p for k, (x, y) in enumerate(batches) for p in runtime.present(x, y, restarts=flags(k))]
    list(runtime.drain())

    plain = Plain(modules, tau)
    optimiser = torch.optim.SGD(
        [p for m in modules for p in m.parameters()], lr=beta * tau**2, momentum=momentum
    )
    expected = []
    for first in range(0, len(batches), horizon):
        block = list(enumerate(batches))[first : first + horizon]
        outputs = [plain.step(x, flags(k)) for k, (x, _) in block]
        optimiser.zero_grad()
        sum(mse(output, y) for output, (_, (_, y)) in zip(outputs, block, strict=True)).backward()
        optimiser.step()
        plain.detach()
        expected += outputs
    for ours, theirs in zip(predictions, expected, strict=True):
        torch.testing.assert_close(ours.output, theirs.detach(), rtol=0, atol=TOLERANCE)
    theirs = weights_of(modules)
    assert weights(runtime).keys() == theirs.keys()
    for key, ours in weights(runtime).items():
        torch.testing.assert_close(ours, theirs[key], rtol=0, atol=TOLERANCE)
    assert runtime.seen_once()


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_slid_at_frozen_weights_is_tbptt_one_k(name: str, horizon: int) -> None:
    """β = 0 and no momentum: ω is τ times the gradient of this tick's loss, back through the last K ticks."""
    tau = 0.1 if name == "CTBE" else 1.0
    batches, modules = drawn(14), modules_of(name)
    rule = {"beta": 0.0, "tau": tau, "weight_dissipation": 1 / tau}
    runtime = runtime_for(modules, batches, Horizon(horizon, slid=True), **rule)
    plain, before = Plain(modules, tau), []
    for tick, (x, y) in enumerate(batches):
        list(runtime.present(x, y, restarts=flags(tick)))
        plain.detach()
        before.append(list(plain.states))
        plain.step(x, flags(tick))
        start = max(0, tick + 1 - horizon)
        window = Plain(modules, tau)
        window.states = list(before[start])
        for k in range(start, tick + 1):
            output = window.step(batches[k][0], flags(k))
        for module in modules:
            module.zero_grad()
        mse(output, y).backward()
        for k, (module, node) in enumerate(zip(modules, runtime.nodes.values(), strict=True)):
            for key, parameter in module.named_parameters():
                found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                ours = node.carry.weight_costate[key] / tau
                torch.testing.assert_close(ours, found, rtol=0, atol=TOLERANCE, msg=f"{k}.{key} at {tick}")


def test_slid_with_moving_weights_is_a_plain_loop() -> None:
    """At the inputs and states of then, with the weights of now; two layers, the second hears the first."""
    tau, beta, horizon = 0.5, 0.2, 4
    batches, modules = drawn(12), [nn.GRUCell(4, 6).double(), nn.RNNCell(6, 3).double()]
    runtime = runtime_for(
        modules, batches, Horizon(horizon, slid=True), beta=beta, tau=tau, weight_dissipation=2.0
    )
    theta = [{n: p.detach().clone() for n, p in m.named_parameters()} for m in modules]
    states = [torch.zeros(2, 6, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)]
    stored: list[list[tuple[Tensor, Tensor]]] = []

    def evaluated(k: int, weights: dict[str, Tensor], a: Tensor, xi: Tensor) -> tuple[Tensor, Tensor]:
        after = torch.func.functional_call(modules[k], weights, (a, xi))
        f = (after - xi) / tau
        return xi + tau * f, f

    for x, y in batches:
        list(runtime.present(x, y))
        a, met = x, []
        for k in range(2):
            met.append((a, states[k]))
            a, f = evaluated(k, theta[k], a, states[k])
            states[k] = (states[k] + tau * f).detach()
        stored.append(met)
        window = stored[-horizon:]
        told = [torch.zeros_like(a) for _ in window[:-1]]
        output = a.detach().requires_grad_()
        told.append(torch.autograd.grad(mse(output, y), output)[0])
        for k in (1, 0):
            leaves = {n: t.detach().requires_grad_() for n, t in theta[k].items()}
            p, back = torch.zeros_like(states[k]), []
            total = {n: torch.zeros_like(t) for n, t in leaves.items()}
            for met, q in zip(reversed(window), reversed(told), strict=True):
                a, xi = (t.detach().requires_grad_() for t in met[k])
                y_k, f = evaluated(k, leaves, a, xi)
                found = torch.autograd.grad((q * y_k).sum() + (p * f).sum(), [*leaves.values(), a, xi])
                total = {n: t + g for (n, t), g in zip(total.items(), found, strict=False)}
                back.append(found[-2])
                p = p + tau * found[-1]
            told = back[::-1]
            theta[k] = {n: t.detach() - beta * tau * tau * total[n] for n, t in theta[k].items()}
    for k, node in enumerate(runtime.nodes.values()):
        for key, ours in node.carry.parameters.items():
            torch.testing.assert_close(ours, theta[k][key], rtol=0, atol=TOLERANCE)
    assert runtime.seen_once()


@pytest.mark.slow
@pytest.mark.parametrize("slid", [False, True])
def test_fully_local_windows_learn_every_sample_once(slid: bool) -> None:
    """At frozen weights, what a layer learns from does not depend on how late its costates come."""
    batches, modules = drawn(23), modules_of("CSSM")
    place = {"horizon": Horizon(5, slid), "rule": learning(0.0, weight_dissipation=0.0)}
    found = []
    for mode in ("nonlocal", "local"):
        runtime = runtime_of(Network.of(modules, mse), batches, mode=mode, **place)
        for k, (x, y) in enumerate(batches):
            list(runtime.present(x, y, restarts=flags(k)))
        list(runtime.drain())
        assert runtime.seen_once()
        found.append({k: c.carry.weight_costate for k, c in runtime.nodes.items()})
    for layer, costates in found[0].items():
        for key, costate in costates.items():
            torch.testing.assert_close(costate, found[1][layer][key], rtol=0, atol=TOLERANCE)


# Integrated back

RETRACED: dict[str, Callable[[], nn.Module]] = {
    "CTBE": lambda: nn.Sequential(nn.Linear(4, 3), ss.CTBE(3, 16, 5), nn.Tanh(), ss.CTE(5, 7, 3)),
    "leapfrog": lambda: ss.Leapfrog(4, 12, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "ticks"), [("nonlocal", 1000), ("local", 100)])
@pytest.mark.parametrize("name", RETRACED)
def test_states_integrated_back_are_those_that_were_stored(name: str, mode: str, ticks: int) -> None:
    """One block of ticks, with an episode that begins midway; no state is kept but where it begins."""
    torch.manual_seed(2)
    modules, batches = [RETRACED[name]().double(), nn.Linear(3, 3).double()], drawn(ticks)
    found = []
    for reintegrates in (False, True):
        horizon = Horizon(ticks, reintegrates=reintegrates)
        runtime = runtime_of(
            Network.of(modules, mse), batches, rule=learning(0.01, tau=0.1), mode=mode, horizon=horizon
        )
        for k, (x, y) in enumerate(batches):
            if k == ticks - 2:
                kept = runtime.nodes["0"].bytes_kept
            list(runtime.present(x, y, restarts=torch.tensor([k == ticks * 2 // 5] * 2)))
        list(runtime.drain())
        found.append((weights(runtime), kept))
    for key, ours in found[0][0].items():
        torch.testing.assert_close(found[1][0][key], ours, rtol=0, atol=1e-8)
    inputs, state = (ticks - 2) * 2 * 4 * 8, sum(t.nbytes for t in runtime.nodes["0"].carry.state)
    depth = 2 if mode == "local" else 0
    assert found[0][1] == inputs + (ticks - 2) * state
    assert (
        found[1][1] == inputs + (4 + depth) * state
    )  # both episodes' starts, what was before them, and the last


# Bad input


def test_what_cannot_be_integrated_back_is_refused() -> None:
    with pytest.raises(
        NetworkError, match=r"locality.states: .*layer '0' \(GRUCell\) cannot be integrated back"
    ):
        runtime_for([nn.GRUCell(4, 3).double()], drawn(1), Horizon(3, reintegrates=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time": "backward"}, "time 'backward' needs a horizon"),
        ({"horizon": 3}, "time 'forward' has no horizon"),
        ({"window": "slid"}, "time 'forward' has no windows"),
        ({"time": "backward", "horizon": 0}, "horizon"),
        (
            {"time": "backward", "horizon": 3, "window": "slid", "states": "reintegrated"},
            "weights that stand still",
        ),
        ({"states": "reintegrated"}, "'reintegrated' is of windows"),
        ({"time": "backward", "horizon": 3, "pairing": "current"}, "pairing=stashed"),
        ({"time": "backward", "horizon": 3, "stash": "graph"}, "stash=inputs"),
        ({"time": "backward", "horizon": 3, "hold": 2}, "hold=1"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict, message: str) -> None:
    with pytest.raises((ConfigError, NetworkError), match=message):
        Learner([nn.GRUCell(4, 3)], "mse", **settings).step(torch.zeros(1, 4), torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("stream", "ticks"),
    [
        ({"source": "lectures", "rounds": 1, "length": 5}, 35),
        ({"source": "signals", "signal": "smoHfHa", "samples": 20, "batch_size": 3}, 7),
    ],
)
def test_a_horizon_is_not_longer_than_the_stream(stream: dict, ticks: int) -> None:
    inputs = 6 if stream["source"] == "lectures" else 1
    node = {"type": "RNNCell", "input_size": inputs, "hidden_size": 1}
    config = {
        "name": "short",
        "stream": stream,
        "network": {"loss": "mse", "layers": [{"name": "node", "modules": [node]}]},
        "locality": {"mode": "nonlocal", "time": "backward", "horizon": ticks + 1},
    }
    message = f"locality.horizon: a horizon of {ticks + 1} ticks is longer than the stream, which has {ticks}: lower it"
    assert check(config) == [message]
    with pytest.raises(ConfigError, match=message):
        plan(config)
    assert check(config, [f"locality.horizon={ticks}"]) == []
