"""Runs from end to end: what is learnt, what is left in the run directory, and how a run ends.

The network is that of `config`, 6 → 8 → 8 → 3, fully local: a prediction comes two batches later.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from hamdist import run
from hamdist.config import load
from hamdist.errors import ConfigError, DivergenceError, StreamError, UserError

LAYERS = ("first", "second", "head")
KEYS = {
    *(
        "status",
        "ticks",
        "samples",
        "samples_seen_once",
        "loss",
        "prequential",
        "holdout",
        "ticks_per_second",
    ),
    *("samples_per_second", "actors", "peak_memory_bytes", "restarts", "wall_seconds", "versions"),
}


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """The current folder: 200 samples of three classes in x.npy, y.npy and table.csv."""
    x, y = rows(200)
    np.save("x.npy", x)
    np.save("y.npy", y)
    table = np.column_stack([x, y])
    np.savetxt("table.csv", table, "%.9g", delimiter=",", header="a,b,c,d,e,f,kind", comments="")
    return folder


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(count, 6)).astype(np.float32)
    return x, x[:, :3].argmax(axis=1)


def linear(inputs: int, outputs: int, *after: str) -> list[dict[str, Any]]:
    module = {"type": "Linear", "in_features": inputs, "out_features": outputs}
    return [module, *({"type": name} for name in after)]


ARRAYS = {"source": "arrays", "inputs": "x.npy", "targets": "y.npy", "batch_size": 8}


def config(stream: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    layers = [
        {"name": "first", "modules": linear(6, 8, "Tanh")},
        {"name": "second", "modules": linear(8, 8, "Tanh")},
        {"name": "head", "modules": linear(8, 3)},
    ]
    network = {"loss": "cross_entropy", "layers": layers, "dtype": "float64"}
    return {"name": "small", "stream": stream or ARRAYS, "network": network, **sections}


def summary_in(directory: Path | str) -> dict[str, Any]:
    return json.loads((Path(directory) / "summary.json").read_text())


def metrics_in(directory: Path | str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]


def weights_in(directory: Path | str) -> dict[str, torch.Tensor]:
    files = {file.stem: load_file(file) for file in (Path(directory) / "weights").iterdir()}
    return {f"{layer}.{key}": tensor for layer, tensors in files.items() for key, tensor in tensors.items()}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# what a run leaves behind


def test_the_run_directory():
    summary = run(config(metrics_every=50), out="out")
    assert {path.name for path in Path("out").iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "summary.json",
        "weights",
    }
    assert {path.name for path in Path("out/weights").iterdir()} == {f"{name}.safetensors" for name in LAYERS}
    assert summary == {**summary_in("out"), "directory": "out"}
    assert summary.keys() >= KEYS
    assert (summary["status"], summary["samples"], summary["samples_seen_once"]) == ("finished", 200, True)
    assert summary["ticks"] == 25 + 4  # the drain: two ticks to the loss and two back
    assert (summary["actors"], summary["restarts"], summary["holdout"]) == (1, [], None)
    assert set(summary["prequential"]) == {"loss", "accuracy"}
    assert summary["loss"] == summary["prequential"]["loss"]
    assert summary["peak_memory_bytes"]["inline"] > 2**20
    assert summary["wall_seconds"] > 200 / summary["samples_per_second"] * 0.99
    assert list(summary["phases"]) == ["start", "learning", "end"]
    assert sum(summary["phases"].values()) == pytest.approx(summary["wall_seconds"])
    assert summary["versions"].keys() == {"hamdist", "torch", "python"}


def test_the_config_in_it_is_the_one_that_ran():
    run(config(), ["learning.beta=0.05", "seed=3"], out="out")
    kept = load("out/config.yaml").config
    assert kept == load(config(), ["learning.beta=0.05", "seed=3"]).config
    run("out/config.yaml", out="again")
    assert same(weights_in("out"), weights_in("again"))


def test_metrics_add_up_to_the_summary():
    summary = run(config({**ARRAYS, "samples": 333}, metrics_every=50), out="out")
    lines = metrics_in("out")
    assert [line["samples"] for line in lines] == [56, 104, 152, 200, 256, 304, 333]
    assert lines[0]["predicted"] == 56 - 16
    assert lines[-1]["predicted"] == 333
    counts = np.diff([0, *(line["predicted"] for line in lines)])
    for name in ("loss", "accuracy"):
        mean = np.average([line[name] for line in lines], weights=counts)
        assert summary["prequential"][name] == pytest.approx(mean, abs=1e-12)
    assert [line["ticks"] for line in lines[:2]] == [7, 13]


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4])
def test_stacked_layers_learn_the_same_and_the_summary_tells_how_ticks_ran(chunk):
    stream = {**ARRAYS, "samples": 333}
    plain = run(config(stream), out="plain")
    stacked = run(config(stream, placement={"stack": True, "chunk": chunk}), out="stacked")
    assert "execution" not in plain
    assert stacked["execution"] == {"inline": {"chunk": chunk}}
    assert stacked["samples_seen_once"]
    assert stacked["ticks"] == plain["ticks"]
    assert stacked["prequential"] == pytest.approx(plain["prequential"], abs=1e-10)
    ours, theirs = weights_in("stacked"), weights_in("plain")
    assert all(torch.allclose(ours[key], theirs[key], rtol=0, atol=1e-10) for key in theirs)


def test_it_learns_as_a_plain_loop():
    """Non-local, from the weights that β = 0 leaves: torch's own loop ends at the same weights."""
    nonlocal_config = config(locality={"mode": "nonlocal"})
    run(nonlocal_config, ["learning.beta=0"], out="start")
    summary = run(nonlocal_config, ["learning.beta=0.2"], out="end")
    modules = [nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Sequential(nn.Linear(8, 8), nn.Tanh())]
    plain = nn.ModuleDict(dict(zip(LAYERS, [*modules, nn.Sequential(nn.Linear(8, 3))], strict=True))).double()
    plain.load_state_dict(weights_in("start"))
    optimizer, losses = torch.optim.SGD(plain.parameters(), lr=0.2), []
    x, y = (torch.from_numpy(values) for values in rows(200))
    for inputs, targets in zip(x.double().split(8), y.split(8), strict=True):
        for layer in plain.values():
            inputs = layer(inputs)
        loss = nn.functional.cross_entropy(inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    end = weights_in("end")
    assert max((end[key] - value).abs().max() for key, value in plain.state_dict().items()) < 1e-10
    assert summary["loss"] == pytest.approx(np.mean(losses), abs=1e-10)


def test_the_holdout_is_predicted_by_the_final_weights():
    summary = run(config({**ARRAYS, "holdout": 0.25}), out="out")
    assert summary["samples"] == 150
    weights = weights_in("out")
    x, y = (torch.from_numpy(values[150:]) for values in rows(200))
    output = x.double()
    for layer in LAYERS:
        output = nn.functional.linear(output, weights[f"{layer}.0.weight"], weights[f"{layer}.0.bias"])
        output = output if layer == "head" else output.tanh()
    assert summary["holdout"] == {
        "loss": pytest.approx(nn.functional.cross_entropy(output, y).item(), abs=1e-10),
        "accuracy": pytest.approx((output.argmax(1) == y).double().mean().item(), abs=1e-10),
    }


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not():
    shuffled = config({**ARRAYS, "shuffle": True})
    for out, seed in (("one", 1), ("two", 1), ("other", 2)):
        run(shuffled, [f"seed={seed}"], out=out)
    assert same(weights_in("one"), weights_in("two"))
    assert [line["loss"] for line in metrics_in("one")] == [line["loss"] for line in metrics_in("two")]
    assert not same(weights_in("one"), weights_in("other"))


def test_without_an_out_directory_runs_are_numbered():
    assert run(config())["directory"] == str(Path("runs/small"))
    assert run(config())["directory"] == str(Path("runs/small-2"))


def test_a_directory_in_use_is_refused():
    run(config(), out="out")
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    with pytest.raises(
        UserError,
        match=r"^out holds a run already: name another directory, remove it, or go on with it by --resume$",
    ):
        run(config(), ["seed=5"], out="out")
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before


def test_a_directory_that_cannot_be_made():
    Path("file").write_text("")
    with pytest.raises(UserError, match=r"^file/out cannot be the run directory: "):
        run(config(), out="file/out")


@pytest.mark.slow
def test_progress_is_told_of():
    seen = []
    run(config({**ARRAYS, "samples": 4000}), out="out", on_progress=seen.append)
    assert all(0 < snapshot.samples <= snapshot.total_samples == 4000 for snapshot in seen)
    assert [snapshot.samples for snapshot in seen] == sorted(snapshot.samples for snapshot in seen)


def test_the_number_of_threads_is_as_before():
    before = torch.get_num_threads()
    run(config(), ["placement.threads=2"], out="out")
    assert torch.get_num_threads() == before


# where samples come from


def test_a_csv_is_as_good_as_arrays():
    run(config(), out="arrays")
    run(
        config(
            {"source": "csv", "path": "table.csv", "target": "kind", "classes": [0, 1, 2], "batch_size": 8}
        ),
        out="csv",
    )
    arrays, table = weights_in("arrays"), weights_in("csv")
    assert max((arrays[key] - table[key]).abs().max() for key in arrays) < 1e-6  # nine digits in the text


def moving(count: int, fault: str = "") -> Iterator[tuple[Any, int]]:
    """A factory for the source `iterable`; `fault` befalls sample 100."""
    x, y = rows(count)
    for number in range(count):
        if number == 100 and fault == "raises":
            raise OSError("the sensor is gone")
        if number == 100 and fault == "nan":
            x[number, 2] = np.nan
        if number == 100 and fault == "class":
            y[number] = 9
        yield (x[number, :5] if number == 100 and fault == "shape" else x[number]), int(y[number])


def iterable(**args: Any) -> dict[str, Any]:
    return {
        "source": "iterable",
        "factory": f"{__name__}:moving",
        "args": {"count": 200, **args},
        "batch_size": 8,
    }


def test_a_factory_is_as_good_as_arrays():
    run(config(), out="arrays")
    summary = run(config(iterable()), out="factory")
    assert same(weights_in("arrays"), weights_in("factory"))
    assert summary["samples_seen_once"]


def test_a_river_dataset():
    pytest.importorskip("river")
    stream = {"source": "river", "dataset": "Phishing", "samples": 200, "standardise": True}
    layers = [{"name": "only", "modules": linear(9, 2)}]
    summary = run(config(stream, network={"loss": "cross_entropy", "layers": layers}), out="out")
    assert (summary["samples"], summary["samples_seen_once"]) == (200, True)
    assert summary["prequential"]["accuracy"] > 0.7


def test_a_network_from_a_factory():
    network = {"loss": "cross_entropy", "factory": f"{__name__}:make_layers", "args": {"width": 4}}
    summary = run(config(network=network), out="out")
    assert summary["samples_seen_once"]
    assert {key: tuple(tensor.shape) for key, tensor in weights_in("out").items()} == {
        "0.weight": (4, 6),
        "0.bias": (4,),
        "1.weight": (3, 4),
        "1.bias": (3,),
    }


def make_layers(width: int) -> list[Any]:
    return [lambda: nn.Linear(6, width), nn.Linear(width, 3)]


# how a run ends

FAULTS = {
    "nan": "sample 100: feature 2 of the input is nan; expected finite numbers",
    "shape": "sample 100: the input has shape (5,) and float64, where it had shape (6,) and float64 before",
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.items())
def test_a_stream_that_breaks_its_promise_midway(fault: str, message: str):
    """What was learnt until then is kept, and is what a stream that ends there would have taught."""
    with pytest.raises(StreamError) as caught:
        run(config(iterable(fault=fault)), out="out")
    assert str(caught.value) == message
    summary = summary_in("out")
    assert (summary["status"], summary["error"]) == ("failed", message)
    assert (summary["samples"], summary["samples_seen_once"]) == (96, True)
    assert metrics_in("out")[-1]["predicted"] == 96
    run(config(iterable(), locality={}), ["stream.samples=96"], out="until")
    assert same(weights_in("out"), weights_in("until"))


@pytest.mark.parametrize("source", ["csv", "factory"])
def test_a_stream_that_ends_early_is_finished_with_what_there_was(source: str):
    table = {"source": "csv", "path": "table.csv", "target": "kind", "classes": [0, 1, 2], "batch_size": 8}
    stream = table if source == "csv" else iterable()
    summary = run(config(stream), ["stream.samples=300"], out="out")
    assert (summary["status"], summary["samples"], summary["samples_promised"]) == ("finished", 200, 300)
    assert summary["samples_seen_once"]
    whole = run(config(stream), ["stream.samples=200"], out="all")
    assert "samples_promised" not in whole
    assert same(weights_in("out"), weights_in("all"))


def test_a_failure_of_the_users_own_code_keeps_what_was_learnt():
    with pytest.raises(StreamError, match=r"failed after 96 samples: OSError.*the sensor is gone"):
        run(config(iterable(fault="raises")), out="out")
    summary = summary_in("out")
    assert (summary["status"], summary["samples"]) == ("failed", 96)
    assert "the sensor is gone" in summary["error"]
    assert weights_in("out").keys() == {f"{layer}.0.{key}" for layer in LAYERS for key in ("weight", "bias")}


@pytest.mark.parametrize("mode", ["local", "nonlocal"])
def test_a_class_that_the_network_has_not_ends_a_run(mode: str):
    """It is told as over actors; all that came before is learnt."""
    message = "class 9 came in sample 100, but layer 'head' has 3 outputs: it needs 10"
    with pytest.raises(StreamError, match=f"^{message}$"):
        run(config(iterable(fault="class"), locality={"mode": mode}), out="out")
    summary = summary_in("out")
    assert (summary["status"], summary["error"], summary["samples_seen_once"]) == ("failed", message, True)
    assert summary["samples"] == 96
    assert weights_in("out").keys() == {f"{layer}.0.{key}" for layer in LAYERS for key in ("weight", "bias")}


def test_nothing_is_left_where_the_first_sample_is_wrong():
    with pytest.raises(StreamError):
        run(config(iterable(count=0)), out="out")
    with pytest.raises(ConfigError):
        run(config(), ["learning.tau=0"], out="out")
    assert not Path("out").exists()


EXPLOSIVE = [
    "learning.beta=1e200",
    "network.layers.0.modules.1.type=ReLU",
    "network.layers.1.modules.1.type=ReLU",
]


def test_divergence():
    with pytest.raises(DivergenceError) as caught:
        run(config(), EXPLOSIVE, out="out")
    message = str(caught.value)
    assert message.startswith("diverged at tick ")
    assert any(f"layer '{layer}'" in message for layer in LAYERS)
    assert "lower learning.beta" in message
    summary = summary_in("out")
    assert (summary["status"], summary["error"], summary["samples_seen_once"]) == ("failed", message, False)


def test_weights_that_run_away_after_the_last_prediction_are_a_divergence_too():
    """One batch, whose loss is finite; only then does β, below the largest float32, carry the weights past it."""
    np.save("x.npy", 1000 * rows(200)[0])
    network = {"loss": "cross_entropy", "layers": [{"name": "only", "modules": linear(6, 3)}]}
    with pytest.raises(
        DivergenceError, match=r"^diverged at tick 1: layer 'only' is the furthest off.* inf: "
    ):
        run(config(network=network), ["stream.samples=8", "learning.beta=3e38"], out="out")
    assert summary_in("out")["status"] == "failed"


class Alarm(nn.Module):
    """Ctrl-C is pressed during one of its evaluations: in training at the call of that number, or outside of it.

    Only those of the run count, whose directory is there.
    """

    def __init__(self, call: int = -1, training: bool = True) -> None:
        super().__init__()
        self.call, self.when = call, training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.call > 0 and self.training == self.when and Path("out").exists():
            self.call -= 1
            if self.call == 0:
                signal.raise_signal(signal.SIGINT)
        return x


def alarmed(**args: Any) -> list[str]:
    """Overrides that put an alarm into the first layer, in place of its Tanh."""
    written = ", ".join(f"{key}: {value}" for key, value in {"type": f"{__name__}:Alarm", **args}.items())
    return [f"network.layers.0.modules.1={{{written}}}", "locality.mode=nonlocal"]


def test_an_interruption_lets_the_batch_in_work_finish():
    summary = run(config(), alarmed(call=12), out="out")
    assert (summary["status"], summary["samples_seen_once"]) == ("interrupted", True)
    assert 0 < summary["samples"] <= 12 * 8
    run(config({**ARRAYS, "samples": summary["samples"]}), alarmed(), out="until")
    assert same(weights_in("out"), weights_in("until"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupted_test_on_the_holdout_keeps_what_was_learnt():
    holdout = {**ARRAYS, "holdout": 0.25}
    with pytest.raises(KeyboardInterrupt):
        run(config(holdout), alarmed(call=1, training="false"), out="out")
    summary = summary_in("out")
    assert (summary["status"], summary["samples"], summary["samples_seen_once"]) == ("interrupted", 150, True)
    run(config(holdout), alarmed(), out="whole")
    assert same(weights_in("out"), weights_in("whole"))


# the command, in a process of its own


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "hamdist", *arguments]
    return subprocess.Popen(line, text=True, env=environment, **{**pipes, **options})


def json_lines(count: int) -> list[str]:
    x, y = rows(count)
    return [json.dumps({"x": x[i].tolist(), "y": int(y[i])}) + "\n" for i in range(count)]


def write_config(**changes: Any) -> str:
    Path("run.yaml").write_text(yaml.safe_dump(config(**changes)))
    return "run.yaml"


@pytest.mark.slow
def test_json_lines_to_their_end():
    """From standard input, with a short last batch; the same bits as from a Python iterable."""
    path = write_config(stream={"source": "stdin", "batch_size": 8})
    process = command("run", path, "--out", "piped")
    out, errors = process.communicate("".join(json_lines(45)))
    assert process.returncode == 0, errors
    assert "45 in 10 ticks, each seen once" in " ".join(errors.split())
    assert [json.loads(line)["sample"] for line in out.splitlines()] == list(range(45))
    assert summary_in("piped")["status"] == "finished"
    run(config(iterable(count=45)), out="iterable")
    assert same(weights_in("piped"), weights_in("iterable"))


@pytest.mark.slow
@pytest.mark.parametrize(("request_to_end", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_keeps_all_it_was_given(request_to_end, status):
    """A signal while an endless standard input is silent: it drains, writes everything, and says what it was.

    Its file of metrics is a pipe here: a line from it is the news that the eighth sample was presented.
    """
    Path("out").mkdir()
    os.mkfifo("out/metrics.jsonl")
    process = command("run", write_config(stream={"source": "stdin"}, metrics_every=8), "--out", "out")
    assert process.stdin is not None
    process.stdin.writelines(json_lines(8))
    process.stdin.flush()
    with Path("out/metrics.jsonl").open() as metrics:
        assert json.loads(metrics.readline())["samples"] == 8
        process.send_signal(request_to_end)
        assert json.loads(metrics.readline())["predicted"] == 8
    _, errors = process.communicate()
    assert process.returncode == status, errors
    if status == 130:
        assert "status interrupted" in " ".join(errors.split())
    else:
        assert errors.splitlines()[-1] == "terminated; the weights of all layers are in out"
    summary = summary_in("out")
    assert (summary["status"], summary["samples"], summary["samples_seen_once"]) == ("interrupted", 8, True)
    run(config({**iterable(count=8), "batch_size": 1}), out="same")
    assert same(weights_in("out"), weights_in("same"))


@pytest.mark.slow
def test_divergence_is_status_1_and_bad_input_2():
    failed = command("run", write_config(), *EXPLOSIVE, "--out", "failed")
    refused = command("run", "run.yaml", "learning.tau=0", "--out", "refused")
    _, errors = failed.communicate()
    assert failed.returncode == 1
    assert errors.splitlines()[-1].startswith("diverged at tick ")
    assert summary_in("failed")["status"] == "failed"
    _, errors = refused.communicate()
    assert refused.returncode == 2
    assert errors == "override learning.tau=0: learning.tau: must be greater than 0, got 0\n"
    assert not Path("refused").exists()
