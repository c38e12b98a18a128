"""What is written of a run when something goes wrong in writing it: everything else, and the summary says what is not.

Disks that are full, signals and processes that die are real ones: /dev/full, a limit on the size of files, SIGKILL.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from hamdist import export, load_model, run
from hamdist.engine.kept import Kept
from hamdist.errors import NetworkError, RunError, UserError
from hamdist.report.json_text import json_text
from hamdist.report.metrics import Cut, Window
from hamdist.runs.layer_file import read_layer, write_layer
from hamdist.runs.lines import Lines
from hamdist.runs.record import RunDirectory
from hamdist.runs.recorder import Recorder
from hamdist.runs.results import Results
from hamdist.runs.whole_file import write_whole

pytestmark = pytest.mark.usefixtures("folder")

RESULTS = Results(4, 1.0, 8, True, {"loss": 0.5}, {}, {}, {})


def files_in(folder: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def summary_in(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / "summary.json").read_text())


# a file that is there as a whole or not at all


def test_a_file_is_replaced_at_once():
    path = Path("new/folder/file")
    write_whole(path, "one")
    write_whole(path, "two")
    assert (path.read_text(), files_in("new")) == ("two", {"folder/file"})


def test_who_may_read_a_file_says_the_umask():
    before = os.umask(0o027)
    try:
        recorder().finish(RESULTS, "finished", {"a": kept(w=torch.ones(2))})
    finally:
        os.umask(before)
    files = [path for path in Path("out").rglob("*") if path.is_file()]
    assert {(path.name, path.stat().st_mode & 0o777) for path in files} == {
        (name, 0o640) for name in ("config.yaml", "metrics.jsonl", "a.safetensors", "summary.json")
    }


def test_after_an_error_the_old_file_stands(monkeypatch: pytest.MonkeyPatch):
    write_whole(Path("file"), "old")
    monkeypatch.setattr(os, "fsync", raising(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_whole(Path("file"), "new")
    assert (Path("file").read_text(), files_in(".")) == ("old", {"file"})


def test_a_process_that_is_killed_as_it_writes_leaves_the_old_file():
    write_whole(Path("file"), "old")
    code = """
import os, signal
from pathlib import Path
from hamdist.runs.whole_file import whole_file
with whole_file(Path("file")) as beside:
    beside.write_text("half of the n")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert Path("file").read_text() == "old"


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        raise error

    return function


# one thing that cannot be written, among others


def kept(**tensors: Tensor) -> Callable[[], Kept]:
    return lambda: Kept(tensors)


def recorder() -> Recorder:
    return Recorder(RunDirectory(Path("out"), "seed: 0\n"), None, None, 4, 1, 8)


def test_a_layer_that_cannot_be_had_keeps_no_other_from_being_written():
    weights = {
        "a": kept(w=torch.ones(2)),
        "b": raising(ValueError("of\nno use")),
        "c": lambda: Kept({"w": torch.zeros(1)}, lost={"extra": "cannot be kept"}),
    }
    told = (
        "not all of the run could be written to out: weights/b.safetensors (ValueError: of); "
        "weights/c.safetensors (extra: cannot be kept)"
    )
    with pytest.raises(RunError) as caught:
        recorder().finish(RESULTS, "finished", weights)
    assert str(caught.value) == told
    summary = summary_in("out")
    assert (summary["status"], summary["samples"]) == ("finished", 8)
    assert summary["weights"] == {"a": ["w"], "c": ["w"]}
    assert summary["missing"] == {
        "weights/b.safetensors": "ValueError: of",
        "weights/c.safetensors": "extra: cannot be kept",
    }
    assert torch.equal(load_file("out/weights/a.safetensors")["w"], torch.ones(2))


def test_what_failed_first_is_told_first():
    with pytest.raises(
        RunError, match=r"^out of numbers; not all of the run could be written to out: "
    ) as caught:
        recorder().finish(
            RESULTS, "failed", {"a": raising(ValueError("no"))}, ArithmeticError("out of numbers")
        )
    assert isinstance(caught.value.__cause__, ArithmeticError)
    assert summary_in("out")["error"] == "out of numbers"


def test_an_interruption_leaves_whole_files_and_a_summary_that_says_which_are_missing():
    weights = {
        "a": kept(w=torch.ones(2)),
        "b": raising(KeyboardInterrupt()),
        "c": kept(w=torch.ones(2)),
    }
    with pytest.raises(KeyboardInterrupt):
        recorder().finish(RESULTS, "finished", weights)
    assert files_in("out") == {"config.yaml", "metrics.jsonl", "summary.json", "weights/a.safetensors"}
    why = "the program was interrupted before it was written"
    assert summary_in("out")["missing"] == {f"weights/{name}.safetensors": why for name in "bc"}


def test_lost_layers_are_in_the_summary():
    summary = recorder().finish(
        RESULTS, "failed", {"a": kept(w=torch.ones(1))}, RunError("actor 1 was lost"), lost=["b"]
    )
    assert summary["missing"] == {"weights/b.safetensors": "lost with its actor"}


