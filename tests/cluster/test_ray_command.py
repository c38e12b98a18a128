"""`hamdist run` over Ray from the shell: it starts a Ray of its own, ends in order on Ctrl-C, leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from support.patience import patient

pytestmark = pytest.mark.slow

MARK = "HAMDIST_TEST_MARK"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Every process started with it can be found again; Ray finds there the leftover of a driver that crashed."""
    with tempfile.TemporaryDirectory(prefix="hd-", dir="/tmp") as folder:
        leftover = Path(folder, "ray", "ray_current_cluster")
        leftover.parent.mkdir()
        leftover.write_text("127.0.0.1:1")
        yield os.environ | {MARK: uuid.uuid4().hex, "RAY_TMPDIR": folder, "TMPDIR": folder}


def marked(environment: dict[str, str]) -> dict[Path, str]:
    """The command lines of all living processes with the mark, by their folder in /proc."""
    wanted, found = f"{MARK}={environment[MARK]}".encode(), {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found[process] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def listening(processes: Iterable[Path]) -> set[str]:
    """The addresses at which these processes listen to TCP, as the kernel writes them."""
    sockets = set()
    for process in processes:
        with suppress(OSError):
            sockets |= {os.readlink(file) for file in (process / "fd").iterdir()}
    tables = [Path("/proc/net", table).read_text() for table in ("tcp", "tcp6")]
    lines = [line.split() for line in "".join(tables).splitlines()]
    return {
        line[1].partition(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets
    }


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and that as an address of IPv6
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


def test_sigterm_to_the_whole_group_loses_nothing(tmp_path: Path, environment: dict[str, str]):
    """As `timeout` and batch systems send it: Ray's processes are not in the group, and listen on this machine only."""
    with started(tmp_path, environment) as process:
        assert any(" samples, " in told for told in process.stderr)
        assert listening(marked(environment)) <= LOOPBACK
        os.killpg(process.pid, signal.SIGTERM)
        *_, last = process.stderr
        assert process.wait(patient(60)) == 143
    told = "terminated; the weights of all layers are in out; go on from tick {} with: hamdist run --resume out\n"
    (checkpoint,) = (tmp_path / "out" / "checkpoints").glob("tick-*")
    assert last == told.format(int(checkpoint.name.removeprefix("tick-")))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["status"], summary["samples_seen_once"]) == ("interrupted", True)
    assert sorted(file.stem for file in tmp_path.glob("out/weights/*")) == ["a", "b"]
    assert marked(environment) == {}
    assert list(Path(environment["TMPDIR"]).glob("hamdist-*")) == []


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
