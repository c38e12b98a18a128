"""A run that is killed, or asked to end, and goes on, ends as one that was not: to the bit, each line once."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

import hamdist
from hamdist import run
from hamdist.cli import app
from hamdist.errors import RunError, UserError
from hamdist.runs import inline_cuts
from hamdist.runs.checkpoints import ticks_in
from hamdist.runs.folder import Folder
from hamdist.runs.inline import InlineRun
from hamdist.runs.inline_cuts import InlineCuts

pytestmark = pytest.mark.usefixtures("folder", "one_fitter")

TANH = [{"type": "Linear", "in_features": 16, "out_features": 16}, {"type": "Tanh"}]
LAYERS = [
    {
        "name": "first",
        "modules": [{"type": "Linear", "in_features": 64, "out_features": 16}, {"type": "Tanh"}],
    },
    {"name": "block", "repeat": 3, "residual": True, "modules": TANH},
    {"name": "head", "modules": [{"type": "Linear", "in_features": 16, "out_features": 10}]},
]
DIGITS = {"source": "digits", "batch_size": 8, "samples": 400, "holdout": 0.05}


def config(**sections: Any) -> dict[str, Any]:
    return {
        "name": "going-on",
        "stream": DIGITS,
        "network": {"loss": "cross_entropy", "layers": LAYERS},
        "locality": {"mode": "local"},
        "learning": {"beta": 0.05, "adaptive": {"type": "adam"}},
        "checkpoint": {"every_ticks": 10, "keep": 3},
        "metrics_every": 56,
    } | sections


@pytest.fixture(autouse=True)
def written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks wait for every checkpoint, so that one knows which there are."""
    look = InlineCuts.look

    def looking(self: InlineCuts) -> None:
        look(self)
        self.close()

    monkeypatch.setattr(InlineCuts, "look", looking)


class Killed(BaseException):
    """As a SIGKILL would: nothing is written after it."""


def broken_off(tick: int, given: Any, out: str, **more: Any) -> None:
    """A run that ends once so many ticks are done, with nothing written at its end."""
    report = InlineRun._report

    def dying(self: InlineRun) -> None:
        report(self)
        if self.runtime.tick >= tick:
            self._cuts.close()
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InlineRun, "_report", dying)
        patch.setattr(InlineRun, "_finish", lambda self, *_: self.recorder.directory._metrics.close())
        with pytest.raises(RunError, match="Killed"):
            run(given, out=out, **more)


@contextmanager
def signalled(tick: int, number: int) -> Iterator[None]:
    """Within it a signal comes when so many ticks of a run are done."""
    report = InlineRun._report

    def reporting(self: InlineRun) -> None:
        report(self)
        if self.runtime.tick == tick:
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InlineRun, "_report", reporting)
        yield


VOLATILE = (
    *("wall_seconds", "phases", "ticks_per_second", "samples_per_second", "directory"),
    *("peak_memory_bytes", "checkpoints", "execution", "latency", "predictions"),
)