def test_metrics_for_which_there_is_no_room_do_not_end_a_run(caplog: pytest.LogCaptureFixture):
    Path("out").mkdir()
    Path("out/metrics.jsonl").symlink_to("/dev/full")
    recording = recorder()
    for loss in (0.5, 0.25):
        recording.directory.add_metrics({"loss": loss})
    told = "out/metrics.jsonl: No space left on device; the run goes on without its metrics"
    assert [record.getMessage() for record in caplog.records] == [told]
    with pytest.raises(RunError, match=r"written to out: metrics.jsonl \(No space left on device\)$"):
        recording.finish(RESULTS, "finished", {"a": kept(w=torch.ones(2))})
    assert summary_in("out")["missing"] == {"metrics.jsonl": "No space left on device"}
    assert summary_in("out")["weights"] == {"a": ["w"]}


def test_a_folder_that_was_removed_is_made_again():
    recording = recorder()
    recording.directory.add_metrics({"loss": 0.5})
    shutil.rmtree("out")
    with pytest.raises(RunError, match=r"metrics.jsonl \(it was removed while the run went on\)$"):
        recording.finish(RESULTS, "finished", {"a": kept(w=torch.ones(2))})
    assert files_in("out") == {"config.yaml", "summary.json", "weights/a.safetensors"}


def test_a_folder_in_which_nothing_can_be_written_is_told_in_one_line():
    recording = recorder()
    shutil.rmtree("out")
    Path("out").write_text("a file")
    with pytest.raises(RunError) as caught:
        recording.finish(RESULTS, "finished", {"a": kept(w=torch.ones(2)), "b": kept(w=torch.ones(2))})
    assert len(str(caught.value).splitlines()) == 1
    assert "weights/a.safetensors and weights/b.safetensors (Not a directory); " in str(caught.value)


def test_a_run_whose_config_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "fsync", raising(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"^out cannot be the run directory: .*No space left"):
        recorder()


# what JSON does not have


def test_json_that_every_reader_takes():
    value = {
        1: float("nan"),
        "tensor": torch.tensor([1.5, float("inf")]),
        "folder": Path("a"),
        "nested": ({"x": (1, True, None)}, range(2)),
    }
    text = json_text(value)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(text, parse_constant=refuse) == {
        "1": None,
        "tensor": [1.5, None],
        "folder": "a",
        "nested": [{"x": [1, True, None]}, [0, 1]],
    }


def test_a_layer_comes_back_from_its_file_as_it_was():
    tensors = {"z": torch.randn(2, 3, dtype=torch.complex128), "half": torch.ones(2, dtype=torch.bfloat16)}
    told = {"extra": json.dumps({"version": [1, None, "é"]})}
    write_layer(Path("layer.safetensors"), Kept(tensors, told))
    found = read_layer(Path("layer.safetensors"))
    assert found.pop("extra") == {"version": [1, None, "é"]}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


# layers with a state_dict of their own


class Versioned(nn.Linear):
    """A layer with an extra state; making it fails from a call on."""

    def __init__(self, state: Any = None, fails_at: int = -1) -> None:
        super().__init__(6, 3)
        self.state, self.fails_at = state, fails_at

    def get_extra_state(self) -> Any:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise ValueError("no state today")
        return STATES[self.state] if isinstance(self.state, str) else self.state

    def set_extra_state(self, state: Any) -> None:
        self.came = state


STATES = {"tensor": torch.arange(3.0), "function": print, "tuple": (1, 2)}


def config(**arguments: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "stream": {"source": "iterable", "factory": f"{__name__}:six_numbers"},
        "network": {
            "loss": "cross_entropy",
            "layers": [
                {
                    "name": "in",
                    "modules": [{"type": "Linear", "in_features": 6, "out_features": 6}],
                },
                {"name": "own", "modules": [{"type": f"{__name__}:Versioned", **arguments}]},
            ],
        },
        "placement": {"runtime": "inline"},
    }


def six_numbers() -> list[tuple[list[float], int]]:
    return [([0.1 * i * k for i in range(6)], k % 3) for k in range(10)]


@pytest.mark.parametrize("state", [{"version": 3, "parts": [1.5, None]}, "tensor"])
def test_an_extra_state_is_kept_and_restored(state: Any):
    run(config(state=state), out="out")
    came = load_model("out").own[0].came
    assert came == state if isinstance(state, dict) else torch.equal(came, STATES[state])
    assert export("out", "model.pt") == 5
    torch.load("model.pt", weights_only=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"state": "function"},
            r"0\._extra_state: an object of type builtin_function_or_method would have to be",
        ),
        (
            {"state": "tuple"},
            r"0\._extra_state: an object of type tuple would have to be pickled; return a tensor, or",
        ),
        ({"fails_at": 1}, r"state_dict\(\): ValueError: no state today"),
    ],
)
def test_a_state_dict_that_cannot_be_kept_is_refused_before_the_first_tick(arguments: Any, told: str):
    with pytest.raises(NetworkError, match=rf"layer 'own' could not be written at the end of a run: {told}"):
        run(config(**arguments), out="out")
    assert not Path("out").exists()


