"""Layers with a memory in a network: E8, and against a plain loop that differentiates each tick's Hamiltonian.

E8 is equality with trajectories recorded from the authors' own implementation of arXiv 2409.12038, within 1e-12; the
plain loop is met within the same.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.inline import learning, runtime_of
from torch import Tensor, nn

from hamdist.engine.spec import PLAIN, STACKED, Execution
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.network import Network
from hamdist.physics.modules import Residual
from hamdist.physics.statespace import (
    CSSM,
    CTB,
    CTBE,
    CTE,
    LRU,
    Cell,
    ContinuousRNN,
    DiagonalComplex,
    StateSpace,
)

TOLERANCE = 1e-12
DATA = Path(__file__).parent / "data"
mse = nn.functional.mse_loss


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# E8: the authors' trajectories

RECORDED = {
    "cssm_b3": (CSSM, ["a.weight", "b.weight", "c.weight"]),
    "ctbe_b1": (CTBE, ["omega", "b.weight", "c.weight"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("execution", [PLAIN, STACKED], ids=["plain", "stacked"])
def test_the_authors_trajectories(name: str, execution: Execution) -> None:
    record = json.loads((DATA / f"{name}.json").read_text())
    kind, names = RECORDED[name]
    given = dict(zip(names, map(tensor, record["initial_parameters"].values()), strict=True))
    constants = record["hyperparameters"]
    batches = list(zip(tensor(record["inputs_v"]), tensor(record["targets"]), strict=True))
    delta, theta = constants["delta"], constants["theta"]
    rule = learning(
        constants["beta"],
        step="explicit",
        tau=delta,
        state_dissipation=theta / delta,
        weight_dissipation=theta / delta,
        gamma=constants["gamma"],
    )
    first = tensor(record["initial_state"])
    layer = LayerSpec("student", lambda: recorded(kind, given, first), reads="old")
    place = {"mode": "nonlocal", "pairing": "current", "execution": execution}
    runtime = runtime_of(Network.of([layer], mse), batches, rule=rule, **place)
    for (x, y), expected in zip(batches, record["trajectory"], strict=True):
        (prediction,) = runtime.present(x, y)
        carry = runtime.nodes["student"].carry
        close(prediction.output, expected["y"])
        close(prediction.loss, expected["loss"])
        close(carry.state_costate[0], expected["state_costate"])
    for ours, theirs in (
        (carry.parameters, "final_parameters"),
        (carry.weight_costate, "final_parameter_costates"),
    ):
        for key, values in zip(names, record[theirs].values(), strict=True):
            close(ours[key], values)


def recorded(kind: type[StateSpace], weights: dict[str, Tensor], first: Tensor) -> StateSpace:
    """The module with these weights, which starts in a state of its own for every row."""

    class Started(kind):
        def initial_state(self, a: Tensor) -> tuple[Tensor, ...]:
            return (first,)

    module = Started(2, first.shape[1], 1).double()
    module.load_state_dict(weights)
    return module


def close(ours: Tensor, theirs: object) -> None:
    torch.testing.assert_close(ours, tensor(theirs), rtol=0, atol=TOLERANCE)


# A plain loop

CHAINS: dict[str, Callable[[], list[nn.Module]]] = {
    "CSSM": lambda: [CSSM(4, 6, 3)],
    "two CSSMs": lambda: [CSSM(4, 6, 5), CSSM(5, 6, 3)],
    "CTE": lambda: [CTE(4, 5, 3, initial="learnt")],
    "CTB": lambda: [CTB(4, 6, 3, initial="input")],
    "CTBE": lambda: [CTBE(4, 6, 3)],
    "complex": lambda: [DiagonalComplex(4, 5, 3)],
    "LRU": lambda: [LRU(4, 5, 3, initial="learnt")],
    "continuous": lambda: [ContinuousRNN(4, 6, 3)],
    "RNNCell": lambda: [nn.RNNCell(4, 3)],
    "GRUCell": lambda: [nn.GRUCell(4, 6), nn.Linear(6, 3)],
    "LSTMCell": lambda: [nn.LSTMCell(4, 6), nn.Linear(6, 3)],
    "learnt LSTM": lambda: [Cell("LSTMCell", 4, 6, initial="learnt"), nn.Linear(6, 3)],
    "in a sequence": lambda: [nn.Sequential(nn.Linear(4, 5), nn.GRUCell(5, 6), nn.Tanh(), nn.LSTMCell(6, 3))],
    "in a residual block": lambda: [
        Residual(nn.Sequential(nn.GRUCell(4, 4), nn.Linear(4, 4))),
        nn.Linear(4, 3),
    ],
}
FLAGS = {5: [True, False], 6: [False, True], 11: [True, True]}  # rows in which an episode begins, by tick


def layers_of(name: str, reads: str) -> list[LayerSpec]:
    torch.manual_seed(2)
    modules = [module.double() for module in CHAINS[name]()]
    return [LayerSpec(f"layer{k}", lambda m=m: m, reads=reads) for k, m in enumerate(modules)]


class Loop:
    """H = γ loss + Σ ⟨p, f⟩ over all layers, differentiated as a whole, tick by tick."""

    def __init__(self, specs: list[LayerSpec], tau: float, beta: float, eta: tuple[float, float]) -> None:
        self.layers = [spec.make(0, torch.float64, torch.device("cpu"), tau) for spec in specs]
        self.theta = [layer.pure.parameters() for layer in self.layers]
        self.omega = [{n: torch.zeros_like(t) for n, t in theta.items()} for theta in self.theta]
        self.xi: list[tuple[Tensor, ...] | None] = [None] * len(specs)
        self.p: list[tuple[Tensor, ...]] = [()] * len(specs)
        self.tau, self.beta, self.eta = tau, beta, eta

    def tick(self, x: Tensor, target: Tensor, flags: Tensor) -> Tensor:
        theta = [{n: t.detach().requires_grad_() for n, t in theta.items()} for theta in self.theta]
        a, energy, states, after = x, torch.zeros((), dtype=torch.float64), [], []
        for k, layer in enumerate(self.layers):
            xi = self._begun(k, layer, theta[k], a, flags)
            states.append(xi)
            values = layer(theta[k], layer.pure.buffers(), layer_point(a, xi))
            energy = energy + sum(((p * f).sum() for p, f in zip(self.p[k], values.drift, strict=True)), 0.0)
            after.append(tuple((s + self.tau * f).detach() for s, f in zip(xi, values.drift, strict=True)))
            a = values.output
        energy = energy + mse(a, target)
        leaves = [t for each in theta for t in each.values()] + [t for xi in states for t in xi]
        gradients = iter(torch.autograd.grad(energy, leaves, materialize_grads=True))
        for k, each in enumerate(theta):
            for name, t in each.items():
                self.omega[k][name] = (1 - self.tau * self.eta[1]) * self.omega[k][name] + self.tau * next(
                    gradients
                )
                self.theta[k][name] = t.detach() - self.beta * self.tau * self.omega[k][name]
        for k, p in enumerate(self.p):
            self.p[k] = tuple((1 - self.tau * self.eta[0]) * old + self.tau * next(gradients) for old in p)
        self.xi = list(after)
        return a.detach()

    def _begun(self, k: int, layer, theta, a: Tensor, flags: Tensor) -> tuple[Tensor, ...]:
        """The state, in the rows of the flags where the layer starts; derivatives go on to what it starts from."""
        start = layer.initial_state(theta, layer.pure.buffers(), (a,)) if layer.remembers else ()
        if self.xi[k] is None:
            self.xi[k] = tuple(map(torch.zeros_like, start))
            self.p[k] = tuple(map(torch.zeros_like, start))
        rows = flags[:, None]
        self.p[k] = tuple(torch.where(rows, 0.0, p) for p in self.p[k])
        mixed = tuple(torch.where(rows, s, xi) for s, xi in zip(start, self.xi[k], strict=True))
        return tuple(xi if xi.requires_grad else xi.requires_grad_() for xi in mixed)


def layer_point(a: Tensor, state: tuple[Tensor, ...]):
    from hamdist.physics.layers import Point

    return Point((a,), state)


@pytest.mark.slow
@pytest.mark.parametrize("reads", ["new", "old"])
@pytest.mark.parametrize("name", CHAINS)
def test_a_plain_loop(name: str, reads: str) -> None:
    """Weights, costates and predictions over 20 ticks in which episodes begin in either row, and in both."""
    batches = real_samples(20)
    tau, beta, eta = 0.5, 0.1, (0.4, 0.6)
    rule = learning(beta, tau=tau, state_dissipation=eta[0], weight_dissipation=eta[1])
    specs = layers_of(name, reads)
    loop = Loop(specs, tau, beta, eta)
    for execution in (PLAIN, STACKED) if reads == "new" else (PLAIN,):  # stacked and old: E8, above
        runtime = runtime_of(
            Network.of(specs, mse),
            batches,
            rule=rule,
            mode="nonlocal",
            pairing="current",
            execution=execution,
        )
        loop = Loop(specs, tau, beta, eta)
        for tick, (x, y) in enumerate(batches):
            flags = torch.tensor(FLAGS.get(tick, [tick == 0] * 2))
            (prediction,) = runtime.present(x, y, restarts=flags)
            close(prediction.output, loop.tick(x, y, flags).tolist())
        for k, node in enumerate(runtime.nodes.values()):
            for name, theta in loop.theta[k].items():
                close(node.carry.parameters[name], theta.tolist())
            for ours, theirs in zip(node.carry.state_costate, loop.p[k], strict=True):
                close(ours, theirs.tolist())


def real_samples(
    count: int, rows: int = 2, features: int = 4, outputs: int = 3
) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (
            torch.randn(rows, features, generator=generator, dtype=torch.float64),
            torch.randn(rows, outputs, generator=generator, dtype=torch.float64),
        )
        for _ in range(count)
    ]
