"""Predictions as they leave: on standard output, in a file, to somebody who reads no more, on a disk without room."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from hamdist import load_model, run
from hamdist.cli import app
from hamdist.errors import RunError, UserError

LAYERS = [
    {"name": "a", "modules": [{"type": "Linear", "in_features": 3, "out_features": 4}]},
    {"name": "b", "modules": [{"type": "Linear", "in_features": 4, "out_features": 3}]},
]


def config(**stream: Any) -> dict[str, Any]:
    """Without learning, so that the model at the end says what was predicted."""
    return {
        "name": "answers",
        "stream": {"source": "stdin"} | stream,
        "network": {"loss": "cross_entropy", "layers": LAYERS},
        "learning": {"beta": 0.0},
        "placement": {"runtime": "inline"},
    }


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """The current folder, with a table of 30 rows in it."""
    Path("run.yaml").write_text(yaml.safe_dump(config()))
    rows = [[*map(str, x), "cba"[y]] for x, y in samples()]
    Path("table.csv").write_text("\n".join(",".join(row) for row in [["x", "y", "z", "kind"], *rows]) + "\n")
    return folder


def samples() -> list[tuple[list[float], int]]:
    numbers = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    return [(row, index % 3) for index, row in enumerate(numbers.tolist())]


def lines() -> str:
    return "".join(json.dumps({"x": x, "y": y}) + "\n" for x, y in samples())


def expected() -> list[dict[str, Any]]:
    """Of the plain model; probabilities to 1e-5, since a row alone is computed otherwise than in a batch."""
    with torch.no_grad():
        shares = load_model("out")(torch.tensor([x for x, _ in samples()])).softmax(1)
    return [
        {"sample": n, "prediction": int(row.argmax()), "probabilities": pytest.approx(row.tolist(), abs=1e-5)}
        for n, row in enumerate(shares)
    ]


def parsed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def hamdist(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["run", "run.yaml", "--out", "out", *arguments], input=lines())


def test_standard_input_is_answered_on_standard_output_and_all_else_is_on_the_other():
    result = hamdist()
    assert result.exit_code == 0, result.output
    assert parsed(result.stdout) == expected()
    assert "finished" in result.stderr
    told = json.loads(Path("out/summary.json").read_text())["predictions"]
    assert told == {"to": "standard output", "lines": 30}


def test_quiet_leaves_the_answers_alone():
    result = hamdist("--quiet")
    assert (len(parsed(result.stdout)), result.stderr) == (30, "")


def test_in_a_file_they_are_not_on_standard_output():
    Path("answers.jsonl").write_text("of a run before\n" * 100)
    result = hamdist("--predictions", "answers.jsonl", "stream.batch_size=8")
    assert parsed(Path("answers.jsonl").read_text()) == expected()
    assert "sample" not in result.stdout.splitlines()[0]
    assert "finished" in result.stdout


def test_of_any_source_by_the_labels_that_its_config_lists():
    table = config(source="csv", path="table.csv", target="kind", classes=["c", "b", "a"], batch_size=7)
    summary = run(table, out="out", predictions="new/folder/answers.jsonl")
    assert summary["predictions"] == {"to": "new/folder/answers.jsonl", "lines": 30}
    found = parsed(Path("new/folder/answers.jsonl").read_text())
    assert found == [line | {"prediction": "cba"[line["prediction"]]} for line in expected()]


def test_held_out_samples_are_not_among_them():
    digits = {"source": "digits", "samples": 32, "batch_size": 16}
    layer = {"name": "a", "modules": [{"type": "Linear", "in_features": 64, "out_features": 10}]}
    told = config() | {"stream": digits, "network": {"loss": "cross_entropy", "layers": [layer]}}
    run(told, out="out", predictions="answers.jsonl")
    assert [line["sample"] for line in parsed(Path("answers.jsonl").read_text())] == list(range(32))


def test_a_file_that_cannot_be_written_is_refused_before_the_first_tick():
    with pytest.raises(UserError, match=r"^predictions cannot be written to run\.yaml/x: "):
        run(config(source="csv", path="table.csv", target="kind"), out="out", predictions="run.yaml/x")
    assert not Path("out").exists()


def test_a_disk_without_room_ends_no_run(caplog: pytest.LogCaptureFixture):
    table = config(source="csv", path="table.csv", target="kind")
    with pytest.raises(
        RunError, match=r"^not all of the run could be written to out: /dev/full \(No space left"
    ):
        run(table, out="out", predictions="/dev/full")
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["status"], summary["samples"], summary["predictions"]["lines"]) == ("finished", 30, 0)
    told = "/dev/full: No space left on device; the run goes on without its predictions"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [told]


@pytest.mark.slow
def test_when_nobody_reads_any_more_the_run_ends_in_order():
    """Three lines are read, then the pipe is closed, with more samples to come: those before are learnt, in order."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hamdist", "run", "run.yaml", "--out", "out"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(lines())
    process.stdin.flush()
    read = [json.loads(process.stdout.readline())["sample"] for _ in range(3)]
    process.stdout.close()
    process.stdin.write(lines())
    process.stdin.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), read) == (130, [0, 1, 2]), errors
    assert "Traceback" not in errors
    assert "Broken" not in errors
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["status"], summary["samples_seen_once"]) == ("interrupted", True)
    assert 3 <= summary["samples"] <= 60