def test_a_state_dict_that_fails_at_the_end_costs_no_weights():
    with pytest.raises(
        RunError, match=r"weights/own.safetensors \(state_dict\(\): ValueError: no state today\)$"
    ):
        run(config(fails_at=2), out="out")
    assert summary_in("out")["weights"] == {name: ["0.weight", "0.bias"] for name in ("in", "own")}
    assert files_in("out/weights") == {"in.safetensors", "own.safetensors"}


# the command, on a disk that has no room


@pytest.mark.slow
def test_on_a_full_disk_the_command_keeps_what_fits_and_says_what_does_not():
    """No file may be larger than 8 KiB here: one layer's weights are, of three."""
    sizes = [(64, 16), (16, 256), (256, 10)]
    layers = [
        {"name": name, "modules": [{"type": "Linear", "in_features": i, "out_features": o}]}
        for name, (i, o) in zip("abc", sizes, strict=True)
    ]
    told = {
        "name": "full",
        "stream": {"source": "digits", "samples": 320, "batch_size": 16},
        "network": {"loss": "cross_entropy", "layers": layers},
        "placement": {"runtime": "inline"},
    }
    Path("run.yaml").write_text(yaml.safe_dump(told))
    done = subprocess.run(
        [sys.executable, "-m", "hamdist", "run", "run.yaml", "--out", "out"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == (
        "not all of the run could be written to out: weights/b.safetensors and weights/c.safetensors (File too large)"
    )
    assert "Traceback" not in done.stderr
    assert summary_in("out")["weights"] == {"a": ["0.weight", "0.bias"]}
    assert load_file("out/weights/a.safetensors")["0.weight"].shape == (16, 64)


# what goes on


def window(ticks: int, loss: float) -> Window:
    return Window(ticks, ticks * 4, Cut(4, {"loss": loss}))


def test_windows_that_come_again_are_written_once():
    """As they do after a recovery, which does ticks again."""
    found = Recorder(RunDirectory(Path("out"), ""), None, None, 4, 1, 4)
    found.add([window(1, 4.0), window(2, 8.0)], 2, 8)
    found.add([window(2, 99.0), window(3, 12.0), window(1, 99.0)], 3, 12)
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert [(line["ticks"], line["loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    found.finish(RESULTS, "finished", {})


def test_a_position_tells_of_the_ticks_before_it_alone():
    """Windows that came but had no line yet are told; lines of later ticks go."""
    found = Recorder(RunDirectory(Path("out"), ""), None, None, 4, 1, 4)
    found.add([window(1, 4.0), window(2, 8.0), window(3, 12.0), window(4, 16.0)], 3, 12)
    position = json.loads(json.dumps(found.position(2)))
    assert (position["lines"], position["told"], position["waiting"]) == (2, 8, [])
    assert json.loads(json.dumps(found.position(4)))["waiting"] == [[4, 16, 4, {"loss": 16.0}, 0, 0]]
    found.directory._metrics.close()
    again = Recorder(RunDirectory(Path("out"), "", position["lines"]), None, None, 4, 1, 4, before=position)
    assert len(Path("out/metrics.jsonl").read_text().splitlines()) == 2
    again.add([window(2, 99.0), window(3, 20.0)], 3, 12)
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert [(line["ticks"], line["loss"]) for line in lines] == [(1, 1.0), (2, 2.0), (3, 5.0)]
    again.finish(RESULTS, "finished", {})


@pytest.mark.parametrize("keep", [0, 2, 3, 9, None])
def test_lines_go_on_after_a_whole_one(keep: int | None):
    Path("lines").write_bytes(b"one\ntwo\nthree\nto")
    lines = Lines(Path("lines"), keep)
    stay = 3 if keep is None else min(3, keep)
    assert (lines.kept, lines.last) == (stay, ["", "one", "two", "three"][stay])
    lines.add("more")
    lines.close()
    assert Path("lines").read_text().splitlines() == [*["one", "two", "three"][:stay], "more"]


def test_a_folder_is_one_process_s_at_a_time(tmp_path: Path):
    """Two that go on with one run would write over each other; what a process leaves when it dies keeps nobody out."""
    directory = RunDirectory(tmp_path / "out", "name: x\n")
    other = (
        "import sys; from pathlib import Path; from hamdist.runs.record import RunDirectory\n"
        f"RunDirectory(Path({str(tmp_path / 'out')!r}), 'name: x', lines=0)"
    )
    refused = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
    assert "out is another process's, which is at work there" in refused.stderr
    directory.write_summary({})
    assert not (tmp_path / "out" / ".running").exists()
    assert subprocess.run([sys.executable, "-c", other], capture_output=True, check=False).returncode == 0
    RunDirectory(tmp_path / "out", "name: x", lines=0).write_summary({})
