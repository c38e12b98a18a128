"""The example configs: each passes its check and learns from a few hundred samples, each of them seen once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hamdist import check, run
from hamdist.config import examples

pytestmark = pytest.mark.usefixtures("folder")

EXAMPLES = {
    "digits": "accuracy",
    "digits-cluster": "accuracy",
    "digits-gpus": "accuracy",
    "digits-groups": "accuracy",
    "digits-nonlocal": "accuracy",
    "digits-settled": "accuracy",
    "image-segments": "accuracy",
    "phishing": "accuracy",
    "shuttle": "accuracy",
    "signal-school": "mae",
    "signals": "mae",
}


def test_these_are_all():
    assert list(examples.names()) == sorted(EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_sound(name: str):
    assert check(name) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_learns(name: str):
    """Better at the end than by chance, or for the signal than at the start."""
    samples = {"digits-gpus": 1280}.get(name, 480 if name.startswith("digits") else 300)
    changes = [f"stream.samples={samples}", "metrics_every=100", "placement.runtime=inline"]
    if name == "signal-school":
        changes += ["placement.compile=false", "stream.length=100", "stream.rounds=1"]
        changes += ["stream.exams=[squLfLa]", "placement.chunk=1"]
    summary = run(name, changes, out="out")
    assert (summary["status"], summary["samples"], summary["samples_seen_once"]) == (
        "finished",
        samples,
        True,
    )
    found = summary["prequential"]
    assert set(found) == {"loss", EXAMPLES[name]}
    if name in ("signals", "signal-school"):
        assert found["mae"] < 0.3  # the signals' own mean magnitude is 0.55, and 0.45
    else:
        classes = {"image-segments": 7, "phishing": 2, "shuttle": 2}.get(name, 10)
        assert found["accuracy"] > 1.5 / classes


def weights(directory: str) -> dict[str, torch.Tensor]:
    """Every weight, by "<layer>.<tensor>"."""
    files = {file.stem: load_file(file) for file in (Path(directory) / "weights").iterdir()}
    return {f"{layer}.{key}": tensor for layer, tensors in files.items() for key, tensor in tensors.items()}


@pytest.mark.slow
def test_settled_digits_are_backpropagation():
    """Weight for weight, over 60 batches; 1e-10 in float64: the same sums in another order."""
    local, backprop = run_both(["locality.mode=nonlocal", "locality.gate=always", "stream.hold=1"])
    assert local["samples_seen_once"]
    assert local["ticks"] == 11 * backprop["ticks"]
    ours, theirs = weights("local"), weights("backprop")
    assert ours.keys() == theirs.keys()
    assert all((ours[key] - theirs[key]).abs().max() < 1e-10 for key in ours)
    for part in ("prequential", "holdout"):
        assert local[part] == pytest.approx(backprop[part], abs=1e-10)


def run_both(changes: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """digits-settled as it is, and changed."""
    few = ["stream.samples=960"]
    return run("digits-settled", few, out="local"), run("digits-settled", few + changes, out="backprop")
