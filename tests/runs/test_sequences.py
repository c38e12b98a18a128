"""Sequences held out, predicted, and gone through by the plain model of layers with a memory.

Tolerance 1e-12 in float64: the same modules compute, in one process node by node, and in an ordinary module.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import hamdist
from hamdist import LayerSpec, Learner, Network, Residual, plain_model
from hamdist.cli import app
from hamdist.errors import ConfigError, NetworkError, RunError, StreamError, UserError
from hamdist.network.sequence import PlainSequence
from hamdist.physics import statespace as ss

TOLERANCE = 1e-12
ROWS, TICKS, TAU = 4, 6, 0.3
EXACT: dict[str, Any] = {"dtype": torch.float64, "tau": TAU, "beta": 0.02}

MEMORIES: dict[str, Callable[[], nn.Module]] = {
    "RNNCell": lambda: nn.RNNCell(3, 5),
    "GRUCell": lambda: nn.GRUCell(3, 5),
    "LSTMCell": lambda: nn.LSTMCell(3, 5),
    "Cell that learns its start": lambda: ss.Cell("LSTMCell", 3, 5, initial="learnt"),
    "LRU": lambda: ss.LRU(3, 6, 5),
    "CSSM": lambda: ss.CSSM(3, 6, 5),
    "CTB": lambda: ss.CTB(3, 6, 5, initial="input"),
    "CTBE": lambda: ss.CTBE(3, 6, 5, initial="learnt"),
    "CTE": lambda: ss.CTE(3, 6, 5),
    "ContinuousRNN": lambda: ss.ContinuousRNN(3, 6, 5),
    "DiagonalReal": lambda: ss.DiagonalReal(3, 6, 5),
    "DiagonalComplex": lambda: ss.DiagonalComplex(3, 6, 5),
    "Leapfrog": lambda: ss.Leapfrog(3, 6, 5),
    "two in a residual sequence": lambda: nn.Sequential(
        nn.Linear(3, 5), Residual(nn.Sequential(nn.GRUCell(5, 5), nn.Tanh())), nn.RNNCell(5, 5)
    ),
}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def taught(layers: Any, **settings: Any) -> Learner:
    """A learner that has seen twenty batches of three numbers, and was told two numbers of each."""
    torch.manual_seed(0)
    learner = Learner(layers, "mse", **{**EXACT, **settings})
    learner.steps(zip(numbers(20, ROWS, 3), numbers(20, ROWS, 2, seed=1), strict=True))
    learner.drain()
    return learner


def with_memory(kind: str) -> list[nn.Module]:
    torch.manual_seed(0)
    return [MEMORIES[kind](), nn.Linear(5, 2)]


def flags() -> Tensor:
    """One row begins anew midway, and all of them later."""
    restarts = torch.zeros(ROWS, TICKS, dtype=torch.bool)
    restarts[1, 2] = True
    restarts[:, 4] = True
    return restarts


def by_tick(*tensors: Tensor) -> Any:
    """Of [B, T, …] each, tick by tick."""
    return zip(*(tensor.unbind(1) for tensor in tensors), strict=True)


@pytest.mark.parametrize(
    ("kind", "locality"), [("LSTMCell", "nonlocal"), *((kind, "local") for kind in MEMORIES)]
)
def test_the_plain_model_goes_through_sequences_as_the_learner_does(kind: str, locality: str):
    learner = taught(with_memory(kind), locality=locality)
    x, y, restarts = numbers(ROWS, TICKS, 3, seed=2), numbers(ROWS, TICKS, 2, seed=3), flags()
    model = plain_model(learner.network, seed=5, dtype=torch.float64)
    assert isinstance(model, PlainSequence)
    model.load_state_dict(learner.state_dict(), strict=True)
    said, state = model.eval()(x, None, restarts)
    for tick, output in enumerate(learner.predict_steps(by_tick(x, restarts))):
        assert (output - said[:, tick]).abs().max() < TOLERANCE
    found = learner.evaluate(by_tick(x, y, restarts))
    assert abs(found["loss"] - nn.functional.mse_loss(said, y).item()) < TOLERANCE
    first, between = model(x[:, :2], None, restarts[:, :2])
    second, after = model(x[:, 2:], between, restarts[:, 2:])
    assert torch.equal(torch.cat([first, second], 1), said)
    assert all(map(torch.equal, after, state))


def test_it_is_what_a_plain_loop_of_a_cell_says():
    learner = taught(with_memory("LSTMCell"))
    model, x = learner.plain_model(), numbers(ROWS, TICKS, 3, seed=2)
    cell, head, state = nn.LSTMCell(3, 5).double(), nn.Linear(5, 2).double(), None
    cell.load_state_dict(learner.layers[0].weights)
    head.load_state_dict(learner.layers[1].weights)
    said, _ = model(x)
    for tick in range(TICKS):
        state = cell(x[:, tick], state)
        assert (head(state[0]) - said[:, tick]).abs().max() < TOLERANCE


def test_gradients_go_through_the_plain_model():
    """It is an ordinary module: its start learns, too."""
    model = plain_model(Network.of(with_memory("CTBE"), "mse"), dtype=torch.float64)
    model(numbers(ROWS, TICKS, 3))[0].square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


SKIP = ["a->b", "b->head", "a->head"]


def skipping(reads: Any = "old") -> Network:
    specs = (
        LayerSpec("a", lambda: nn.GRUCell(3, 5), reads=reads),
        LayerSpec("b", lambda: nn.Linear(5, 5)),
        LayerSpec("head", lambda: nn.Sequential(nn.RNNCell(10, 5), nn.Linear(5, 2)), join="concat"),
    )
    return Network(specs, {"loss": "mse"}, SKIP)


def test_a_graph_with_memories_and_outputs_read_before_the_input():
    learner = Learner(skipping(), locality="local", **EXACT)
    learner.steps(zip(numbers(9, ROWS, 3), numbers(9, ROWS, 2, seed=1), strict=True))
    x = numbers(ROWS, TICKS, 3, seed=2)
    said, _ = learner.plain_model()(x)
    for tick, output in enumerate(learner.predict_steps(x.unbind(1))):
        assert (output - said[:, tick]).abs().max() < TOLERANCE


@pytest.mark.slow
@torch.no_grad()
def test_the_plain_model_is_exported_by_torch():
    """A graph goes through sequences of one length; one tick and its state is enough for any."""
    model, x = taught(with_memory("LRU")).plain_model(), numbers(ROWS, TICKS, 3)
    said, state = model(x)
    whole = torch.export.export(model, (x,)).module()
    assert (whole(x)[0] - said).abs().max() < TOLERANCE
    tick = torch.export.export(model, (x[:, :1], state)).module()
    assert (tick(x[:, 3:4], state)[0] - model(x[:, 3:4], state)[0]).abs().max() < TOLERANCE


def test_a_learner_takes_up_a_plain_model():
    """With its edges, joins and readouts; it predicts what the model says."""
    learner = Learner(skipping(), locality="local", **EXACT)
    learner.steps(zip(numbers(9, ROWS, 3), numbers(9, ROWS, 2, seed=1), strict=True))
    model = learner.plain_model().train()
    again = Learner(model, "mse", **{**EXACT, "beta": 0.0})
    again.step(numbers(ROWS, 3), numbers(ROWS, 2))
    x = numbers(ROWS, TICKS, 3, seed=2)
    for ours, theirs in zip(
        again.predict_steps(x.unbind(1)), learner.predict_steps(x.unbind(1)), strict=True
    ):
        assert (ours - theirs).abs().max() < TOLERANCE
    with pytest.raises(ConfigError, match=r"^tau: the model's memories were learnt in steps of 0\.3"):
        Learner(model, "mse")
    with pytest.raises(ConfigError, match=r"^edges: the model has its own"):
        Learner(model, "mse", edges=SKIP, tau=TAU)


WRONG_SEQUENCES = [
    (lambda m, x, s: m(x[0, 0]), r"expected sequences \[B, T, …\] of one input or more, got \[3\] float64"),
    (
        lambda m, x, s: m(x[:, :0]),
        r"expected sequences \[B, T, …\] of one input or more, got \[4, 0, 3\] float64",
    ),
    (lambda m, x, s: m(x, s[:1]), r"expected a state of 2 tensors with the 4 rows of x, got \[4, 5\]"),
    (
        lambda m, x, s: m(x[:3], s),
        r"expected a state of 2 tensors with the 3 rows of x, got \[4, 5\], \[4, 5\]",
    ),
    (
        lambda m, x, s: m(x, s, flags()[:, 1:]),
        r"restarts are booleans \[4, 6\], one an input, not \[4, 5\] bool",
    ),
]


@pytest.mark.parametrize(("call", "message"), WRONG_SEQUENCES)
def test_what_is_no_sequence(call: Any, message: str):
    model = plain_model(Network.of(with_memory("LSTMCell"), "mse"), dtype=torch.float64)
    x = numbers(ROWS, TICKS, 3)
    with pytest.raises(NetworkError, match=f"^{message}$"):
        call(model, x, model(x)[1])


# Held out, and predicted


def test_hold_out_sequences_move_nothing():
    learner, other = (taught(with_memory("GRUCell")) for _ in range(2))
    x, y = numbers(ROWS, TICKS, 3, seed=2), numbers(ROWS, TICKS, 2, seed=3)
    learner.predict_steps(x.unbind(1))
    learner.evaluate([(x[:, 0], y[:, 0], True), *by_tick(x[:, 1:], y[:, 1:])])
    for each in (learner, other):
        each.step(x[:, 0], y[:, 0])
    expected = other.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in learner.state_dict().items())


def test_sequences_one_after_another_begin_anew():
    learner = taught(with_memory("GRUCell"))
    x, y = numbers(2, TICKS, 3, seed=2), numbers(2, TICKS, 2, seed=3)
    model = learner.plain_model()
    batches = [
        (a, b, t == 0)
        for row in (0, 1)
        for t, (a, b) in enumerate(by_tick(x[row : row + 1], y[row : row + 1]))
    ]
    found = learner.evaluate(batches)
    assert abs(found["loss"] - nn.functional.mse_loss(model(x)[0], y).item()) < TOLERANCE


WRONG_BATCHES = [
    (numbers(ROWS, 3), "hold-out batch 0: a batch is (x, target) or (x, target, restart), not a Tensor"),
    (
        (numbers(ROWS, 3),),
        "hold-out batch 0: a batch is (x, target) or (x, target, restart), not a tuple of 1",
    ),
    ((numbers(ROWS, 3), numbers(ROWS, 2), True, 1), "hold-out batch 0: a batch is (x, target) or"),
    ((numbers(ROWS, 4), numbers(ROWS, 2)), "hold-out batch 0: the input has shape (4,) and float64"),
    ((numbers(ROWS, 3), numbers(3, 2)), "hold-out batch 0: 4 rows of x, but 3 of target"),
    (
        (numbers(ROWS, 3), numbers(ROWS, 2), [True]),
        "hold-out batch 0: restart flags of [1] bool, where 4 booleans",
    ),
    (
        (numbers(ROWS, 3), numbers(ROWS, 2), "yes"),
        "hold-out batch 0: restart is a flag, or one a row, not 'yes'",
    ),
    (
        (numbers(6, 3), numbers(6, 2)),
        "hold-out batch 0: 6 rows, where memories have 4: give sequences of at most 4 ",
    ),
    ((numbers(0, 3), numbers(0, 2)), "hold-out batch 0: x has no rows: a batch has one at least"),
]


@pytest.mark.parametrize(
    ("batch", "message"), WRONG_BATCHES, ids=[message[17:60] for _, message in WRONG_BATCHES]
)
def test_what_is_no_hold_out_batch(batch: Any, message: str):
    learner = taught(with_memory("GRUCell"))
    with pytest.raises(StreamError) as caught:
        learner.evaluate([batch])
    assert str(caught.value).startswith(message)


def test_after_a_wrong_hold_out_batch_nothing_of_those_before_is_left():
    learner = taught(with_memory("GRUCell"), locality="local")
    good = (numbers(ROWS, 3, seed=2), numbers(ROWS, 2, seed=3))
    expected = learner.evaluate([good])
    with pytest.raises(StreamError, match=r"^hold-out batch 1: "):
        learner.evaluate([(9 * good[0], good[1]), (good[0],)])
    assert learner.evaluate([good]) == expected


def test_rows_of_a_sequence_stay_the_same():
    learner = taught(with_memory("GRUCell"))
    three, two = numbers(3, 3), numbers(2, 3)
    with pytest.raises(StreamError, match=r"^2 rows came to layer '0', whose memory has 3: say restart=True"):
        learner.predict_steps([three, two])
    assert [len(y) for y in learner.predict_steps([three, (two, True), two])] == [3, 2, 2]
    with pytest.raises(StreamError, match=r"^hold-out batch 1: 2 rows, where memories have 3"):
        learner.evaluate([(three, three[:, :2]), (two, two[:, :2])])
    assert learner.evaluate([(three, three[:, :2]), (two, two[:, :2], True)]).keys() == {"loss", "mae"}


def test_feedback_is_of_the_rows_that_were_before():
    learner = Learner([nn.Linear(3, 3), nn.Linear(3, 3)], "mse", edges=["0->1", "1->0"], **EXACT)
    x = numbers(ROWS, 3)
    learner.step(x, x)
    with pytest.raises(
        StreamError, match=r"^1 rows came, and feedback is of 4: say restart=True where others begin$"
    ):
        learner.predict_steps([x, x, x[:1]])
    first, _, again = learner.predict_steps([x, x, (x[:1], True)])
    assert (first[:1] - again).abs().max() < TOLERANCE


@pytest.mark.parametrize("ask", ["predict", "predict_steps", "generate"])
def test_inputs_have_the_form_of_the_first(ask: str):
    learner = taught(with_memory("GRUCell"))
    wrong = numbers(ROWS, 4)
    calls = {
        "predict": lambda: learner.predict(wrong),
        "predict_steps": lambda: learner.predict_steps([wrong]),
        "generate": lambda: learner.generate([wrong], 1),
    }
    with pytest.raises(
        StreamError, match=r"input( 0)?: the input has shape \(4,\) and float64, where it had "
    ):
        calls[ask]()


# Free runs


def test_no_steps_give_the_output_at_the_last_of_the_first():
    learner, x = taught(with_memory("GRUCell")), numbers(ROWS, TICKS, 3, seed=2)
    (said,) = learner.generate(x.unbind(1), 0)
    assert torch.equal(said, learner.predict_steps(x.unbind(1))[-1])


@pytest.mark.parametrize(
    ("steps", "feed", "message"),
    [
        (-1, "zero", "steps is a whole number, 0 or more, not -1"),
        (1.5, "zero", "steps is a whole number, 0 or more, not 1.5"),
        (1, "outptu", "feed is one of output, zero, same, not 'outptu'"),
    ],
)
def test_steps_and_feeds_that_say_nothing(steps: Any, feed: Any, message: str):
    with pytest.raises(UserError, match=f"^{message}$"):
        taught(with_memory("GRUCell")).generate([numbers(ROWS, 3)], steps, feed)


# A finished run

CONFIG = {
    "name": "wave",
    "stream": {"source": "signals", "signal": "smoHfHa", "samples": 100},
    "network": {
        "loss": "mse",
        "dtype": "float64",
        "layers": [
            {"name": "memory", "modules": [{"type": "CTB", "input_size": 1, "hidden_size": 8}]},
            {"name": "head", "modules": [{"type": "Linear", "in_features": 8, "out_features": 1}]},
        ],
    },
    "learning": {"beta": 0.02, "tau": 0.1},
    "placement": {"runtime": "inline"},
}


def test_a_run_with_memories_loads_and_goes_on_as_it_generates(tmp_path: Any):
    """What it says of the first batches of its stream, to the digits that JSON has: all of them."""
    hamdist.run(CONFIG, out=tmp_path / "run")
    model = hamdist.load_model(tmp_path / "run")
    first = hamdist.streams.Signals("smoHfHa", dtype=torch.float64).rows(0, 7)
    said, _ = model(first.inputs.unsqueeze(0))
    hamdist.export(tmp_path / "run", tmp_path / "model.pt")
    fresh = copy.deepcopy(model)
    fresh.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    result = CliRunner().invoke(app, ["generate", str(tmp_path / "run"), "--steps", "0", "--prime", "7"])
    assert result.exit_code == 0, result.output
    line = json.loads(result.stdout)
    assert (line["step"], line["target"]) == (-1, [first.targets[6].tolist()])
    assert abs(line["y"][0][0] - said[0, 6, 0].item()) < TOLERANCE
    assert torch.equal(fresh(first.inputs.unsqueeze(0))[0], said)


def test_what_is_closed_says_so():
    learner = taught(with_memory("GRUCell"))
    learner.close()
    learner.close()
    with pytest.raises(RunError, match="this learner was closed"):
        learner.predict_steps([numbers(ROWS, 3)])


def test_the_step_of_time_is_that_of_the_learner():
    """The network of a learner says it, so that its plain model moves memories as the learner did."""
    network = Network.of(with_memory("CTB"), "mse")
    assert (network.tau, Learner(network, **EXACT).network.tau) == (1.0, TAU)
    learner = Learner(network, **EXACT)
    learner.step(numbers(ROWS, 3), numbers(ROWS, 2))
    x = numbers(ROWS, TICKS, 3, seed=2)
    other = plain_model(replace(learner.network, tau=1.0), dtype=torch.float64)
    other.load_state_dict(learner.state_dict())
    assert (other(x)[0] - learner.plain_model()(x)[0]).abs().max() > 0.01
