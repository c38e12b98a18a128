"""Episodes: flags that travel with samples, streams that have them, and what they mean to layers with a memory."""

import io
import json
import math

import pytest
import torch
from support.inline import learning, runtime_of
from torch import nn
from torch.utils.data import DataLoader

from hamdist import Learner
from hamdist.errors import DivergenceError, NetworkError, StreamError
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.network import Network
from hamdist.physics import statespace as ss
from hamdist.streams import Batch, Checked, Iterable, JSONLines, Lectures, Stream, TorchDataset
from hamdist.streams.waves import DESCRIPTIONS, SIGNAL_SCHOOL

mse = nn.functional.mse_loss

SAMPLES = [([0.5 * n, 1.0], [1.0], n in (2, 3)) for n in range(5)]


def flags(stream: Stream) -> list[list[bool] | None]:
    return [None if batch.restarts is None else batch.restarts.tolist() for batch in Checked(stream)]


def test_a_flag_comes_with_a_sample() -> None:
    expected = [None, [True, True], None]
    assert flags(Iterable(SAMPLES, batch_size=2)) == expected
    mappings = [{"x": x, "y": y, "restart": flag} for x, y, flag in SAMPLES]
    assert flags(Iterable(mappings, batch_size=2)) == expected
    lines = io.StringIO("".join(json.dumps(line) + "\n" for line in mappings))
    assert flags(JSONLines(lines, batch_size=2)) == expected
    assert flags(TorchDataset(SAMPLES, batch_size=2, shuffle=False)) == expected
    rows = [(torch.tensor(x), torch.tensor(y), flag) for x, y, flag in SAMPLES]
    loaded = flags(TorchDataset(DataLoader(rows, batch_size=2)))
    assert loaded == [[False, False], [True, True], [False]]


@pytest.mark.parametrize("flag", [1, "yes", [True, False], None])
def test_a_flag_is_true_or_false(flag: object) -> None:
    with pytest.raises(
        StreamError, match=r"sample 0: the restart flag is .*; expected one of true and false"
    ):
        next(iter(Iterable([([1.0], [1.0], flag)])))


@pytest.mark.parametrize(
    "given", [torch.ones(3, dtype=torch.bool), torch.ones(2), torch.ones(2, 1, dtype=torch.bool)]
)
def test_flags_are_booleans_one_a_row(given: torch.Tensor) -> None:
    class Odd(Stream):
        def __iter__(self):
            yield Batch(torch.zeros(2, 1), torch.zeros(2, 1), given)

    with pytest.raises(
        StreamError, match=r"sample 0: restart flags of .*, where 2 booleans, one a row, are expected"
    ):
        list(Checked(Odd()))
    learner = Learner([nn.GRUCell(1, 1)], "mse")
    with pytest.raises(StreamError, match="where 2 booleans, one a row"):
        learner.step(torch.zeros(2, 1), torch.zeros(2, 1), restart=given)


@pytest.mark.parametrize("mode", ["nonlocal", "local"])
def test_an_episode_is_as_if_it_were_the_first(mode: str) -> None:
    """At standing weights: its predictions, and the state costates after it, are those of a run of it alone."""
    generator = torch.Generator().manual_seed(0)
    data = [torch.randn(2, 2, 3, generator=generator, dtype=torch.float64).unbind() for _ in range(20)]
    modules = [ss.LRU(3, 4, 5, initial="input").double(), nn.GRUCell(5, 3).double()]
    torch.manual_seed(0)
    found = []
    for start in (0, 12):
        runtime = runtime_of(Network.of(modules, mse), data, mode=mode, rule=learning(0.0))
        left = []
        for k, (x, y) in enumerate(data[start:], start):
            left += runtime.present(x, y, restarts=torch.tensor([k == 12] * 2))
        left += runtime.drain()
        found.append((left[-8:], [node.carry.state_costate for node in runtime.nodes.values()]))
    for ours, theirs in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(ours.output, theirs.output, rtol=0, atol=1e-12)
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_a_holdout_is_an_episode_of_its_own() -> None:
    """It starts where memories start, twice the same, and what is learnt from goes on where it was."""
    modules = [nn.GRUCell(2, 3), nn.Linear(3, 1)]
    learner, other = (Learner(modules, "mse", locality="nonlocal") for _ in range(2))
    x, y = torch.randn(10, 1, 2), torch.randn(10, 1, 1)
    for k in range(10):
        for each in (learner, other):
            each.step(x[k], y[k])
        if k == 4:
            first, second = (learner.evaluate(zip(x, y, strict=True)) for _ in range(2))
            assert first["loss"] == pytest.approx(second["loss"], rel=1e-6)
    for key, value in learner.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


