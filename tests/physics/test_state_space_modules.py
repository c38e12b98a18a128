"""Every state-space module against a plain loop of its equations in NumPy, over 60 steps in float64.

Tolerance 1e-12: both compute the same sums in other orders.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hamdist.errors import NetworkError
from hamdist.network.modules import ModuleSpec
from hamdist.physics import statespace as ss
from hamdist.physics.layers import Point
from hamdist.physics.statespace.layer import PureMemory, StateSpaceLayer

TOLERANCE = 1e-12
STEPS = 60
Array = np.ndarray


def array(tensor: Tensor) -> Array:
    return tensor.detach().numpy()


def weight(linear: nn.Module) -> Array:
    return array(linear.weight)


def cssm(m: ss.CSSM, tau: float) -> Callable[[Array, Array], tuple[Array, Array]]:
    A, B, C = map(weight, (m.a, m.b, m.c))
    return lambda h, v: (A @ h + B @ v, C @ np.tanh(A @ h + B @ v))


def diagonal_real(m: ss.DiagonalReal, tau: float):
    d, B, C = array(m.d), weight(m.b), weight(m.c)
    return lambda h, v: (d * h + B @ v, C @ (d * h + B @ v))


def complex_of(pair: nn.ModuleList) -> Array:
    return weight(pair[0]) + 1j * weight(pair[1])


def diagonal_complex(m: ss.DiagonalComplex, tau: float):
    d = array(m.d[:, 0]) + 1j * array(m.d[:, 1])
    B, C = complex_of(m.b), complex_of(m.c)
    return lambda h, v: (d * h + B @ v, (C @ (d * h + B @ v)).real)


def lru(m: ss.LRU, tau: float):
    rate = -np.exp(array(m.nu)) + 1j * np.exp(array(m.theta))
    turn, held = np.exp(tau * rate), (np.exp(tau * rate) - 1) / (np.exp(rate) - 1)
    gamma, B, C, D = np.exp(array(m.log_gamma)), complex_of(m.b), complex_of(m.c), weight(m.d)

    def step(h: Array, v: Array) -> tuple[Array, Array]:
        after = turn * h + held * gamma * (B @ v)
        return after, (C @ after).real + D @ v

    return step


def exact(A: Array, B: Array, C: Array, tau: float):
    """dh/dt = A h + B v over τ, by eigenvalues of the antisymmetric A, and the limit of the integral at 0."""
    values, vectors = np.linalg.eig(A)
    turn = (vectors * np.exp(tau * values)) @ np.linalg.inv(vectors)
    small = np.abs(values) < 1e-9
    integral = np.where(small, tau, (np.exp(tau * values) - 1) / np.where(small, 1, values))
    driven = ((vectors * integral) @ np.linalg.inv(vectors)).real
    return lambda h, v: (after := turn.real @ h + driven @ (B @ v), C @ after)


def cte(m: ss.CTE, tau: float):
    W = weight(m.w)
    return exact((W - W.T) / 2, weight(m.b), weight(m.c), tau)


def blocks(omega: Array) -> Array:
    A = np.zeros((2 * len(omega), 2 * len(omega)))
    for i, w in enumerate(omega):
        A[2 * i, 2 * i + 1], A[2 * i + 1, 2 * i] = w, -w
    return A


def ctbe(m: ss.CTBE, tau: float):
    return exact(blocks(array(m.omega)), weight(m.b), weight(m.c), tau)


def ctb(m: ss.CTB, tau: float):
    A, B, C = (1 - tau * m.damping) * np.eye(6) + tau * blocks(array(m.omega)), weight(m.b), weight(m.c)
    if m.projected:
        A = A / np.maximum(1, np.linalg.norm(A, axis=1))[:, None]
    return lambda h, v: (A @ h + tau * (B @ v), C @ (A @ h + tau * (B @ v)))


def continuous(m: ss.ContinuousRNN, tau: float):
    W, b, B, C, T = weight(m.w), array(m.w.bias), weight(m.b), weight(m.c), np.exp(array(m.log_time))

    def step(h: Array, v: Array) -> tuple[Array, Array]:
        after = h + tau * (np.tanh(W @ h + b + B @ v) - h) / T
        return after, C @ after

    return step


def leapfrog(m: ss.Leapfrog, tau: float):
    W, B, C, kappa = weight(m.w), weight(m.b), weight(m.c), np.exp(array(m.log_stiffness))

    def step(h: Array, v: Array) -> tuple[Array, Array]:
        x, speed = h
        speed = speed + tau * (np.tanh(W @ x + B @ v) - kappa * x)
        x = x + tau * speed
        return np.stack([x, speed]), C @ x

    return step


MODELS = {
    "CSSM": (lambda: ss.CSSM(4, 6, 3), cssm),
    "DiagonalReal": (lambda: ss.DiagonalReal(4, 6, 3), diagonal_real),
    "DiagonalComplex": (lambda: ss.DiagonalComplex(4, 6, 3), diagonal_complex),
    "LRU": (lambda: ss.LRU(4, 6, 3), lru),
    "CTE, even": (lambda: ss.CTE(4, 6, 3), cte),
    "CTE, odd": (lambda: ss.CTE(4, 5, 3), cte),
    "CTBE": (lambda: ss.CTBE(4, 6, 3, fastest=3.0), ctbe),
    "CTBE, one at rest": (lambda: at_rest(ss.CTBE(4, 6, 3)), ctbe),
    "CTB": (lambda: ss.CTB(4, 6, 3, damping=0.1), ctb),
    "CTB, projected": (lambda: ss.CTB(4, 6, 3, projected=True), ctb),
    "ContinuousRNN": (lambda: ss.ContinuousRNN(4, 6, 3), continuous),
    "Leapfrog": (lambda: ss.Leapfrog(4, 6, 3), leapfrog),
}


def at_rest(module: ss.CTBE) -> ss.CTBE:
    with torch.no_grad():
        module.omega[0] = 0.0
    return module


def started(name: str, seed: int = 0) -> ss.StateSpace:
    torch.manual_seed(seed)
    return MODELS[name][0]().double()


def inputs(rows: int) -> Tensor:
    return torch.randn(STEPS, rows, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@pytest.mark.parametrize("tau", [0.1, 1.0])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_a_module_is_its_equations(name: str, rows: int, tau: float) -> None:
    module = started(name)
    step, state = MODELS[name][1](module, tau), None
    ours = []
    with torch.no_grad():
        for a in inputs(rows):
            y, state = module(a, state, tau)
            ours.append(y)
    size = len(array(state[0])[0])
    for row in range(rows):
        h: Array = np.zeros((2, size)) if name == "Leapfrog" else np.zeros(size)
        for a, y in zip(inputs(rows), ours, strict=True):
            h, expected = step(h, array(a[row]))
            np.testing.assert_allclose(
                array(y[row]), expected, rtol=0, atol=TOLERANCE * max(1, abs(expected).max())
            )


@pytest.mark.parametrize("name", [name for name in MODELS if started(name).invertible])
def test_a_step_back_is_the_inverse_of_a_step(name: str) -> None:
    module, (a, b, c, *_) = started(name), inputs(3)
    with torch.no_grad():
        _, state = module(a, None, 0.3)
        _, before = module(b, state, 0.3)
        _, after = module(c, before, 0.3)
        for ours, theirs in zip(module.earlier(c, after, 0.3), before, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_those_that_cannot_be_inverted_say_so() -> None:
    module = ss.LRU(4, 6, 3)
    assert not module.invertible
    with pytest.raises(NotImplementedError, match="the dynamics of LRU cannot be inverted"):
        module.earlier(torch.zeros(1, 4), (torch.zeros(1, 6),) * 2, 1.0)


def test_an_lru_never_grows_whatever_its_weights() -> None:
    module = started("LRU")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=5.0)
        state = (torch.ones(1, 6, dtype=torch.float64),) * 2
        for _ in range(STEPS):
            _, after = module(torch.zeros(1, 4, dtype=torch.float64), state)
            assert all((torch.hypot(*after) <= torch.hypot(*state)).flatten())
            state = after


# Where they start


def first_state(initial: object) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    return ss.CTBE(4, 6, initial=initial).double().initial_state(inputs(2)[0])


def test_where_a_state_starts() -> None:
    assert torch.equal(first_state("zeros")[0], torch.zeros(2, 6, dtype=torch.float64))
    assert torch.equal(first_state("learnt")[0], torch.zeros(2, 6, dtype=torch.float64))
    assert torch.equal(first_state([0.5] * 6)[0], torch.full((2, 6), 0.5, dtype=torch.float64))
    torch.manual_seed(0)
    module = ss.CTBE(4, 6, initial="input").double()
    expected = array(inputs(2)[0]) @ weight(module.start.maps[0]).T
    np.testing.assert_allclose(array(module.initial_state(inputs(2)[0])[0]), expected, rtol=0, atol=TOLERANCE)
    assert [n for n, _ in ss.CTBE(4, 6, initial="learnt").named_parameters() if "start" in n] == [
        "start.values.0"
    ]


@pytest.mark.parametrize(
    ("type_", "arguments", "message"),
    [
        ("CTBE", {"hidden_size": 5}, "hidden_size must be even, since units turn in pairs, not 5"),
        ("CTB", {"hidden_size": 7}, "must be even"),
        ("CSSM", {"hidden_size": 4, "initial": "random"}, "initial is 'zeros', 'learnt', 'input' or numbers"),
        ("CSSM", {"hidden_size": 4, "initial": [1.0, 2.0]}, "an initial state of .* where one of"),
        ("CSSM", {"hidden_size": 4, "activation": "relu"}, "activation is one of identity, tanh"),
        ("LRU", {"hidden_size": 4, "output_size": 1, "r_min": 2.0}, "0 ≤ r_min < r_max ≤ 1"),
        ("ContinuousRNN", {"hidden_size": 4, "time_constant": 0}, "time_constant must be above 0"),
        ("Cell", {"hidden_size": 4, "kind": "GRU"}, "kind is one of RNNCell, GRUCell, LSTMCell"),
        ("CSM", {"hidden_size": 4}, "did you mean 'CSSM'"),
    ],
)
def test_what_cannot_be_made_is_refused(type_: str, arguments: dict, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        ModuleSpec(type_, {"input_size": 3} | arguments, "network.layers.0").build()


# As functions


@pytest.mark.parametrize("name", MODELS)
def test_members_of_a_stack_are_what_they_are_alone(name: str) -> None:
    """By vmap over weights, inputs and states; derivatives, too, by vjp."""
    layers = [StateSpaceLayer(PureMemory(started(name, seed), "sum", 0.2, "new")) for seed in range(3)]
    a, b = inputs(2)[:2]
    weights = [layer.pure.parameters() for layer in layers]
    together = {key: torch.stack([w[key] for w in weights]) for key in weights[0]}

    def step(parameters: dict[str, Tensor], a: Tensor) -> tuple[Tensor, ...]:
        state = layers[0].initial_state(parameters, {}, (a,))
        values = layers[0](parameters, {}, Point((a,), state))
        return values.output, *values.drift

    def gradient(parameters: dict[str, Tensor], a: Tensor) -> Tensor:
        return torch.func.grad(lambda a: sum(t.square().sum() for t in step(parameters, a)))(a)

    signals = torch.stack([a, b, a + b])
    for function in (step, gradient):
        found = torch.vmap(function)(together, signals)
        for k in range(3):
            alone = function(weights[k], signals[k])
            for ours, theirs in zip(found, alone, strict=True) if function is step else [(found, alone)]:
                torch.testing.assert_close(ours[k], theirs, rtol=0, atol=TOLERANCE)


def test_the_memory_with_the_nearest_key_speaks() -> None:
    torch.manual_seed(3)
    readout = ss.Memories(5, 2, 4, count=7).double()
    h, d = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    for row in range(3):
        cosines = [
            array(key @ d[row]) / np.linalg.norm(array(d[row])) / np.linalg.norm(array(key))
            for key in readout.keys
        ]
        expected = readout.weight[int(np.argmax(cosines))] @ h[row]
        torch.testing.assert_close(readout(h, d)[row], expected, rtol=0, atol=TOLERANCE)
    chosen = readout(h[:1], 10 * readout.keys[4:5])
    torch.testing.assert_close(chosen[0], readout.weight[4] @ h[0], rtol=0, atol=TOLERANCE)


def test_every_pair_of_words_speaks() -> None:
    """Σ_{i≤j} d_i d_j C_ij h over the length of all d_i d_j; a description of one word has one pair."""
    torch.manual_seed(4)
    readout = ss.Conjunctions(5, 2, 3).double()
    h, d = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    for row in range(4):
        products = np.array([array(d[row])[i] * array(d[row])[j] for i, j in pairs])
        products /= np.linalg.norm(products)
        expected = sum(g * array(readout.weight[k]) for k, g in enumerate(products)) @ array(h[row])
        np.testing.assert_allclose(array(readout(h, d)[row]), expected, rtol=0, atol=TOLERANCE)
    with pytest.raises(ValueError, match="a description has 3 words, not 4"):
        readout(h, torch.zeros(4, 4, dtype=torch.float64))
    alone = readout(h[:1], torch.tensor([[0.0, 0.7, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(alone[0], readout.weight[pairs.index((1, 1))] @ h[0], rtol=0, atol=TOLERANCE)
