"""Files of weights that are damaged, of another kind or network: one clear error, and nothing is unpickled."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hamdist import export, load_model
from hamdist.config import load, resolved_yaml
from hamdist.errors import UserError
from hamdist.runs.generate import generate


class Exploding:
    """What a pickle may hold."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was read",)


@pytest.fixture
def file(folder: Path) -> Path:
    """The weights of the only layer of a run."""
    layer = {"name": "a", "modules": [{"type": "Linear", "in_features": 64, "out_features": 10}]}
    network = {"loss": "cross_entropy", "layers": [layer]}
    config = load({"name": "x", "stream": {"source": "digits"}, "network": network}).config
    Path("run/weights").mkdir(parents=True)
    Path("run/config.yaml").write_text(resolved_yaml(config))
    file = Path("run/weights/a.safetensors")
    save_file({"0.weight": torch.zeros(10, 64), "0.bias": torch.zeros(10)}, file)
    return file


@pytest.mark.parametrize(
    "damage", ["cut off", "empty", "a pickle", "a torch file", "noise", "a huge header", "a folder"]
)
def test_weights_that_are_no_safetensors(damage: str, file: Path):
    whole = file.read_bytes()
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    elif damage == "a torch file":
        torch.save({"0.weight": torch.zeros(2)}, file)
    else:
        changed = {
            "cut off": whole[:-3],
            "empty": b"",
            "noise": b"x" * 100,
            "a pickle": pickle.dumps(Exploding()),
        }
        file.write_bytes(changed.get(damage, b"\xff" * 7 + b"\x7f" + whole[8:]))
    for read in (load_model, lambda where: export(where, "w.pt"), lambda where: next(generate(where, 1))):
        with pytest.raises(UserError, match=f"{file} holds no weights: "):
            read("run")


def test_weights_of_another_network(file: Path):
    save_file({"0.weight": torch.zeros(1, 1)}, file)
    with pytest.raises(UserError, match="run: the weights are not those of its config"):
        load_model("run")
