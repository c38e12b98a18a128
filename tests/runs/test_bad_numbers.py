"""on_bad in a run: what ends it leaves a way on, `skip` leaves losses out, `rollback` goes back with a smaller β."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hamdist import run
from hamdist.config.loader import load
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.state import RuntimeState
from hamdist.errors import ConfigError, DivergenceError, NetworkError
from hamdist.runs.prepare import built_here, open_stream_of, prepare

pytestmark = pytest.mark.usefixtures("one_fitter")

SAMPLES, BATCH, BETA, FACTOR = 480, 8, 50.0, 1e-3
LARGE = 170  # from this sample on β is too large
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(SAMPLES, 6)).astype(np.float32)
X[:LARGE] /= 1000
Y = DRAW.normal(size=(SAMPLES, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("t.npz", x=X, y=Y)


def linear(rows: int, columns: int) -> list[dict[str, Any]]:
    return [{"type": "Linear", "in_features": rows, "out_features": columns, "bias": False}]


def config(beta: float = BETA, **more: Any) -> dict[str, Any]:
    return {
        "name": "bad",
        "stream": {"source": "arrays", "inputs": "t.npz", "batch_size": BATCH, "shuffle": False},
        "network": {
            "loss": "mse",
            "layers": [
                {"name": "a", "modules": [*linear(6, 8), {"type": "ReLU"}]},
                {"name": "b", "modules": linear(8, 3)},
            ],
        },
        "learning": {"beta": beta},
        "metrics_every": 40,
        **more,
    }


def weights_in(directory: str) -> dict[str, torch.Tensor]:
    files = Path(directory, "weights").glob("*.safetensors")
    return {f"{file.stem}.{key}": value for file in files for key, value in load_file(file).items()}


def manifests(directory: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in Path(directory, "checkpoints").glob("*/manifest.json")]


CUTS = {"every_ticks": 20, "keep": 1000}
ROLLBACK = {"on_bad": "rollback", "rollback": {"factor": FACTOR, "times": 1}, "checkpoint": CUTS}


def expected(tick: int) -> dict[str, torch.Tensor]:
    """A plain loop: with β to the cut, then a fresh network with the smaller one, which goes on from there."""
    loaded = load(config()).config
    setup, stream = prepare(loaded), open_stream_of(loaded)
    batches = [(batch.inputs, batch.targets) for batch in stream.batches]
    before = InlineRuntime(built_here(setup, stream))
    before.present_all(batches[:tick])
    cut: RuntimeState = before.cut()
    after = InlineRuntime(built_here(setup.lowered(FACTOR), stream))
    after.restore(cut)
    after.present_all(batches[tick:])
    list(after.drain())
    return {
        f"{name}.{key}": value
        for name, node in after.nodes.items()
        for key, value in node.carry.parameters.items()
    }


@pytest.mark.parametrize("execution", [{}, {"stack": True, "chunk": 4}], ids=["plain", "chunks"])
def test_rollback_goes_on_from_the_newest_checkpoint_with_a_smaller_beta(execution: dict[str, Any]) -> None:
    more = ROLLBACK | {"placement": execution}
    summary = run(config(**more), out="out")
    assert (summary["status"], summary["samples"], summary["samples_seen_once"]) == (
        "finished",
        SAMPLES,
        True,
    )
    (restart,) = summary["restarts"]
    assert (restart["lost"], restart["replayed_ticks"] > 0) == ([], True)
    assert restart["cause"].startswith("diverged at tick ")
    found, plain = weights_in("out"), expected(restart["tick"])
    assert found.keys() == plain.keys()
    if not execution:
        assert all(torch.equal(found[name], value) for name, value in plain.items())
    assert all(bool((found[name] - value).abs().max() < 1e-5) for name, value in plain.items())  # float32
    later = [told["record"]["rollbacks"] for told in manifests("out") if told["tick"] > restart["tick"]]
    assert later
    assert set(later) == {1}
    lines = [json.loads(line) for line in Path("out", "metrics.jsonl").read_text().splitlines()]
    ticks = [line["ticks"] for line in lines]
    assert ticks == sorted(set(ticks)), "no line comes twice"
    assert (lines[-1]["samples"], lines[-1]["predicted"]) == (SAMPLES, SAMPLES)


def test_a_run_that_was_rolled_back_goes_on_with_the_smaller_beta() -> None:
    whole = run(config(**ROLLBACK), out="whole")
    run(config(**ROLLBACK), ["stream.samples=360"], out="out")
    newest = max(manifests("out"), key=lambda told: told["tick"])
    assert (newest["tick"], newest["record"]["rollbacks"]) == (40, 1)
    summary = run(config(**ROLLBACK), ["stream.samples=null"], out="out", resume=True)
    assert summary["status"] == whole["status"] == "finished"
    assert not summary["restarts"], "none since it went on"
    mine, its = weights_in("out"), weights_in("whole")
    assert all(torch.equal(mine[name], value) for name, value in its.items())


def test_beta_is_lowered_no_more_often_than_asked_for_and_then_there_is_a_way_on() -> None:
    often = {"on_bad": "rollback", "rollback": {"factor": 0.99, "times": 2}, "checkpoint": CUTS}
    with pytest.raises(DivergenceError) as caught:
        run(config(**often), out="out")
    summary = json.loads(Path("out", "summary.json").read_text())
    assert (summary["status"], len(summary["restarts"])) == ("failed", 2)
    assert summary["error"] == str(caught.value)
    tick = max(told["tick"] for told in manifests("out"))
    assert str(caught.value).endswith(
        f"; the checkpoint of tick {tick} is from before; to go on from it with a smaller β: hamdist run --resume out "
        "rollback.times=4"
    )


def test_what_ends_a_run_names_the_samples_and_leaves_a_checkpoint_from_before() -> None:
    with pytest.raises(
        DivergenceError,
        match=r"^diverged at tick \d+: the loss of samples \d+ to \d+ is .*; the checkpoint of tick",
    ) as caught:
        run(config(checkpoint=CUTS), out="out")
    assert str(caught.value).endswith(": hamdist run --resume out on_bad=rollback")
    assert all(bool(value.isfinite().all()) for value in weights_in("out").values())
    summary = run(None, ["on_bad=rollback", f"rollback.factor={FACTOR}"], out="out", resume=True)
    assert (summary["status"], len(summary["restarts"]), summary["samples_seen_once"]) == (
        "finished",
        1,
        True,
    )


def test_without_a_checkpoint_it_ends_as_with_stop() -> None:
    with pytest.raises(DivergenceError) as caught:
        run(config(on_bad="rollback"), out="out")
    assert "checkpoint" not in str(caught.value)


def test_a_stream_that_cannot_go_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "\n".join(json.dumps({"x": x.tolist(), "y": y.tolist()}) for x, y in zip(X[:9], Y, strict=False))
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    with pytest.raises(
        ConfigError, match=r"^on_bad: 'rollback' goes back in the stream, and 'stdin' cannot: set "
    ):
        run(config(on_bad="rollback", stream={"source": "stdin"}), out="out")
    assert not Path("out").exists()


def test_losses_that_are_not_finite_are_left_out_and_counted() -> None:
    bad = Y.copy()
    bad[[17, 100, 101]] = 1e30  # its square is infinite in float32
    np.savez("t.npz", x=X, y=bad)
    own = {"source": "arrays", "inputs": "t.npz", "batch_size": 1, "shuffle": False}
    summary = run(config(0.01, on_bad="skip", stream=own), out="out")
    none = Y.copy()
    none[[17, 100, 101]] = np.nan
    np.savez("t.npz", x=X, y=none)
    missing = run(config(0.01, stream=own | {"missing_target": "predict"}), out="missing")
    assert summary["prequential"].pop("skipped") == missing["prequential"].pop("unlabelled") == 3
    assert summary["prequential"] == missing["prequential"]
    mine, its = weights_in("out"), weights_in("missing")
    assert all(torch.equal(mine[name], value) for name, value in its.items())
    lines = [json.loads(line) for line in Path("out", "metrics.jsonl").read_text().splitlines()]
    assert [line.get("skipped") for line in lines][:4] == [1, None, 2, None]


def test_a_layer_that_would_keep_it_is_refused_by_the_key() -> None:
    network = config()["network"]
    network["layers"][0]["modules"].append({"type": "BatchNorm1d", "num_features": 8})
    with pytest.raises(NetworkError, match=r"^on_bad: 'skip' leaves out .* layer 'a' moves .*running_mean"):
        run(config(on_bad="skip", network=network), out="out")
