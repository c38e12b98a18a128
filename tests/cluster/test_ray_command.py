"""`hamdist run` over Ray from the shell: it starts a Ray of its own, ends in order on Ctrl-C, leaves nothing behind."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.marked_processes import marked, marked_environment
from support.patience import patient

pytestmark = pytest.mark.slow


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with marked_environment() as found:
        yield found


ENDLESS = """
import itertools

def samples():
    for k in itertools.count():
        yield [float(k % 5), 1.0], k % 2
"""


def started(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A run on an endless stream, the leader of a group of processes."""
    (folder / "endless.py").write_text(ENDLESS)
    file = config(folder, source="iterable", factory="endless:samples")
    line = [sys.executable, "-m", "hamdist", "run", str(file), "--out", "out"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=folder, env=environment, start_new_session=True, **pipes)


def test_sigterm_while_ray_starts(tmp_path: Path, environment: dict[str, str]):
    """Ray has put its own handlers into the place of ours then."""
    with started(tmp_path, environment) as process:
        assert any(told.startswith("starting Ray") or " samples, " in told for told in process.stderr)
        process.send_signal(signal.SIGTERM)
        rest = list(process.stderr)
        assert process.wait(patient(60)) == 143
    assert re.fullmatch(
        r"terminated(; the weights of all layers are in out(; go on from tick \d+ .*)?)?\n", rest[-1]
    )
    assert marked(environment) == {}


def config(folder: Path, **stream: object) -> Path:
    layers = [
        {"name": "a", "modules": [{"type": "Linear", "in_features": 2, "out_features": 4}, {"type": "Tanh"}]},
        {"name": "b", "modules": [{"type": "Linear", "in_features": 4, "out_features": 2}]},
    ]
    document = {
        "name": "small",
        "stream": stream,
        "network": {"loss": "cross_entropy", "layers": layers},
        "placement": {"runtime": "ray", "actors": "per-layer", "address": "local"},
        "metrics_every": 1,
    }
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def test_ctrl_c_ends_a_run_on_lines_from_standard_input(tmp_path: Path, environment: dict[str, str]):
    """The stream lives in the command's own process, since only that has the standard input. What has entered is
    learnt, the weights are there, and no process, socket or folder of the run is."""
    line = [sys.executable, "-m", "hamdist", "run", str(config(tmp_path, source="stdin")), "--out", "out"]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, cwd=tmp_path, env=environment, **pipes) as process:
        for x in (0.5, -0.5) * 20:
            process.stdin.write(json.dumps({"x": [x, 1.0], "y": int(x > 0)}) + "\n")
        process.stdin.flush()
        assert any(told.startswith("40 samples") for told in process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.wait(patient(180)) == 130
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["status"], summary["samples"], summary["samples_seen_once"]) == ("interrupted", 40, True)
    assert {file.name for file in (tmp_path / "out" / "weights").iterdir()} == {
        "a.safetensors",
        "b.safetensors",
    }
    assert marked(environment) == {}
    assert list(Path(environment["TMPDIR"]).glob("hamdist-*")) == []
