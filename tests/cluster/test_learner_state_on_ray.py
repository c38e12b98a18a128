"""A learner goes on where another was kept, in this process or on actors, either way to the same bits."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from support.learners import KINDS, Kind, same_bits, same_tensors, told
from torch import Tensor, nn

from hamdist import Learner
from hamdist.errors import RunError, UserError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_ray")]
RAY: dict[str, Any] = {"runtime": "ray", "actors": 2}
NAMES = ("adam, in chunks", "memories", "several losses")  # the other kinds: in one process, and over threads


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name in NAMES], ids=lambda kind: kind.name)
def test_from_here_to_actors_and_back(kind: Kind, tmp_path: Path):
    here, path = kind.learner(), tmp_path / "learner"
    kind.go(here, 0, 16)
    here.save(path)
    with Learner.load(path, kind.make(), **RAY) as there:
        assert same_bits(there, here)
        assert kind.go(there, 16, 24) == kind.go(here, 16, 24)
        there.save(path)
    again = Learner.load(path, kind.make(), runtime="inline")
    assert same_bits(again, here)
    assert kind.go(again, 24, 32) == kind.go(here, 24, 32)
    assert told(again.drain()) == told(here.drain())
    assert same_bits(again, here)


class Fails(nn.Module):
    """Raises where an input is 7."""

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() and (x == 7).any():
            raise ArithmeticError("out of numbers")
        return x + 0


def test_after_a_failure_new_actors_go_on_from_what_was_kept():
    """A state that does not fit is refused before any of the old ones is stopped."""
    good, y = torch.ones(3, 2), torch.zeros(3, dtype=torch.long)
    layers, other = [nn.Linear(2, 2), Fails()], Learner([nn.Linear(2, 3), Fails()])
    other.step(good, y)
    here = Learner(layers)
    with Learner(layers, **RAY) as there:
        here.steps([(good, y)] * 3)
        there.steps([(good, y)] * 3)
        state = there.training_state()
        with pytest.raises(
            UserError, match=r"^0\.weight: \[3, 2\] float32 in the state, and \[2, 2\] float32 here"
        ):
            there.load_training_state(other.training_state())
        there.load_state_dict({key: torch.full_like(t, 7.0) for key, t in here.state_dict().items()})
        with pytest.raises(RunError, match="out of numbers"):
            there.steps([(good * 0, y)] * 2)
        with pytest.raises(RunError, match="this learner has failed and cannot go on"):
            there.training_state()
        there.load_training_state(state)
        assert same_bits(there, here)
        assert told([there.step(good, y)]) == told([here.step(good, y)])


def test_weights_are_taken_up_and_what_cannot_leave_actors_is_refused_with_a_remedy():
    kind = KINDS[1]
    here = kind.learner()
    kind.go(here, 0, 8)
    with kind.learner(**RAY) as there:
        kind.go(there, 0, 4)
        there.load_state_dict(here.state_dict())
        assert same_tensors(there.state_dict(), here.state_dict())
        before = there.training_state()["tensors"]
        with pytest.raises(UserError, match=r"^0\.more: is nothing that the layers have"):
            there.load_state_dict(here.state_dict() | {"0.more": torch.zeros(1)})
        assert same_tensors(there.training_state()["tensors"], before)
        with pytest.raises(
            TypeError, match=r"live on actors is not pickled: save it with learner\.save\(path\)"
        ):
            pickle.dumps(there)
        with pytest.raises(RunError, match=r"cannot be copied: load its training_state\(\) into another"):
            copy.deepcopy(there)
