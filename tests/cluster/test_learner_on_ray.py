"""A Learner whose layers live on actors: after every release the bits of the one in this process, and nothing left.

The bits are those of predictions, weights, costates, states and metrics; both compute with one thread. It goes on where
another was kept, there or here.
"""

import copy
import gc
import os
import pickle
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.learners import ADAM, LOSSES, Kind, same_bits, same_states, same_tensors, told
from support.patience import patient
from support.ray_layers import Marked, builders, gone
from support.samples import samples
from torch import Tensor, nn

from hamdist import Learner
from hamdist.errors import ConfigError, NetworkError, RunError, StreamError, UserError
from hamdist.physics import statespace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_ray")]
DOUBLE: dict[str, Any] = {"dtype": torch.float64}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Linear(6, 8), nn.Tanh()),
        nn.Sequential(nn.Linear(8, 8), nn.Tanh()),
        nn.Sequential(nn.Linear(8, 8), nn.Tanh()),
        nn.Linear(8, 3),
    ).double()


def differences(ours: Learner, theirs: Learner) -> list[str]:
    """What is not the same to the last bit, by name."""
    found = [
        f"{one.name}.{part}"
        for one, other in zip(ours.layers, theirs.layers, strict=True)
        for part in ("weights", "weight_costate", "state", "state_costate")
        if not same(getattr(one, part), getattr(other, part))
    ]
    mine, other = ours.state_dict(), theirs.state_dict()
    found += [] if same(mine, other) and list(mine) == list(other) else ["state_dict"]
    found += [] if ours.metrics == theirs.metrics else ["metrics"]
    return found + ([] if ours.samples_seen_once == theirs.samples_seen_once else ["counts"])


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_step_by_step_it_is_the_one_in_this_process_to_the_bit_until_it_is_closed(tmp_path: Path):
    """Fully local, where layers could run ahead of the source by as many ticks as they are away from it."""
    batches, held_out = samples(14, (6,)), samples(3, (6,), seed=5)
    settings = {"beta": 0.1, "dissipation": {"weight": 0.3}, **DOUBLE}
    theirs = Learner(marked(tmp_path / "here"), **settings)
    with Learner(marked(tmp_path / "there"), runtime="ray", actors=2, **settings) as ours:
        for k, (x, y) in enumerate(batches):
            assert told([ours.step(x, y)]) == told([theirs.step(x, y)])
            if k in (0, 1, 5):
                assert differences(ours, theirs) == []
            if k == 6:
                assert torch.equal(ours.predict(x), theirs.predict(x))
                assert ours.evaluate(held_out) == theirs.evaluate(held_out)
        assert told(ours.drain()) == told(theirs.drain())
        assert differences(ours, theirs) == []
        assert (ours.samples, ours.samples_seen_once) == (56, True)
    assert len(builders(tmp_path / "there")) == 2
    assert gone(builders(tmp_path / "there"))
    ours.close()
    for use in (ours.drain, ours.state_dict, lambda: ours.layers, lambda: ours.step(*batches[0])):
        with pytest.raises(RunError, match=r"^this learner was closed: make a new one$"):
            use()


def marked(folder: Path) -> list[Any]:
    """Layers that leave in a folder the number of the process that built them."""
    folder.mkdir()
    return [
        lambda: nn.Sequential(Marked(str(folder), "first", 6, 8), nn.Tanh()),
        lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh()),
        lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh()),
        lambda: Marked(str(folder), "head", 8, 3),
    ]


def test_chunks_on_listed_actors():
    """Steps end anywhere in a chunk, and batches of them in the middle of the stream are short."""
    delays = dict.fromkeys(("0->1", "1->2", "2->3"), 4)
    settings = {"delays": delays, "stack": True, "chunk": 4, "beta": 0.02, **DOUBLE}
    batches = samples(170, (6,))
    theirs = Learner(layers(), **settings)
    with Learner(layers(), runtime="ray", actors=[[0, 2], ["1", "3"]], **settings) as ours:
        for start, stop in ((0, 2), (2, 101), (101, 102), (102, 170)):
            assert told(ours.steps(batches[start:stop])) == told(theirs.steps(batches[start:stop]))
            assert differences(ours, theirs) == []
        x, y = batches[0]
        assert told([ours.step(x[:1], y[:1])]) == told([theirs.step(x[:1], y[:1])])
        assert told(ours.drain()) == told(theirs.drain())
        assert differences(ours, theirs) == []
        chunks = [execution["chunk"] for execution in ours.execution.values()]
        assert chunks == [theirs.execution["inline"]["chunk"]] * 2 == [4, 4]


