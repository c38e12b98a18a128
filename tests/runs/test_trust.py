"""Whose code runs: what only reads a config imports and calls nothing of a stranger's; what runs one judges it first.

What a stranger's code would do here is to make the file `ran`.
"""

import copy
import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from hamdist import check, load_model, run
from hamdist.cli import app
from hamdist.config import load, resolved_yaml
from hamdist.errors import UserError
from hamdist.objects import find_factory, find_loss
from hamdist.runs.generate import generate

TOUCH = {"cmd": "touch ran"}
CONFIG: dict[str, Any] = {
    "name": "small",
    "stream": {"source": "digits", "samples": 32, "batch_size": 16},
    "network": {
        "loss": "cross_entropy",
        "layers": [{"name": "a", "modules": [{"type": "Linear", "in_features": 64, "out_features": 10}]}],
    },
}


class Mine(nn.Linear):
    """A layer of the program that asks."""


class Judge(nn.CrossEntropyLoss):
    """A loss of the program that asks."""


class NoModule:
    """A class that is called with what a config says."""

    def __init__(self, **_: object) -> None:
        Path("ran").touch()


judge = Judge()
bound = functools.partial(torch.nn.functional.cross_entropy, label_smoothing=0.0)
passed_on = subprocess.getoutput


def layers() -> dict[str, nn.Module]:
    return {"a": nn.Sequential(nn.Linear(64, 10))}


def samples() -> list[tuple[list[float], int]]:
    return [([0.0] * 64, 1)] * 32


