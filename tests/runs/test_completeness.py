"""Whatever reads a run says what is missing of it, and makes nothing of the rest."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

import hamdist
from hamdist.cli import app
from hamdist.errors import UserError

LAYERS = ("first", "second", "third", "head")
CONFIG: dict[str, Any] = {
    "name": "whole",
    "stream": {"source": "signals", "signal": "smoHfHa", "samples": 20},
    "network": {
        "loss": "mse",
        "layers": [
            {"name": "first", "modules": [{"type": "Linear", "in_features": 1, "out_features": 4}]},
            {"name": "second", "modules": [{"type": "Tanh"}]},
            {"name": "third", "modules": [{"type": "Linear", "in_features": 4, "out_features": 4}]},
            {"name": "head", "modules": [{"type": "Linear", "in_features": 4, "out_features": 1}]},
        ],
    },
    "placement": {"runtime": "inline"},
}


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """The current folder, with a finished run in out; of `second` there is a file without a tensor."""
    hamdist.run(CONFIG, out="out")
    return folder


def file_of(layer: str) -> Path:
    return Path(f"out/weights/{layer}.safetensors")


def remove(*layers: str) -> Callable[[], None]:
    return lambda: [file_of(layer).unlink() for layer in layers] and None


def drop_bias() -> None:
    tensors = load_file(file_of("third"))
    save_file({"0.weight": tensors["0.weight"]}, file_of("third"))


def truncate() -> None:
    file_of("third").write_bytes(file_of("third").read_bytes()[:-8])


def pickled() -> None:
    torch.save({"0.weight": torch.ones(4, 4)}, file_of("third"))


def add_a_stranger() -> None:
    save_file({"weight": torch.ones(1)}, file_of("fifth"))


def add_a_tensor() -> None:
    save_file({**load_file(file_of("third")), "0.more": torch.ones(1)}, file_of("third"))


def interrupted() -> None:
    remove("third", "head")()
    told = json.loads(Path("out/summary.json").read_text())
    why = "the program was interrupted before it was written"
    told |= {
        "status": "interrupted",
        "missing": {f"weights/{name}.safetensors": why for name in ("third", "head")},
    }
    Path("out/summary.json").write_text(json.dumps(told))


def killed() -> None:
    remove("head")()
    Path("out/summary.json").unlink()


NOT_WHOLE = "out does not hold a whole run: "
DAMAGES: dict[str, tuple[Callable[[], None], str]] = {
    "a file is gone": (remove("third"), NOT_WHOLE + "of 4 layers, the weights of third are missing"),
    "one without a tensor, too": (
        remove("second"),
        NOT_WHOLE + "of 4 layers, the weights of second are missing",
    ),
    "several": (
        remove("first", "third", "head"),
        NOT_WHOLE + "of 4 layers, the weights of first, third and head are missing",
    ),
    "a tensor": (drop_bias, NOT_WHOLE + "layer 'third' lacks 0.bias"),
    "a tensor too many": (
        add_a_tensor,
        NOT_WHOLE + "layer 'third' has 0.more, which its summary does not name",
    ),
    "a stranger": (
        add_a_stranger,
        NOT_WHOLE + "there are weights of fifth, of which its config has no layer",
    ),
    "interrupted": (
        interrupted,
        NOT_WHOLE
        + "of 4 layers, the weights of third and head are missing (the program was interrupted before it was "
        "written); its run ended as interrupted",
    ),
    "killed": (
        killed,
        NOT_WHOLE
        + "of 4 layers, the weights of head are missing; there is no summary.json, so the run did not come to "
        "its end",
    ),
    "truncated": (
        truncate,
        "out/weights/third.safetensors holds no weights: it was cut off, changed, or is no file of safetensors (",
    ),
    "pickled": (
        pickled,
        "out/weights/third.safetensors holds no weights: it was cut off, changed, or is no file of safetensors (",
    ),
}
COMMANDS = {
    "export": ["export", "out", "--to", "model.pt"],
    "generate": ["generate", "out", "--steps", "2"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=list(DAMAGES))
def test_what_is_missing_is_named_and_nothing_is_made(damage: Any, message: str, command: list[str]):
    damage()
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1
    assert not Path("model.pt").exists()
    with pytest.raises(UserError) as caught:
        hamdist.load_model("out")
    assert str(caught.value).startswith(message)


def test_a_run_that_is_whole_is_read():
    Path("out/summary.json").unlink()  # its weights are all there
    assert hamdist.export("out", "model.pt") == 6
    hamdist.load_model("out").load_state_dict(torch.load("model.pt", weights_only=True))


def test_tensors_of_another_shape_are_told_with_their_names():
    save_file({"0.weight": torch.ones(4, 3), "0.bias": torch.ones(4)}, file_of("third"))
    for read in (lambda: hamdist.load_model("out"), lambda: next(hamdist.runs.generate.generate("out", 1))):
        with pytest.raises(
            UserError, match=r"^out: the weights are not those of its config: .*size mismatch for .*0.weight"
        ):
            read()


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64], ids=str
)
def test_numbers_of_another_type_are_not_converted_in_silence(dtype: torch.dtype):
    tensors = load_file(file_of("third"))
    save_file({**tensors, "0.weight": tensors["0.weight"].to(dtype)}, file_of("third"))
    for read in (lambda: hamdist.load_model("out"), lambda: next(hamdist.runs.generate.generate("out", 1))):
        with pytest.raises(UserError, match=rf"0\.weight is of {dtype}, not of torch\.float32$"):
            read()


def test_layers_that_a_function_makes_are_those_of_the_summary():
    network = {"loss": "mse", "factory": f"{__name__}:layers"}
    hamdist.run({**CONFIG, "network": network}, out="made")
    Path("made/weights/1.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"^made does not hold a whole run: of 2 layers, the weights of 1 are missing$"
    ):
        hamdist.export("made", "model.pt")


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 1))


def test_a_summary_of_an_older_version_is_taken():
    Path("out/summary.json").write_text('{"status": "finished", "missing": []}')
    assert hamdist.export("out", "model.pt") == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read: "),
        ("[" * 100_000, "cannot be read: "),
        ("[]", "is not the summary of a run: "),
        ('{"weights": 3}', "is not the summary of a run: "),
        ('{"weights": {"third": 3}}', "is not the summary of a run: "),
        ('{"weights": {"third": null}}', "is not the summary of a run: "),
        ('{"weights": {"third": ["0.weight", ["0.bias"]]}}', "is not the summary of a run: "),
    ],
    ids=lambda text: text[:50],
)
def test_a_summary_that_is_not_one(text: str, message: str):
    Path("out/summary.json").write_text(text)
    with pytest.raises(UserError) as caught:
        hamdist.export("out", "model.pt")
    assert str(caught.value).startswith(f"out/summary.json {message}")


def test_a_stream_that_is_not_there_any_more_is_told_by_its_key():
    config = Path("out/config.yaml").read_text()
    gone = "stream: {source: csv, path: gone.csv, target: y}\nnetwork:"
    Path("out/config.yaml").write_text(re.sub(r"(?s)^stream:.*?^network:", gone, config, flags=re.MULTILINE))
    with pytest.raises(UserError, match=r"^stream\.path: there is no file gone\.csv"):
        next(hamdist.runs.generate.generate("out", 1))