def test_a_network_with_a_memory_goes_on_by_itself():
    """Non-local, to and fro between two actors, with a loss on each; what it says on its own, and of what is held out,
    leaves what learns alone."""
    built = [lambda: nn.Linear(3, 4), lambda: nn.GRUCell(4, 5), lambda: nn.Linear(5, 3)]
    settings = {"loss": {"2": "mse", "1": "l1"}, "locality": "nonlocal", "beta": 0.01, "hold": 2}
    generator = torch.Generator().manual_seed(0)
    xs = torch.randn(9, 2, 3, generator=generator)

    def targets(x: Tensor) -> dict[str, Tensor]:
        return {"2": x, "1": x.repeat(1, 2)[:, :5]}

    flagged = [(x, torch.tensor([False, k == 4])) for k, x in enumerate(xs)]
    held_out = [(x, targets(x), flags) for x, flags in flagged]
    theirs = Learner(built, **settings)
    with Learner(built, runtime="ray", actors=[[0, 2], [1]], **settings) as ours:
        for k in range(8):
            restart = torch.tensor([k % 3 == 0, False])
            one, other = (learner.step(xs[k], targets(xs[k + 1]), restart) for learner in (ours, theirs))
            assert told([one]) == told([other])
        assert same(ours.generate(xs[:3], 4), theirs.generate(xs[:3], 4))
        assert same(ours.predict_steps(flagged), theirs.predict_steps(flagged))
        assert ours.evaluate(held_out) == theirs.evaluate(held_out)
        assert differences(ours, theirs) == []


class Fails(nn.Module):
    """Raises where an input is 7."""

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() and (x == 7).any():
            raise ArithmeticError("out of numbers")
        return x + 0


def test_a_bad_batch_is_refused_and_after_a_layer_that_raises_new_actors_go_on_from_what_was_kept():
    """In the words, and to the bits, of this process. What came before a bad batch is learnt; after a failure layers
    can still be read. A state that does not fit is refused while the old actors stand.
    """
    good, bad, y = torch.ones(3, 2), torch.full((3, 2), 7.0), torch.zeros(3, dtype=torch.long)
    batches = [(good, y), (good, y), (torch.zeros(3, 7), y), (good, y)]
    other = Learner([nn.Identity(), Fails(), nn.Linear(2, 3)])
    other.step(good, y)
    torch.manual_seed(0)
    head, messages, ends = nn.Linear(2, 2), [], []
    for settings in ({}, {"runtime": "ray", "actors": [[0], [1, 2]]}):
        with Learner([nn.Identity(), Fails(), head], **settings) as learner:
            found = [failure(StreamError, lambda: learner.steps(batches))]
            found += [failure(StreamError, lambda: learner.step(good.repeat(2, 1), y.repeat(2)))]
            learner.drain()
            assert (learner.samples, learner.samples_seen_once) == (6, True)
            kept = learner.training_state()
            found += [failure(UserError, lambda: learner.load_training_state(other.training_state()))]
            found += [failure(RunError, lambda: learner.steps([(good, y), (bad, y), (good, y)]))]
            messages.append(found)
            if settings:
                assert "In the actor:\nTraceback" in found[3]
                assert "ArithmeticError: out of numbers" in found[3]
                again = failure(RunError, lambda: learner.step(good, y))
                assert again.startswith("this learner has failed and cannot go on: layer '1' failed at tick ")
                assert list(learner.state_dict()) == ["2.weight", "2.bias"]
                failure(RunError, learner.training_state)
            learner.load_training_state(kept)
            ends.append((kept, learner.training_state()))
            ends[-1] += (told([learner.step(good, y)]), learner.training_state())
    here, there = ([message.splitlines()[0] for message in found] for found in messages)
    assert here == there
    assert here[0].startswith("the batch at sample 6")
    assert here[2].startswith("2.weight: [3, 2] float32 in the state, and [2, 2] float32 here")
    assert re.fullmatch(r"layer '1' failed at tick \d+: out of numbers", here[3])
    (*inline, predicted, last), (*actors, predicted_there, last_there) = ends
    assert all(same_states(state, inline[0]) for state in (*inline, *actors))
    assert predicted_there == predicted
    assert same_states(last_there, last)
    assert not same_states(last, inline[0])


