"""Names that become folders and files: none leads elsewhere, is invisible, or too long to be written."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from hamdist import LayerSpec, Learner, check, run
from hamdist.config import load
from hamdist.errors import ConfigError, NetworkError, UserError
from hamdist.runs.record import fresh_directory

LINEAR = {"type": "Linear", "in_features": 64, "out_features": 10}


def config(name: str = "small", layer: str = "a", repeat: int = 1) -> dict[str, Any]:
    layers = [{"name": layer, "repeat": repeat, "modules": [LINEAR]}]
    network = {"loss": "cross_entropy", "layers": layers}
    return {"name": name, "stream": {"source": "digits"}, "network": network}


@pytest.mark.parametrize(
    "name",
    [
        *("../../x", "..", ".", "/abs/x", "a/b", "a\\b", "..\\x", "C:x", "~/x/..", "a/../../b", "//host/x"),
        *("a\nb", "a\0b", "\x1b[31m", "a\x7f", "a\u202eb", "a\u2028b", "\ufeffa", "a\ud800"),
        *(".hidden", "-rf", "--out", " a", "a ", "a.", "...", "-"),
        *("con", "NUL", "nul.txt", "Com1", "lpt9.x", "aux"),
        *("x" * 101, "x" * 5000, "é" * 101, "漢" * 67, 'a"b', "a*", "a?", "<a>", "a|b"),
    ],
    ids=ascii,
)
def test_names_of_runs_that_are_none(name: str, folder: Path) -> None:
    (problem,) = check(config(name))
    assert problem.startswith("name: ")
    assert len(problem) < 300
    with pytest.raises(ConfigError) as refused:
        run(config(name))
    assert str(refused.value) == problem
    assert list(folder.rglob("*")) == []


@pytest.mark.parametrize(
    "name",
    [
        *("digits", "Größe", "数字", "a b", "1e-3", "lr=0.1", "a..b", "a-b_c.d", "x" * 100, "console", "(1)"),
        *("café", "می\u200cخواهم", "run #3", "a'b", "50%", "a@b", "a,b;c", "~a", "é" * 100, "漢" * 66),
    ],
)
def test_names_of_runs(name: str, folder: Path) -> None:
    assert load(config(name)).config.name == name
    for expected in (name, f"{name}-2", f"{name}-3"):
        path = fresh_directory(name)
        assert path.is_dir(), "another run of this name could take it as well"
        assert path.resolve() == (folder / "runs" / expected).resolve()


def test_a_folder_of_runs_that_is_none(folder: Path) -> None:
    Path("runs").write_text("a file")
    with pytest.raises(UserError, match=r"^runs/digits cannot be the run directory: .*Not a directory"):
        fresh_directory("digits")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.b", "-a", "a" * 101, "a\n", "é", "a b", "..", "a\0"])
def test_names_of_layers_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^network\.layers\.0\.name: .*layer's name"):
        load(config(layer=name))
    with pytest.raises(NetworkError, match="layer's name"):
        Learner([LayerSpec(name, lambda: nn.Linear(2, 2))], "mse")


def test_numbers_count_in_the_names_of_repeated_layers() -> None:
    for length, repeat in ((98, 100), (100, 1), (95, 20_000)):
        assert load(config(layer="x" * length, repeat=repeat))
    with pytest.raises(
        ConfigError, match=r"network\.layers\.0\.name: at most 100 characters make a layer's name"
    ):
        load(config(layer="x" * 98, repeat=101))