# The signal school's lectures


def test_lectures_tell_signals_from_the_start_again_and_again() -> None:
    stream = Lectures(["smoHfHa", "squLfLa"], ["squHfHa"], rounds=2, length=30, cycles=3, dtype=torch.float64)
    batches = list(Checked(stream))
    assert len(batches) == stream.samples == 3 * 2 * 2 * 30
    names = ["smoHfHa", "smoHfHa", "squLfLa", "squLfLa"] * 3
    for n, batch in enumerate(batches):
        name, index = names[n // 30], n % 30
        assert (batch.restarts is not None) == (index == 0)
        assert batch.inputs[0].tolist() == pytest.approx([word / 3 for word in DESCRIPTIONS[name]])
        assert batch.targets.item() == pytest.approx(
            float(SIGNAL_SCHOOL[name](torch.tensor(0.1 * index).numpy())), abs=1e-6
        )
    exam = list(stream.holdout())
    assert len(exam) == 30
    assert exam[0].targets.item() == -1.0
    assert DESCRIPTIONS["squHfHa"] == (0.0, 1.0, 1.0, 0.0, 0.0, 1.0)
    assert DESCRIPTIONS["smoLfLa"] == (1.0, 0.0, 0.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"signals": ["smoHfHi"]},
            "no signal is called 'smoHfHi'; the signal school has .*did you mean 'smoHfHa'",
        ),
        ({"exams": ["sine"]}, "exams: no signal is called"),
        ({"rounds": 0}, "rounds: must be a whole number of at least 1"),
        ({"batch_size": 2}, "one sample at a time"),
        ({"signals": []}, "signals: an empty list"),
    ],
)
def test_lectures_that_cannot_be_held(settings: dict, message: str) -> None:
    with pytest.raises(StreamError, match=message):
        Lectures(**settings)


# What does not go together