def figures(directory: str | Path) -> dict[str, Any]:
    """All of a run directory that does not tell of time."""
    path = Path(directory)
    summary = json.loads((path / "summary.json").read_text())
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    weights = {
        f"{file.stem}.{name}": tensor.numpy().tobytes()
        for file in sorted((path / "weights").glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    return {
        "summary": {key: value for key, value in summary.items() if key not in VOLATILE},
        "lines": [{key: value for key, value in line.items() if key != "seconds"} for line in lines],
        "weights": weights,
    }


Undisturbed = Callable[[dict[str, Any]], Path]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The folder of a run that nothing disturbs, the same for all tests, and beside it its predictions."""
    made: dict[str, Path] = {}

    def folder_of(given: dict[str, Any]) -> Path:
        given = {**given, "checkpoint": {}}
        key = json.dumps(given)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("undisturbed") / "out"
            run(given, out=str(made[key]), predictions=str(made[key].with_suffix(".jsonl")))
        return made[key]

    return folder_of


CASES: dict[str, dict[str, Any]] = {
    "adam": {},
    "momentum": {"learning": {"beta": 0.05, "dissipation": {"weight": 0.1}}},
    "non-local": {"locality": {"mode": "nonlocal"}},
    "groups and delays": {
        "locality": {"mode": "groups", "groups": [[0, 1], [2, 3, 4]], "delays": {"1->2": 3}}
    },
    "held": {"stream": {**DIGITS, "samples": 200, "hold": 3}},
    "settled": {
        "stream": {**DIGITS, "samples": 80, "hold": 10},
        "locality": {"pairing": "current", "gate": "settled"},
    },
    "graphs": {"locality": {"stash": "graph"}},
    "standardised": {"stream": {**DIGITS, "standardise": True}},
    "short batches": {"stream": {**DIGITS, "samples": 403, "batch_size": 10}},
    "stacked": {"placement": {"stack": True}},
    "chunks": {"placement": {"stack": True, "chunk": 4}},
    "chunks of held batches": {  # every second cut is in the midst of a hold
        "stream": {**DIGITS, "samples": 80, "hold": 8},
        "placement": {"stack": True, "chunk": 4},
    },
    "dropout": {
        "network": {
            "loss": "cross_entropy",
            "layers": [
                LAYERS[0],
                {"name": "dropped", "modules": [*TANH, {"type": "Dropout", "p": 0.3}]},
                LAYERS[2],
            ],
        }
    },
    "batch statistics": {
        "network": {
            "loss": "cross_entropy",
            "layers": [
                LAYERS[0],
                {"name": "normed", "modules": [*TANH, {"type": "BatchNorm1d", "num_features": 16}]},
                LAYERS[2],
            ],
        }
    },
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=[pytest.mark.slow] if "placement" in sections else [])
        for name, sections in CASES.items()
    ],
)
def test_a_killed_run_ends_as_one_that_was_not(undisturbed: Undisturbed, case: str):
    given = config(**CASES[case])
    broken_off(35, given, "out")
    assert ticks_in(Folder("out/checkpoints"))
    again = run(given, out="out", resume=True)
    assert again["status"] == "finished"
    assert figures("out") == figures(undisturbed(given))


@pytest.mark.slow
def test_checkpoints_change_nothing(undisturbed: Undisturbed):
    given = config(placement={"stack": True, "chunk": 4})
    told = run(given, out="with")["checkpoints"]
    assert told["written"] == 4
    assert figures("with") == figures(undisturbed(given))


def test_a_run_may_be_killed_again_and_again(undisturbed: Undisturbed):
    """Its checkpoints are where the config says."""
    given = config(checkpoint={"every_ticks": 10, "to": "elsewhere/kept", "keep": 1})
    for tick in (13, 35, 36, 48):
        broken_off(tick, given, "out", resume="auto")
        assert ticks_in(Folder("elsewhere/kept")) == [tick // 10 * 10]
    run(given, out="out", resume="auto")
    assert figures("out") == figures(undisturbed(given))
    assert not Path("out/checkpoints").exists()


def test_where_one_of_two_places_holds_nothing_whole_the_other_is_offered(undisturbed: Undisturbed):
    elsewhere = config(checkpoint={"every_ticks": 10, "to": "elsewhere"})
    broken_off(25, config(), "out")
    shutil.copytree("out/checkpoints", "elsewhere")
    for manifest in Path("elsewhere").glob("*/manifest.json"):
        manifest.write_text("{")
    with pytest.raises(
        UserError, match=r"elsewhere holds no checkpoint that is whole.*whole is that of tick 20"
    ):
        run(elsewhere, out="out", resume=True)
    run(elsewhere, out="out", resume="auto")
    assert figures("out") == figures(undisturbed(config()))


def test_a_run_that_ended_without_some_of_its_weights_is_not_finished():
    run(config(), out="out")
    undisturbed, summary, file = figures("out"), Path("out/summary.json"), "weights/head.safetensors"
    Path("out", file).unlink()
    told = json.loads(summary.read_text())
    summary.write_text(json.dumps({**told, "missing": {file: "lost with its actor"}}))
    run(config(), out="out", resume="auto")
    assert figures("out") == undisturbed


def test_a_run_killed_before_its_first_checkpoint_begins_again(undisturbed: Undisturbed):
    broken_off(7, config(), "out")
    with pytest.raises(UserError, match="out holds no checkpoint to go on from: it ended before the first"):
        run(out="out", resume=True)
    run(config(), out="out", resume="auto")
    assert figures("out") == figures(undisturbed(config()))


@pytest.mark.slow
def test_how_it_runs_may_change(undisturbed: Undisturbed):
    """Chunks of another length, or none, from a tick that is none of theirs. Lines of metrics end where chunks do."""
    broken_off(35, config(placement={"stack": True, "chunk": 4}), "out")
    shutil.copytree("out", "other")
    theirs = figures(undisturbed(config(placement={"stack": True})))
    for out, placement in {"out": {"stack": True}, "other": {"stack": True, "chunk": 5}}.items():
        assert max(ticks_in(Folder(f"{out}/checkpoints"))) % 5 != 0
        run(config(placement=placement), out=out, resume=True)
        ours = figures(out)
        assert (ours["weights"], ours["summary"]) == (theirs["weights"], theirs["summary"]), placement


@pytest.mark.parametrize("samples", [400, 396], ids=["whole batches", "a short one at its end"])
def test_a_finished_run_goes_on_if_it_is_given_more(
    undisturbed: Undisturbed, samples: int, capsys: pytest.CaptureFixture[str]
):
    given = config(stream={**DIGITS, "samples": samples})
    first = run(given, out="out")
    assert run(given, out="out", resume="auto") == {**first, "phases": {}}
    with pytest.raises(UserError, match="out holds a run that is finished: nothing is left to do"):
        run(given, out="out", resume=True)
    run(resume="out", overrides=["stream.samples=560"])
    assert figures("out") == figures(undisturbed(config(stream={**DIGITS, "samples": 560})))


def test_seconds_are_those_of_before_and_now():
    broken_off(35, config(), "out")
    at = json.loads(Path("out/checkpoints/tick-000000000030/manifest.json").read_text())
    summary = run(resume="out")
    assert summary["phases"]["before"] == at["record"]["seconds"] > 0
    assert summary["wall_seconds"] == pytest.approx(sum(summary["phases"].values()))
    seconds = [json.loads(line)["seconds"] for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert seconds == sorted(seconds)


# What may not


def test_another_config_is_refused_by_key():
    broken_off(35, config(), "out")
    changed = ["learning.gamma=0.1", "stream.batch_size=4", "placement.threads=2"]
    for resume in (True, "auto"):
        with pytest.raises(UserError) as caught:
            run(config(), changed, out="out", resume=resume)
        assert [problem.key for problem in caught.value.problems] == ["stream.batch_size", "learning.gamma"]
        assert "was 1.0 and is 0.1 now" in str(caught.value)


def test_a_network_made_otherwise_is_refused_by_layer(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(folder)
    made = "from torch import nn\nSIZE = 16\ndef layers():\n    return [nn.Linear(64, SIZE), nn.Linear(SIZE, 10)]\n"
    (folder / "own_layers.py").write_text(made)
    given = config(network={"loss": "cross_entropy", "factory": "own_layers:layers"})
    broken_off(35, given, "out")
    sys.modules["own_layers"].SIZE = 17  # type: ignore[attr-defined]
    try:
        with pytest.raises(
            UserError, match=r"of another network: 0\.weight is \[16, 64\] float32 there and \[17, 64\]"
        ):
            run(resume="out")
    finally:
        del sys.modules["own_layers"]


def test_a_spoilt_newest_is_refused_and_an_older_one_is_offered(
    undisturbed: Undisturbed, caplog: pytest.LogCaptureFixture
):
    broken_off(35, config(), "out")
    part = Path("out/checkpoints/tick-000000000030/block2.safetensors")
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(
        UserError,
        match=r"part block2\.safetensors of tick 30 was cut short: .* is that of tick 20: `--resume auto`",
    ):
        run(resume="out")
    run(config(), out="out", resume="auto")
    assert "going on from the checkpoint of tick 20" in caplog.text
    assert figures("out") == figures(undisturbed(config()))


def test_folders_without_a_run_are_refused():
    for resume, out, message in (
        ("nowhere", None, "nowhere holds no run to go on with"),
        (True, "nowhere", "nowhere holds no run to go on with"),
        (True, None, "goes on with the run in `out`: name it"),
        ("one", "other", "the run in one goes on there: leave out other"),
    ):
        with pytest.raises(UserError, match=message):
            run(config(), out=out, resume=resume)
    with pytest.raises(UserError, match="name a config"):
        run(out="nowhere", resume="auto")


def test_a_run_that_is_refused_leaves_the_predictions_of_the_one_before():
    run(config(), out="a", predictions="a.jsonl")
    before = Path("a.jsonl").read_bytes()
    with pytest.raises(UserError, match="a holds a run already"):
        run(config(), out="a", predictions="a.jsonl")
    assert before
    assert Path("a.jsonl").read_bytes() == before


@pytest.mark.parametrize("to", ["file/checkpoints", "nosuch://bucket/checkpoints"])
def test_a_place_that_takes_no_checkpoints_is_told_before_anything_is_made(to: str):
    Path("file").touch()
    with pytest.raises(UserError, match=f"{to} cannot hold checkpoints"):
        run(config(checkpoint={"every_ticks": 10, "to": to}), out="a", predictions="a.jsonl")
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_checkpoints_of_another_run_are_not_written_over():
    given = config(checkpoint={"every_ticks": 10, "to": "kept"})
    run(given, out="one")
    with pytest.raises(UserError, match="kept holds checkpoints of a run already, the newest of tick 50"):
        run(given, out="other")
    assert not Path("other").exists()


# Disks and signals


def test_a_full_disk_is_told_once_and_the_run_goes_on(
    undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    write, full = Path.write_bytes, OSError(28, "No space left on device")

    def writing(self: Path, data: bytes) -> int:
        if "tick-" not in str(self) or "tick-000000000010" in str(self):
            return write(self, data)
        raise full

    monkeypatch.setattr(Path, "write_bytes", writing)
    told = run(config(), out="out")["checkpoints"]
    assert (told["written"], told["failed"], told["last_tick"]) == (1, 4, 10)
    warned = [record for record in caplog.records if "no checkpoint at tick" in record.getMessage()]
    assert [record.levelname for record in warned] == ["WARNING", *["INFO"] * 3]
    assert [path.name for path in Path("out/checkpoints").iterdir()] == ["tick-000000000010"]
    assert figures("out") == figures(undisturbed(config()))


def test_what_is_not_finite_becomes_no_checkpoint(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inline_cuts, "unfinite", lambda nodes: "not all numbers of layer 'head' are finite")
    told = run(config(), out="out")["checkpoints"]
    assert (told["written"], told["failed"]) == (0, 5)
    assert list(Path("out/checkpoints").iterdir()) == []


@pytest.mark.parametrize("placement", [{}, pytest.param({"stack": True, "chunk": 4}, marks=pytest.mark.slow)])
def test_ctrl_c_leaves_a_cut_and_its_results(undisturbed: Undisturbed, placement: dict[str, Any]):
    given = config(placement=placement)
    with signalled(28, signal.SIGINT):
        summary = run(given, out="out")
    assert summary["status"] == "interrupted"
    assert (summary["samples"], summary["samples_seen_once"]) == (28 * 8, True)
    assert summary["checkpoints"]["last_tick"] == 28
    assert run(resume="out")["status"] == "finished"
    assert figures("out") == figures(undisturbed(given))


def test_sigterm_leaves_a_cut_and_says_how_to_go_on(undisturbed: Undisturbed):
    Path("run.yaml").write_text(yaml.safe_dump(config()))
    with signalled(28, signal.SIGTERM):
        result = CliRunner().invoke(app, ["run", "run.yaml", "--out", "out"])
    assert result.exit_code == 143
    assert "go on from tick 28 with: hamdist run --resume out" in result.stderr
    result = CliRunner().invoke(app, ["run", "--resume", "out"])
    assert result.exit_code == 0
    assert figures("out") == figures(undisturbed(config()))
    again = CliRunner().invoke(app, ["run", "run.yaml", "--out", "out", "--resume", "auto"])
    assert again.exit_code == 0
    assert "finished" in again.stderr
    assert CliRunner().invoke(app, ["run", "--resume", "out"]).exit_code == 2


# Predictions


@pytest.mark.parametrize("torn", [False, True])
def test_predictions_leave_once(undisturbed: Undisturbed, torn: bool):
    broken_off(35, config(), "out", predictions="lines.jsonl")
    assert len(Path("lines.jsonl").read_text().splitlines()) > 30 * 8
    if torn:
        with Path("lines.jsonl").open("a") as file:
            file.write('{"sample": 99')
    told = run(config(), out="out", resume=True, predictions="lines.jsonl")
    assert Path("lines.jsonl").read_text() == undisturbed(config()).with_suffix(".jsonl").read_text()
    assert told["predictions"]["lines"] == 400


def test_predictions_leave_standard_output_once(undisturbed: Undisturbed, capfd: pytest.CaptureFixture[str]):
    broken_off(35, config(), "out", predictions="-")
    run(config(), out="out", resume=True, predictions="-")
    assert capfd.readouterr().out == undisturbed(config()).with_suffix(".jsonl").read_text()


# A process that is really gone

KILLED = """
import os, signal, sys
from hamdist.runs.inline import InlineRun
from hamdist.runs.inline_cuts import InlineCuts
from hamdist.runs.inline_cuts import InlineCuts
report = InlineRun._report
def dying(self):
    report(self)
    if self.runtime.tick == int(sys.argv[2]):
        if sys.argv[3] == "written": self._cuts.close()
        os.kill(os.getpid(), signal.SIGKILL)
InlineRun._report = dying
import hamdist
hamdist.run("run.yaml", out=sys.argv[1], resume="auto", predictions="lines.jsonl")
"""


@pytest.mark.slow
def test_sigkill_loses_nothing(undisturbed: Undisturbed):
    """Also while a checkpoint is being written."""
    Path("run.yaml").write_text(yaml.safe_dump(config(checkpoint={"every_ticks": 5})))
    environment = os.environ | {"PYTHONPATH": str(Path(hamdist.__file__).parents[1])}
    for tick, when in ((13, "written"), (31, "now")):
        died = subprocess.run(
            [sys.executable, "-c", KILLED, "out", str(tick), when],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert died.returncode == -signal.SIGKILL, died.stderr
    run("run.yaml", out="out", resume="auto", predictions="lines.jsonl")
    assert figures("out") == figures(undisturbed(config()))
    assert Path("lines.jsonl").read_text() == undisturbed(config()).with_suffix(".jsonl").read_text()


def test_streams_that_cannot_go_back_say_from_where_to_send_again(caplog: pytest.LogCaptureFixture):
    """What is sent again is learnt from as if nothing had been."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        json.dumps({"x": torch.randn(64, generator=generator).tolist(), "y": number % 10}) + "\n"
        for number in range(60)
    ]
    given = config(stream={"source": "stdin"})
    with sent(rows):
        run({**given, "checkpoint": {}}, out="undisturbed")
    with sent(rows):
        broken_off(35, given, "out")
    with sent(rows[30:]):
        run(resume="out")
    assert "send it again from sample 30" in caplog.text
    assert figures("out") == figures("undisturbed")


@contextmanager
def sent(rows: list[str]) -> Iterator[None]:
    """Within it standard input has these lines."""
    Path("sent").write_text("".join(rows))
    with Path("sent").open() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", file)
        yield