def failure(kind: type[Exception], do: Callable[[], Any]) -> str:
    """The message of what is raised, with its notes."""
    with pytest.raises(kind) as caught:
        do()
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def branched() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    layers = {"body": statespace.CSSM(8, 6, 8), "head": nn.Linear(8, 3), "aux": nn.Linear(8, 2)}
    return {name: layer.double() for name, layer in layers.items()}


EDGES = ("body->head", "body->aux")
CHUNKS = {"stack": True, "chunk": 4}
ALL = Kind("memories, moments, two losses", branched, ADAM | CHUNKS, loss=LOSSES, edges=EDGES, chunk=4)


def test_from_here_to_actors_and_back(tmp_path: Path):
    """Weights are taken up there; what cannot leave the actors is refused with a remedy."""
    here, path = ALL.learner(), tmp_path / "learner"
    ALL.go(here, 0, 16)
    other = here.state_dict()
    here.save(path)
    with Learner.load(path, ALL.make(), runtime="ray", actors=2) as there:
        assert same_bits(there, here)
        assert ALL.go(there, 16, 24) == ALL.go(here, 16, 24)
        there.save(path)
        assert not same_tensors(there.state_dict(), other)
        there.load_state_dict(other)
        assert same_tensors(there.state_dict(), other)
        before = there.training_state()["tensors"]
        with pytest.raises(UserError, match=r"^head\.more: is nothing that the layers have"):
            there.load_state_dict(here.state_dict() | {"head.more": torch.zeros(1)})
        assert same_tensors(there.training_state()["tensors"], before)
        with pytest.raises(
            TypeError, match=r"live on actors is not pickled: save it with learner\.save\(path\)"
        ):
            pickle.dumps(there)
        with pytest.raises(RunError, match=r"cannot be copied: load its training_state\(\) into another"):
            copy.deepcopy(there)
    again = Learner.load(path, ALL.make(), runtime="inline")
    assert same_bits(again, here)
    assert ALL.go(again, 24, 32) == ALL.go(here, 24, 32)
    assert told(again.drain()) == told(here.drain())
    assert same_bits(again, here)


def test_what_cannot_run_is_refused_in_the_same_words_and_a_learner_that_is_forgotten_leaves_nothing(
    tmp_path: Path,
):
    y = torch.zeros(3, dtype=torch.long)
    here = Learner([nn.Linear(2, 2), nn.Linear(2, 2)])
    there = Learner([lambda: Marked(str(tmp_path), "0", 2, 2), nn.Linear(2, 2)], runtime="ray", actors=1)
    wrong = torch.ones(3, 5)
    messages = [failure(NetworkError, partial(each.step, wrong, y)) for each in (here, there)]
    assert messages[0].replace("Linear", "Marked") == messages[1]
    there.step(torch.ones(3, 2), y)
    forgotten = weakref.ref(there)
    del there
    gc.collect()
    assert forgotten() is None
    assert gone(builders(tmp_path))


ALONE = """
import sys
import torch
from support.ray_layers import Marked, builders, gone
from hamdist import Learner
folder = sys.argv[1]
learner = Learner([lambda: Marked(folder, "0", 2, 2)], runtime="ray", actors=1)
learner.step(torch.ones(3, 2), torch.zeros(3, dtype=torch.long))
"""


def test_no_process_is_left_when_the_interpreter_ends(tmp_path: Path):
    code = [sys.executable, "-c", ALONE, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(code, capture_output=True, text=True, timeout=patient(200), env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(builders(tmp_path)) == 1
    assert gone(builders(tmp_path))


REFUSED = [
    (
        {"actors": 2},
        "actors: only runtime 'ray' has actors, not 'inline': add runtime=\"ray\", or leave actors out",
    ),
    ({"runtime": "rai"}, "runtime: 'rai' is not accepted; did you mean 'ray'?"),
    ({"runtime": "ray", "actors": 0}, "actors: must be 1 or more, got 0"),
    (
        {"runtime": "ray", "actors": "perlayer"},
        "actors: 'perlayer' is not accepted; did you mean 'per-layer'?",
    ),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        Learner(layers(), **settings)


def test_more_actors_than_layers():
    with (
        Learner(layers(), runtime="ray", actors=5, **DOUBLE) as learner,
        pytest.raises(NetworkError, match="5 actors, but only 4 layers"),
    ):
        learner.step(*samples(1, (6,))[0])
