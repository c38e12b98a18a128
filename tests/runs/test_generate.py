"""Free running: a trained network that hears what it said, or nothing; against a plain loop of the modules."""

import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import hamdist
from hamdist import Learner
from hamdist.cli import app
from hamdist.errors import DivergenceError, NetworkError, StreamError
from hamdist.physics import statespace as ss

CONFIG = {
    "name": "wave",
    "stream": {"source": "signals", "signal": "smoHfHa", "samples": 300},
    "network": {
        "loss": "mse",
        "dtype": "float64",
        "layers": [
            {
                "name": "memory",
                "modules": [{"type": "CTBE", "input_size": 1, "hidden_size": 8, "initial": "learnt"}],
            },
            {"name": "head", "modules": [{"type": "Linear", "in_features": 8, "out_features": 1}]},
        ],
    },
    "learning": {"beta": 0.02, "tau": 0.1, "dissipation": {"state": 1.0, "weight": 2.0}},
    "placement": {"runtime": "inline"},
}


@pytest.mark.parametrize("feed", ["output", "zero", "same"])
def test_a_learner_runs_freely_and_goes_on_learning_as_if_it_had_not(feed: str) -> None:
    modules = [ss.CTBE(2, 6, 4), nn.Tanh(), nn.Linear(4, 2)]
    learner, other = (Learner(modules, "mse", locality="nonlocal", tau=0.5) for _ in range(2))
    data = list(zip(torch.randn(9, 1, 2), torch.randn(9, 1, 2), strict=True))
    for each in (learner, other):
        each.steps(data)
    first = list(torch.randn(3, 1, 2))
    found = learner.generate(first, 7, feed)
    plain = [ss.CTBE(2, 6, 4), nn.Tanh(), nn.Linear(4, 2)]
    for k, module in enumerate(plain):
        module.load_state_dict(learner.layers[k].weights)
    state, expected, y = None, [], torch.zeros(1, 2)
    with torch.no_grad():
        for k in range(10):
            x = first[k] if k < 3 else {"zero": torch.zeros(1, 2), "output": y, "same": first[2]}[feed]
            hidden, state = plain[0](x, state, 0.5)
            y = plain[2](plain[1](hidden))
            expected.append(y)
    torch.testing.assert_close(torch.stack(found), torch.stack(expected[3:]), rtol=0, atol=1e-6)
    for each in (learner, other):
        each.steps(data)
    for key, value in learner.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


def test_windows_move_on_by_what_was_said() -> None:
    learner = Learner([nn.Linear(6, 2, bias=False)], "mse", locality="nonlocal", beta=0.0)
    x = torch.tensor([[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]])
    learner.step(x, torch.zeros(1, 2))
    weight = learner.layers[0].weights["weight"]
    first, second = learner.generate([x], 2)
    said = x @ weight.T
    moved = torch.tensor([[2.0, 3.0, said[0, 0], 20.0, 30.0, said[0, 1]]])
    torch.testing.assert_close(first, moved @ weight.T)
    again = torch.tensor([[3.0, said[0, 0], first[0, 0], 30.0, said[0, 1], first[0, 1]]])
    torch.testing.assert_close(second, again @ weight.T)


def test_outputs_that_do_not_fit_into_inputs() -> None:
    learner = Learner([nn.Linear(5, 2)], "mse")
    learner.step(torch.zeros(1, 5), torch.zeros(1, 2))
    with pytest.raises(
        NetworkError, match=r"an output of \[2\] cannot be the next input, which has \[5\]: feed zero"
    ):
        learner.generate([torch.zeros(1, 5)], 1)
    with pytest.raises(StreamError, match="needs a first input"):
        learner.generate([], 1)


@pytest.mark.slow
def test_a_run_generates_beside_its_stream(tmp_path) -> None:
    hamdist.run(CONFIG, out=tmp_path / "run")
    result = CliRunner().invoke(app, ["generate", str(tmp_path / "run"), "--steps", "5", "--prime", "20"])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["step"] for line in lines] == list(range(5))
    wave = hamdist.streams.Signals("smoHfHa", dtype=torch.float64).rows(20, 25).targets
    assert [line["target"] for line in lines] == [[row] for row in wave.tolist()]
    distance = sum((line["y"][0][0] - line["target"][0][0]) ** 2 for line in lines) / 5
    assert f"over 5 steps: {distance:.6g}" in result.stderr


def test_a_student_of_lectures_hears_no_output(tmp_path) -> None:
    layers = [{"name": "only", "modules": [{"type": "Linear", "in_features": 6, "out_features": 1}]}]
    stream = {"source": "lectures", "rounds": 1, "length": 5, "exams": ["smoHfHa"]}
    config = {**CONFIG, "stream": stream, "network": {"loss": "mse", "layers": layers}}
    hamdist.run(config, out=tmp_path / "run")
    result = CliRunner().invoke(app, ["generate", str(tmp_path / "run"), "--steps", "3"])
    assert (result.exit_code, "hears a description" in result.stderr) == (2, True)
    result = CliRunner().invoke(app, ["generate", str(tmp_path / "run"), "--steps", "3", "--feed", "same"])
    assert result.exit_code == 0, result.stderr


def test_a_run_that_diverged_generates_nothing(tmp_path) -> None:
    with pytest.raises(DivergenceError):
        hamdist.run(CONFIG, ["learning.beta=1e30"], out=tmp_path / "run")
    result = CliRunner().invoke(app, ["generate", str(tmp_path / "run"), "--steps", "3"])
    assert result.exit_code == 2
    assert "the run diverged: not all numbers of " in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "-1"], "Invalid value for '--steps'"),
        (["--steps", "3", "--feed", "noise"], "noise"),
        (["--steps", "3", "--prime", "301"], "the stream has 300 batches, and 301 are to prime"),
        (["--steps", "3"], "holds no weights"),
    ],
)
def test_what_cannot_be_generated_is_status_2(options, message, tmp_path) -> None:
    directory = tmp_path / "run"
    if "weights" not in message:
        hamdist.run(CONFIG, out=directory)
    result = CliRunner().invoke(app, ["generate", str(directory), *options])
    assert result.exit_code == 2
    assert message in result.stderr
