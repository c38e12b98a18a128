"""The command line as a shell: what it passes on, what it prints where, and its exit status.

What it calls is replaced by stand-ins here; commands from end to end are tested with the runs themselves.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from hamdist.cli import app
from hamdist.config import load
from hamdist.errors import ConfigError, DivergenceError, Problem
from hamdist.report.progress import Snapshot

SUMMARY = {
    "status": "done",
    "ticks": 4010,
    "samples": 64000,
    "samples_seen_once": True,
    "loss": 0.0123456,
    "prequential": {"loss": 0.25, "accuracy": 0.95},
    "holdout": None,
    "samples_per_second": 12345.6,
    "wall_seconds": 5.25,
    "directory": "runs/[digits]",
}


def hamdist(*arguments: str) -> Any:
    """The command's result, with exit_code, stdout and stderr."""
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "120", "TERM": "dumb"})


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts functions in the place of those of a module: stand_in("hamdist.runs.run", run=…)."""

    def replace(module: str, **functions: Callable[..., Any]) -> None:
        made = ModuleType(module)
        vars(made).update(functions)
        monkeypatch.setitem(sys.modules, module, made)

    return replace


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), ["run", "check", "plan", "export", "--version"]),
        (("run",), ["CONFIG", "KEY.PATH=VALUE", "--out", "--profile", "digits", "learning.beta=0.05"]),
        (("check",), ["CONFIG", "KEY.PATH=VALUE", "mistake"]),
        (("plan",), ["CONFIG", "KEY.PATH=VALUE", "--png"]),
        (("export",), ["DIR", "--to", "state_dict"]),
    ],
)
def test_help(command: tuple[str, ...], words: list[str]) -> None:
    result = hamdist(*command, "--help")
    assert result.exit_code == 0
    assert [word for word in words if word not in result.stdout] == []


@pytest.mark.slow
def test_help_does_not_load_pytorch() -> None:
    code = "import sys; from hamdist.cli import app; app(['--help'], standalone_mode=False)"
    code += "; print('torch' in sys.modules)"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda package: {"hamdist": "1.2.3"}[package])
    result = hamdist("--version")
    assert (result.exit_code, result.stdout) == (0, "hamdist 1.2.3\n")


@pytest.mark.parametrize(
    "arguments", [("run",), ("nothing",), ("run", "digits", "--quick"), ("export", "there")]
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    result = hamdist(*arguments)
    assert result.exit_code == 2
    assert "Usage" in result.stderr


def test_run_passes_everything_on(stand_in: Callable[..., None]) -> None:
    seen: list[Any] = []

    def run(
        config: str,
        overrides: list[str],
        out: Path | None,
        on_progress: Callable[[Snapshot], None],
        profile: bool,
        predictions: Path | None,
        begun: float,
        resume: bool | str,
    ) -> Any:
        seen.extend([config, list(overrides), out, profile, predictions, resume])
        on_progress(Snapshot(10, 160, 64000, {"accuracy": 0.125}, 1000.0, 0.1))
        return SUMMARY

    stand_in("hamdist.runs.run", run=run)
    result = hamdist("run", "digits", "learning.beta=0.05", "seed=1", "--out", "there", "--profile")
    assert result.exit_code == 0
    assert seen == ["digits", ["learning.beta=0.05", "seed=1"], Path("there"), True, None, False]
    assert result.stderr == "160 of 64,000 samples, 1,000 a second, accuracy 0.125\n"
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "status done",
        "loss 0.01235",
        "prequential loss 0.25, accuracy 0.95",
        "hold-out none",
        "samples 64,000 in 4,010 ticks, each seen once",
        "speed 12,346 samples a second",
        "duration 5.2 s",
        "directory runs/[digits]",
    ]


def test_bad_input_is_status_2(stand_in: Callable[..., None]) -> None:
    stand_in("hamdist.runs.run", run=raising(ConfigError(Problem("seed", "wrong"), "and more")))
    result = hamdist("run", "digits")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "seed: wrong\nand more\n")


def test_a_failed_run_is_status_1(stand_in: Callable[..., None]) -> None:
    stand_in(
        "hamdist.runs.run",
        run=raising(DivergenceError("layer 'head' diverged at tick 7: lower learning.beta")),
    )
    result = hamdist("run", "digits")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "layer 'head' diverged at tick 7: lower learning.beta\n"


def test_an_interrupted_run_is_status_130(stand_in: Callable[..., None]) -> None:
    stand_in("hamdist.runs.run", run=raising(KeyboardInterrupt()))
    result = hamdist("run", "digits")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def findings(config: str, overrides: list[str], trust: bool = False) -> tuple[list[str], list[str]]:
    """As `hamdist.runs.check.findings`, but for the config alone."""
    try:
        load(config, overrides)
    except ConfigError as error:
        return [str(problem) for problem in error.problems], []
    return [], ["stream.samples: too many"]


def test_check_prints_every_problem(stand_in: Callable[..., None]) -> None:
    stand_in("hamdist.runs.check", findings=findings)
    result = hamdist("check", "digits", "locality.mode=lokal", "learning.tau=0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "override locality.mode=lokal: locality.mode: 'lokal' is not accepted; did you mean 'local'?",
        "override learning.tau=0: learning.tau: must be greater than 0, got 0",
    ]


def test_check_of_a_good_config(stand_in: Callable[..., None]) -> None:
    stand_in("hamdist.runs.check", findings=findings)
    result = hamdist("check", "digits")
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        "digits: no problems found\nnote: stream.samples: too many\n",
        "",
    )


def test_plan_prints_layers_edges_and_notes(stand_in: Callable[..., None]) -> None:
    layer = SimpleNamespace(
        name="embed",
        kind="Linear+Tanh",
        parameters=4160,
        inputs_shape=(1, 8, 8),
        output_shape=(64,),
        arrival=1,
        depth_delay=10,
        stash_bytes=40960,
        flops=8192,
        device="cpu",
        actor=0,
    )
    forward = SimpleNamespace(
        source="embed", target="head", delay=3, kind="forward", signal_bytes=256, lag=None
    )
    back = SimpleNamespace(source="head", target="embed", delay=1, kind="feedback", signal_bytes=999, lag=2)
    drawn: list[Path] = []
    planned = SimpleNamespace(
        layers=[layer],
        edges=[forward, back],
        notes=["a [bold] note"],
        draw=drawn.append,
        order=["   1  evaluate  embed"],
    )
    stand_in("hamdist.runs.run", plan=lambda config, overrides: planned)
    result = hamdist("plan", "digits", "--png", "net.png")
    assert result.exit_code == 0
    rows = [" ".join(line.replace("│", " ").split()) for line in result.stdout.splitlines()]
    assert "embed Linear+Tanh 1×8×8 → 64 4,160 1 10 41 kB 8.2 k" in rows
    assert "embed head forward 3 256 B" in rows
    assert "head embed feedback 1 999 B 2" in rows
    assert "a [bold] note" in rows
    assert drawn == [Path("net.png")]
    assert "1 evaluate embed" not in rows
    ordered = hamdist("plan", "digits", "--order")
    assert ordered.stdout.splitlines()[-1] == "   1  evaluate  embed"


def test_export_says_what_it_wrote(stand_in: Callable[..., None]) -> None:
    stand_in("hamdist.runs.weights", export=lambda directory, to: 12)
    result = hamdist("export", "runs/digits", "--to", "model.pt")
    assert (result.exit_code, result.stdout) == (0, "model.pt: 12 tensors\n")