def test_a_memory_in_a_coupling_and_one_that_relaxes() -> None:
    from hamdist.physics.modules import Coupling

    with pytest.raises(NetworkError, match="layer '0' has a memory inside a coupling"):
        Learner([Coupling(nn.GRUCell(2, 2), nn.Linear(2, 2))], "mse").step(
            torch.zeros(1, 4), torch.zeros(1, 4)
        )
    spec = LayerSpec("slow", lambda: nn.GRUCell(2, 2), relaxing=2.0)
    with pytest.raises(NetworkError, match="layer 'slow' has a memory, so it cannot relax as well"):
        Learner([spec], "mse").step(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(NetworkError, match="has a memory, which never settles"):
        Learner([nn.GRUCell(2, 2)], "mse", gate="settled", pairing="current").step(
            torch.zeros(1, 2), torch.zeros(1, 2)
        )


class Growing(ss.StateSpace):
    """A step gives a state of another shape."""

    def __init__(self) -> None:
        super().__init__(2, (3,))

    def drift(self, a, state, tau):
        return (torch.cat([state[0], a], 1) - 1,)

    def output(self, a, state):
        return state[0]


class Complex(ss.StateSpace):
    """Its state, and what it says, are complex."""

    def __init__(self) -> None:
        super().__init__(2, (2,))
        self.d = nn.Parameter(torch.tensor([0.5 + 0.1j, 0.2j]))

    def initial_state(self, a):
        return (torch.zeros(len(a), 2, dtype=torch.complex64),)

    def drift(self, a, state, tau):
        return ((self.d - 1) * state[0] + a,)

    def output(self, a, state):
        return state[0]


def test_a_state_whose_shape_changes() -> None:
    message = (
        r"layer '0' \(Growing\) cannot take it: a state of \[1, 3\] torch.float32 has a drift of \[1, 5\]"
    )
    with pytest.raises(NetworkError, match=message):
        Learner([Growing()], "mse").step(torch.zeros(1, 2), torch.zeros(1, 3))


def test_complex_numbers_before_a_real_loss() -> None:
    with pytest.raises(
        NetworkError, match=r"takes real numbers, but layer '0' gives .*complex64: have it give their real"
    ):
        Learner([Complex()], "mse").step(torch.zeros(1, 2), torch.zeros(1, 2))


class Real(nn.Module):
    def forward(self, x):
        return x.real


def test_complex_states_learn_like_pairs_of_real_ones() -> None:
    """⟨p, f⟩ = Re Σ p̄ f: against autograd of the same with real and imaginary parts apart, one tick after another."""
    learner = Learner(
        [nn.Sequential(Complex(), Real())], "mse", locality="nonlocal", beta=0.1, pairing="current"
    )
    d = torch.view_as_real(Complex().d.detach()).clone()
    h, p = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    for x, y in zip(torch.randn(6, 1, 2), torch.randn(6, 1, 2), strict=True):
        learner.step(x, y)
        w, xi = d.clone().requires_grad_(), h.clone().requires_grad_()
        moved = torch.stack(
            [w[:, 0] * xi[..., 0] - w[:, 1] * xi[..., 1] + x, w[:, 0] * xi[..., 1] + w[:, 1] * xi[..., 0]], -1
        )
        energy = mse(moved[..., 0], y) + (p * (moved - xi)).sum()
        by_w, by_xi = torch.autograd.grad(energy, (w, xi))
        d, h, p = d - 0.1 * by_w, moved.detach(), p + by_xi
    ours = torch.view_as_real(learner.layers[0].weights["0.d"])
    torch.testing.assert_close(ours, d, rtol=0, atol=1e-6)


# State costates that run away


def test_a_state_costate_that_runs_away_is_named_with_what_grows_it() -> None:
    module = ss.DiagonalReal(1, 4, 1)
    with torch.no_grad():
        module.d.fill_(1.5)
    learner = Learner([nn.Linear(1, 1), module], "mse", locality="nonlocal", pairing="current", beta=1e-12)
    batches = [(torch.ones(1, 1), torch.zeros(1, 1))] * 600
    message = r"layer '1' .* \(a step multiplies its state by up to [0-9.e+]+\).*dissipation.state"
    with pytest.raises(DivergenceError, match=message):
        learner.steps(batches)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"window": "blocked"}, r": lower learning.beta \(the losses of 5 ticks add up\)$"),
        ({"window": "slid"}, ": lower learning.beta$"),
    ],
)
def test_backward_in_time_other_remedies_help(window: dict, message: str) -> None:
    settings = {"locality": "nonlocal", "time": "backward", "horizon": 5, "beta": 1e6, **window}
    learner = Learner([nn.GRUCell(1, 4), nn.Linear(4, 1)], "mse", **settings)
    with pytest.raises(DivergenceError, match=message):
        learner.steps([(torch.ones(1, 1), torch.zeros(1, 1))] * 600)


def test_clipping_bounds_it() -> None:
    module = ss.DiagonalReal(1, 4, 1)
    with torch.no_grad():
        module.d.fill_(1.0)
    learner = Learner([module], "mse", locality="nonlocal", pairing="current", beta=0.0, clip=0.25)
    for _ in range(50):
        learner.step(torch.ones(1, 1), -torch.ones(1, 1))
    (costate,) = learner.layers[0].state_costate
    assert costate.abs().max() == 0.25


def test_energies_are_root_mean_squares() -> None:
    runtime = runtime_of(
        Network.of([nn.LSTMCell(2, 3).double()], mse),
        [(torch.ones(2, 2).double(), torch.ones(2, 3).double())],
    )
    node = runtime.nodes["0"]
    list(runtime.present(torch.ones(2, 2).double(), torch.ones(2, 3).double()))
    state = torch.cat(node.carry.state)
    assert node.energies["state"] == pytest.approx(math.sqrt(state.square().mean()))
    assert set(node.energies) == {"state", "state_costate"}
