"""Files of learners, and of what users keep beside them: whole or not there, and refused by name where damaged."""

import pickle
import random
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from support.learners import KINDS, Kind, same_bits, same_tensors
from support.networks import residual_net
from support.samples import samples
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from hamdist import Learner, load_state, save_state
from hamdist.errors import UserError
from hamdist.runs import state_file
from hamdist.runs.learner_state import LearnerState


@pytest.fixture(scope="module")
def learner() -> Learner:
    learner = Kind("one").learner()
    learner.steps(samples(6, (8,)))
    return learner


@pytest.fixture
def path(learner: Learner, tmp_path: Path) -> Path:
    learner.save(tmp_path / "learner.safetensors")
    return tmp_path / "learner.safetensors"


class Exploding:
    """What a pickle may hold."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was read",)


@pytest.mark.parametrize(
    "damage",
    [
        "cut off",
        "empty",
        "a pickle",
        "a torch file",
        "noise",
        "a huge header",
        "a folder",
        "plain weights",
        "nothing",
    ],
)
def test_what_is_no_file_of_a_learner_is_named(damage: str, path: Path, learner: Learner):
    data = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "a torch file":
        torch.save(learner.training_state(), path)
    elif damage == "plain weights":
        save_file(learner.state_dict(), path)
    elif damage != "nothing":
        path.write_bytes(
            {
                "cut off": data[: len(data) // 2],
                "empty": b"",
                "a pickle": pickle.dumps(Exploding()),
                "noise": random.Random(0).randbytes(4000),
                "a huge header": (2**62).to_bytes(8, "little") + data[8:],
            }[damage]
        )
    with pytest.raises(UserError, match=f"^{path} "):
        Learner.load(path, residual_net())


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_are_noticed(seed: int, path: Path):
    data, draw = path.read_bytes(), random.Random(seed)
    for _ in range(50):
        place = draw.choice((draw.randrange(len(data)), draw.randrange(2000)))
        changed = bytearray(data)
        changed[place] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(UserError, match=f"^{path} "):
            Learner.load(path, residual_net())


def test_a_newer_version_is_named(learner: Learner, path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hamdist.runs.learner_state.VERSION", 3)
    learner.save(path)
    monkeypatch.undo()
    with pytest.raises(
        UserError, match=f"^{path} is of version 3, and this hamdist knows version 1: use the hamdist"
    ):
        Learner.load(path, residual_net())


def test_one_kind_is_not_the_other(path: Path):
    with pytest.raises(UserError, match=f"^{path} is no file of a set of things, but of a learner"):
        load_state(path)
    save_state(path, day=1)
    with pytest.raises(UserError, match=f"^{path} is no file of a learner, but of a set of things"):
        Learner.load(path, residual_net())


def test_where_writing_fails_what_was_there_is_there_still(
    learner: Learner, path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A full disk, say."""
    before = path.read_bytes()

    def full(to: Path, *_: Any) -> None:
        to.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_file, "save_encoded", full)
    with pytest.raises(UserError, match=f"^{path} cannot be written: .*No space left"):
        learner.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_it_is_hardly_larger_than_what_it_holds(tmp_path: Path):
    wide = Kind("wide", lambda: residual_net(width=256), shape=(256,)).learner()
    wide.steps(samples(6, (256,)))
    wide.save(tmp_path / "wide")
    tensors = sum(tensor.nbytes for tensor in wide.training_state()["tensors"].values())
    assert (tmp_path / "wide").stat().st_size < 1.05 * tensors


def test_other_programs_read_its_tensors(learner: Learner, path: Path):
    tensors = load_file(path)
    weight = next(
        tensor for name, tensor in tensors.items() if name.endswith("nodes.3.carry.parameters.weight")
    )
    assert torch.equal(weight, learner.state_dict()["3.weight"])


def test_torchs_distributed_checkpoints_take_it(learner: Learner, tmp_path: Path):
    with pytest.warns(UserWarning, match="single process"):
        dcp.save({"learner": learner.training_state()}, checkpoint_id=tmp_path / "dcp")
    dcp_to_torch_save(tmp_path / "dcp", tmp_path / "file.pt")
    again = Kind("again").learner()
    again.load_training_state(torch.load(tmp_path / "file.pt", weights_only=True)["learner"])
    assert same_bits(again, learner)


def test_to_them_a_learner_itself_is_its_weights(learner: Learner, tmp_path: Path):
    """By the protocol of torch's Stateful, as a module is."""
    other = Kind("other", lambda: residual_net(seed=4)).learner()
    other.steps(samples(2, (8,)))
    with pytest.warns(UserWarning, match="single process"):
        dcp.save({"learner": learner}, checkpoint_id=tmp_path)
    with pytest.warns(UserWarning, match="single process"):
        dcp.load({"learner": other}, checkpoint_id=tmp_path)
    assert same_tensors(other.state_dict(), learner.state_dict())


# Things beside a learner


def test_what_is_the_users_own_comes_back_as_it_was(learner: Learner, tmp_path: Path):
    buffer = deque([(torch.randn(3), 1), (torch.randn(3), 2)], maxlen=5)
    things = {
        "buffer": buffer,
        "seen": {"a": np.arange(3, dtype=np.int16), 7: [1.5, float("inf"), None, "text", True, 2**80]},
        "generator": torch.get_rng_state(),
        "python": random.Random(1).getstate(),
        "numpy": np.random.default_rng(1).bit_generator.state,
        "numbers": (np.float32(0.1), 0.1, b"bytes"),
    }
    save_state(tmp_path / "things", learner=learner.training_state(), **things)
    found = load_state(tmp_path / "things")
    again = Kind("again").learner()
    again.load_training_state(found.pop("learner"))
    assert same_bits(again, learner)
    assert found["buffer"].maxlen == 5
    assert [(x.tolist(), k) for x, k in found["buffer"]] == [(x.tolist(), k) for x, k in buffer]
    assert found["seen"]["a"].dtype == np.int16
    assert found["seen"][7] == things["seen"][7]
    assert random.Random().setstate(found["python"]) is None
    assert found["numpy"] == things["numpy"]
    assert torch.equal(found["generator"], things["generator"])
    assert found["numbers"] == things["numbers"]
    assert type(found["numbers"][0]) is np.float32


@pytest.mark.parametrize(
    ("thing", "where"),
    [
        ({"seen": [1, {2}]}, r"^things\.seen\[1\]: an object of type builtins\.set cannot be written"),
        (lambda: 1, r"^things: an object of type builtins\.function"),
        (np.array([object()]), r"^things: an object of type numpy\.ndarray"),
        (random.Random(), r"^things: an object of type random\.Random"),
    ],
    ids=["a set", "a function", "objects", "an object"],
)
def test_what_would_have_to_be_pickled_is_refused_by_its_place(thing: Any, where: str, tmp_path: Path):
    with pytest.raises(TypeError, match=where):
        save_state(tmp_path / "things", things=thing)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS[:2], ids=lambda kind: kind.name)
def test_a_learner_says_how_it_was_made(kind: Kind, tmp_path: Path):
    """Settings that were given once need not be given again."""
    learner = kind.learner()
    learner.steps(kind.batches(0, 4))
    learner.save(tmp_path / "learner")
    again = Learner.load(tmp_path / "learner", kind.make())
    again.save(tmp_path / "again")
    assert LearnerState.read(tmp_path / "again").about == LearnerState.read(tmp_path / "learner").about