def network(**changes: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    config["network"].update(changes)
    return config


def layer(kind: str, **arguments: Any) -> dict[str, Any]:
    return network(layers=[{"name": "a", "modules": [{"type": kind, **arguments}]}])


def coupling(kind: str, **arguments: Any) -> dict[str, Any]:
    sound = {"type": "Linear", "in_features": 32, "out_features": 32}
    return network(layers=[{"name": "a", "coupling": {"f": [sound], "g": [{"type": kind, **arguments}]}}])


def factory(name: str, **arguments: Any) -> dict[str, Any]:
    return network(layers=None, factory=name, args=arguments)


def stream(name: str, source: str = "iterable", **arguments: Any) -> dict[str, Any]:
    return {**CONFIG, "stream": {"source": source, "factory": name, "args": arguments}}


STRANGE = [
    layer("subprocess:getoutput", **TOUCH),
    layer("os:system", command="touch ran"),
    layer("builtins:eval"),
    layer(f"{__name__}:passed_on", **TOUCH),
    layer(f"{__name__}:NoModule"),
    layer("torch:load", f="x.pt"),
    layer("torch.hub:load", repo_or_dir="x", model="y"),
    layer("torch.utils.cpp_extension:load", name="x"),
    layer("torch.jit:ScriptModule"),
    layer("torch.nn:modules.linear.Linear"),
    layer("torch.nn:Lineer"),
    layer("hamdist:run", config="digits"),
    layer("stranger:Net"),
    layer("stranger.sub:Net"),
    coupling("subprocess:getoutput", **TOUCH),
    network(loss="os:system"),
    network(loss="stranger:loss"),
    network(loss=["cross_entropy", {"type": "torch:save", "layer": "a"}]),
    network(loss=f"{__name__}:NoModule"),
    network(loss=f"{__name__}:CONFIG"),
    factory("subprocess:getoutput", **TOUCH),
    factory("builtins:exec"),
    factory("torch.hub:load", repo_or_dir="x", model="y"),
    factory("numpy:load", file="x.npy"),
    factory("yaml:unsafe_load", stream="!!python/object/apply:os.system ['touch ran']"),
    factory("hamdist:export", directory="run", to="ran"),
    factory("hamdist.objects:find_object", path="stranger:Net"),
    factory(f"{__name__}:passed_on", **TOUCH),
]
STRANGE_STREAMS = [
    stream("subprocess:getoutput", **TOUCH),
    stream("torch:load", "torch", f="x.pt"),
    stream("stranger:samples"),
]


def named(config: dict[str, Any]) -> str:
    """What a test is called: the strange name."""
    text = str(config["network"]) + str(config["stream"])
    return max(
        (word.strip("',}]") for word in text.split() if ":" in word.strip("',}]:")), key=len, default=""
    )


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where a stranger's module lies, and looks as if it were torch."""
    for name in ("stranger", "torch", "yaml"):
        (folder / f"{name}.py").write_text("open('ran', 'w')\n")
    monkeypatch.syspath_prepend(folder)
    return folder


def a_run(config: dict[str, Any]) -> Path:
    """A run directory with such a config."""
    directory = Path("run")
    (directory / "weights").mkdir(parents=True)
    (directory / "config.yaml").write_text(resolved_yaml(load(config).config))
    save_file(
        {"0.weight": torch.zeros(10, 64), "0.bias": torch.zeros(10)}, directory / "weights/a.safetensors"
    )
    return directory


@pytest.mark.parametrize("config", STRANGE, ids=named)
def test_reading_calls_no_strange_network(home: Path, config: dict[str, Any]) -> None:
    directory = a_run(config)
    assert check(config)
    for read in (load_model, lambda where: next(generate(where, 1, "zero"))):
        with pytest.raises(UserError, match=r"^network\."):
            read(directory)
    assert not (home / "ran").exists()
    assert not {"stranger", "antigravity"} & {name.partition(".")[0] for name in sys.modules}


@pytest.mark.parametrize("config", STRANGE_STREAMS, ids=named)
def test_reading_calls_no_strange_stream(home: Path, config: dict[str, Any]) -> None:
    assert check(config)
    with pytest.raises(UserError, match=r"^stream\.factory: "):
        next(generate(a_run(config), 1, "zero"))
    assert not (home / "ran").exists()


@pytest.mark.parametrize(
    "config",
    [
        layer("torch.nn:Linear", in_features=64, out_features=10),
        layer("torch.nn.modules.linear:Linear", in_features=64, out_features=10),
        layer(f"{__name__}:Mine", in_features=64, out_features=10),
        network(loss="torch.nn:CrossEntropyLoss"),
        network(loss="torch.nn.functional:cross_entropy"),
        network(loss=f"{__name__}:Judge"),
        network(loss=f"{__name__}:judge"),
        factory(f"{__name__}:layers"),
        stream(f"{__name__}:samples"),
    ],
    ids=named,
)
def test_what_stands_ready_may_be_named(folder: Path, config: dict[str, Any]) -> None:
    assert check(config) == []
    directory = a_run(config)
    assert torch.equal(load_model(directory)(torch.ones(2, 64)), torch.zeros(2, 10))
    assert next(generate(directory, 1, "zero")).output.shape[1] == 10


def test_trust_imports_and_calls_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    (folder / "a_friend.py").write_text("from torch import nn\n\nclass Net(nn.Linear):\n    pass\n")
    config = layer("a_friend:Net", in_features=64, out_features=10)
    directory = a_run(config)
    remedy = (
        "network.layers.0.modules.0.type: 'a_friend:Net' is not imported to read a config; if you trust who wrote this "
        "config: --trust, or trust=True in Python, imports and calls what it names"
    )
    assert check(config) == [remedy]
    with pytest.raises(UserError) as refused:
        load_model(directory)
    assert str(refused.value) == remedy
    assert check(config, trust=True) == []
    assert load_model(directory, trust=True)(torch.ones(1, 64)).shape == (1, 10)
    assert next(generate(directory, 1, "zero", trust=True)).output.shape == (16, 10)


@pytest.mark.parametrize(
    "config",
    [
        layer("subprocess:getoutput", **TOUCH),
        layer("os:system", command="touch ran"),
        layer(f"{__name__}:passed_on", **TOUCH),
        layer(f"{__name__}:NoModule"),
        layer(f"{__name__}:layers"),
        layer("torch.hub:load", repo_or_dir="x", model="y"),
        coupling("subprocess:getoutput", **TOUCH),
        network(loss="os:system"),
        network(loss=f"{__name__}:NoModule"),
        network(loss="torch.nn:Linear"),
        factory("subprocess:getoutput", **TOUCH),
        factory(f"{__name__}:passed_on", **TOUCH),
        factory("torch.hub:load", repo_or_dir="x", model="y"),
        stream("subprocess:getoutput", **TOUCH),
        stream("builtins:exec"),
    ],
    ids=named,
)
def test_a_run_judges_what_it_calls(folder: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"expected a|cannot be made without arguments"):
        run(config, out="out")
    assert not (folder / "ran").exists()
    assert not (folder / "out").exists()


def test_functions_of_many_kinds_are_the_users() -> None:
    assert find_loss(f"{__name__}:bound") is bound
    assert find_loss(f"{__name__}:judge") is judge
    assert find_factory(f"{__name__}:layers") is layers


@pytest.mark.slow
def test_the_command_looks_for_nothing_in_the_current_folder(home: Path) -> None:
    """In a process of its own, so that the modules here would be imported in the place of the real ones."""
    directory = a_run(layer("stranger:Net"))
    command = Path(sys.executable).parent / "hamdist"
    script = [str(command)] if command.exists() else [sys.executable, "-P", "-m", "hamdist"]
    for arguments in (
        ["check", str(directory / "config.yaml")],
        ["generate", str(directory), "--steps", "1"],
    ):
        done = subprocess.run([*script, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, "--trust" in done.stderr) == (2, True), done.stderr
    done = subprocess.run(
        [*script, "export", str(directory), "--to", "w.pt"], capture_output=True, check=False
    )
    assert done.returncode == 0
    assert not (home / "ran").exists()


def test_the_command_trusts_if_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (folder / "found_here.py").write_text("from torch import nn\n\nclass Net(nn.Linear):\n    pass\n")
    directory = a_run(layer("found_here:Net", in_features=64, out_features=10))
    for arguments in (
        ["check", str(directory / "config.yaml")],
        ["generate", str(directory), "--steps", "1"],
    ):
        arguments += ["--feed", "zero"] if arguments[0] == "generate" else []
        assert CliRunner().invoke(app, arguments).exit_code == 2
    for arguments in (
        ["check", str(directory / "config.yaml")],
        ["generate", str(directory), "--steps", "1"],
    ):
        arguments += ["--feed", "zero"] if arguments[0] == "generate" else []
        result = CliRunner().invoke(app, [*arguments, "--trust"])
        assert result.exit_code == 0, result.output
