"""A learner that is kept midway, and goes on elsewhere, ends with the bits of one that was not."""

import copy
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.learners import ADAM, KINDS, SETTINGS, Kind, same_bits, told
from support.networks import mlp, residual_net
from support.patience import patient
from support.samples import samples
from torch import nn

from hamdist import LayerSpec, Learner, Network, plain_model
from hamdist.errors import RunError, UserError

pytestmark = pytest.mark.usefixtures("one_fitter")

MIDWAY, END = 18, 32  # in the midst of a chunk
Keeps = Callable[[Kind, Learner, Path], Learner]


def by_dict(kind: Kind, learner: Learner, folder: Path) -> Learner:
    """Through torch's own file, which unpickles no code."""
    file = io.BytesIO()
    torch.save(learner.training_state(), file)
    again = kind.learner()
    file.seek(0)
    again.load_training_state(torch.load(file, weights_only=True))
    return again


def by_file(kind: Kind, learner: Learner, folder: Path) -> Learner:
    learner.save(folder / "learner.safetensors")
    return Learner.load(folder / "learner.safetensors", kind.make())


def by_pickle(kind: Kind, learner: Learner, folder: Path) -> Learner:
    again: Learner = pickle.loads(pickle.dumps(learner))
    return again


def by_copy(kind: Kind, learner: Learner, folder: Path) -> Learner:
    return copy.deepcopy(learner)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_goes_on_as_if_nothing_had_been(kind: Kind, tmp_path: Path):
    learner, first = kind.learner(), kind.batches(0, 1)[0][0]
    kind.go(learner, 0, MIDWAY)
    ways: list[Keeps] = [by_dict, by_file, by_pickle, by_copy]
    kept = {keep.__name__: keep(kind, learner, tmp_path) for keep in ways}
    says = learner.predict(first)
    for way, again in kept.items():
        assert same_bits(again, learner), way
        assert torch.equal(again.predict(first), says), way
    expected = kind.go(learner, MIDWAY, END), told(learner.drain())
    for way, again in kept.items():
        assert (kind.go(again, MIDWAY, END), told(again.drain())) == expected, way
        assert same_bits(again, learner), way
        assert again.samples_seen_once == learner.samples_seen_once, way


def test_another_thread_keeps_it_between_two_batches():
    """Whatever moment it finds, what it keeps is whole, and goes on as the learner does."""
    kind = KINDS[1]
    learner, calm = kind.learner(), kind.learner()
    batches = [batch[:2] for batch in kind.batches(0, 30)]
    learner.step(*batches[0])
    with ThreadPoolExecutor(1) as threads:
        stepping = threads.submit(lambda: [learner.step(*batch) for batch in batches[1:]])
        kept = [learner.training_state() for _ in range(3)]
        stepping.result(patient(60))
    for batch in batches:
        calm.step(*batch)
    for state in kept:
        again = kind.learner()
        again.load_training_state(state)
        for batch in batches[again.samples // 4 :]:
            again.step(*batch)
        assert same_bits(again, calm)


def test_joblib_keeps_it(tmp_path: Path):
    joblib = pytest.importorskip("joblib")
    kind = KINDS[1]
    learner = kind.learner()
    kind.go(learner, 0, MIDWAY)
    joblib.dump(learner, tmp_path / "learner")
    assert same_bits(joblib.load(tmp_path / "learner"), learner)


@pytest.mark.parametrize("network", [True, False], ids=["a network", "a plain model"])
def test_networks_and_plain_models_are_layers_too(network: bool, tmp_path: Path):
    specs = [LayerSpec("a", partial(nn.Linear, 8, 8), relaxing=2.0), LayerSpec("b", partial(nn.Linear, 8, 3))]
    made = Network.of(specs, {"b": "cross_entropy", "a": "mse"}, ["a->b"])
    layers: Any = made if network else plain_model(made)
    losses = {} if network else {"loss": "cross_entropy"}
    learner = Learner(layers, pairing="current", **losses)
    (x, y), *_ = samples(1, (8,))
    targets = {"b": y, "a": x} if network else y
    for _ in range(4):
        learner.step(x, targets)
    learner.save(tmp_path / "learner")
    again = Learner.load(tmp_path / "learner", layers)
    again.step(x, targets)
    learner.step(x, targets)
    assert same_bits(again, learner)
    assert same_bits(pickle.loads(pickle.dumps(again)), learner)


@pytest.mark.parametrize("more", [{"stack": True}, {"stack": True, "chunk": 4}, {}], ids=str)
def test_it_may_go_on_in_another_form(more: dict[str, Any]):
    """To rounding where layers stack."""
    kind = Kind("plain", mlp)
    learner = kind.learner(**({} if more else {"stack": True, "chunk": 4}))
    kind.go(learner, 0, 18)
    again = kind.learner(**more)
    again.load_training_state(learner.training_state())
    batches = kind.batches(18, END)
    learner.steps(batches)
    again.steps(batches)
    assert all(
        torch.allclose(t, again.state_dict()[key], atol=1e-12) for key, t in learner.state_dict().items()
    )
    assert again.metrics == pytest.approx(learner.metrics)


@pytest.mark.parametrize("keep", [by_dict, by_file, by_pickle, by_copy])
def test_what_modules_keep_beside_tensors_goes_on_too(keep: Keeps, tmp_path: Path):
    """Weights that were loaded brought it; the layers that are given again have not heard of it."""
    kind = next(kind for kind in KINDS if kind.name == "tied, and passing")
    learner = kind.learner()
    kind.go(learner, 0, 4)
    learner.load_state_dict(learner.state_dict() | {"0._extra_state": {"factor": 3.0}})
    again = keep(kind, learner, tmp_path)
    assert again.state_dict()["0._extra_state"] == {"factor": 3.0}
    assert kind.go(again, 4, 8) == kind.go(learner, 4, 8)
    assert again.plain_model()[0].factor == 3.0


def test_what_no_file_can_hold_is_refused_by_name(tmp_path: Path):
    kind = next(kind for kind in KINDS if kind.name == "tied, and passing")
    learner = kind.learner()
    kind.go(learner, 0, 2)
    learner.load_state_dict(learner.state_dict() | {"0._extra_state": {"factor": object()}})
    with pytest.raises(UserError, match=r"extra_state\.0\..*factor: an object of type builtins\.object"):
        learner.save(tmp_path / "learner")


def test_back_to_the_past_twice_and_each_time_the_same_future():
    kind = KINDS[1]
    learner = kind.learner()
    kind.go(learner, 0, MIDWAY)
    state, futures = learner.training_state(), []
    for _ in range(2):
        futures.append((kind.go(learner, MIDWAY, END), learner.state_dict()["3.weight"].tolist()))
        learner.load_training_state(state)
    assert futures[0] == futures[1]


def test_after_a_tick_that_broke_off_it_goes_on_from_what_was_kept():
    def unruly(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if (target == 2).all():
            raise ValueError("no twos")
        return nn.functional.cross_entropy(output, target)

    kind = Kind("unruly", loss=None)
    learner, calm = (Learner(residual_net(), unruly, locality="nonlocal", **SETTINGS) for _ in range(2))
    batches = samples(8, (8,))
    for learning in (learner, calm):
        learning.steps(batches[:4])
    state = learner.training_state()
    with pytest.raises(RunError, match="no twos"):
        learner.step(batches[4][0], torch.tensor([2, 2, 2, 2]))
    with pytest.raises(RunError, match="cannot be gone on from"):
        learner.training_state()
    learner.load_training_state(state)
    for learning in (learner, calm):
        learning.steps(batches[4:])
    assert same_bits(learner, calm)
    assert kind.name


GO_ON = """
import sys
from hamdist import Learner
from support.learners import KINDS, told
for kind in KINDS:
    if kind.name in sys.argv[2:]:
        path = f"{{sys.argv[1]}}/{{kind.name}}"
        learner = Learner.load(path, kind.make())
        kind.go(learner, {first}, {last})
        learner.drain()
        learner.save(path)
"""


@pytest.mark.slow
def test_another_process_goes_on(tmp_path: Path):
    names = ("adam, in chunks", "dropout")
    learners = {kind.name: (kind, kind.learner()) for kind in KINDS if kind.name in names}
    for name, (kind, learner) in learners.items():
        kind.go(learner, 0, MIDWAY)
        learner.save(tmp_path / name)
    command = [sys.executable, "-c", GO_ON.format(first=MIDWAY, last=END), str(tmp_path), *names]
    search = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH", "")]))
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": search})
    assert learners.keys() == set(names)
    for name, (kind, learner) in learners.items():
        kind.go(learner, MIDWAY, END)
        learner.drain()
        assert same_bits(Learner.load(tmp_path / name, kind.make()), learner), name


def go_on(learner: Learner) -> Learner:
    """What a worker of a pool does."""
    KINDS[1].go(learner, MIDWAY, END)
    return learner


@pytest.mark.slow
def test_a_spawned_process_takes_it_and_gives_it_back():
    kind = KINDS[1]
    learner = kind.learner()
    kind.go(learner, 0, MIDWAY)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        again = pool.apply(go_on, (learner,))
    kind.go(learner, MIDWAY, END)
    assert same_bits(again, learner)


def test_before_the_first_batch_there_is_nothing_to_keep_but_it_can_be_pickled(tmp_path: Path):
    fresh = KINDS[0].learner()
    for keep in (fresh.training_state, lambda: fresh.save(tmp_path / "none")):
        with pytest.raises(RunError, match="takes its shapes from the first batch"):
            keep()
    again, other = pickle.loads(pickle.dumps(fresh)), KINDS[0].learner()
    KINDS[0].go(again, 0, 4)
    KINDS[0].go(other, 0, 4)
    assert same_bits(again, other)


def test_its_copy_is_its_own(tmp_path: Path):
    """A state that was taken does not move with the learner, nor with another that goes on from it."""
    kind = KINDS[1]
    learner = kind.learner()
    kind.go(learner, 0, MIDWAY)
    state = learner.training_state()
    before = {name: tensor.clone() for name, tensor in state["tensors"].items()}
    other = kind.learner()
    other.load_training_state(state)
    for each in (learner, other):
        kind.go(each, MIDWAY, END)
    assert all(torch.equal(state["tensors"][name], tensor) for name, tensor in before.items())


# What does not fit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hold": 2}, r"^hold: 1 in the state, and 2 here$"),
        ({"locality": "nonlocal"}, r"^locality: 'local' in the state, and 'nonlocal' here$"),
        ({"pairing": "current"}, r"^pairing: 'stashed' in the state, and 'current' here$"),
        ({"seed": 3}, r"^seed: 0 in the state, and 3 here$"),
        ({"dtype": torch.float32}, r"^dtype: 'float64' in the state, and 'float32' here$"),
        (ADAM, r"^adaptive: None in the state, and 'adam' here$"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_would_not_be_the_same_learner_is_refused_by_name(
    settings: dict[str, Any], message: str, tmp_path: Path
):
    learner, other = Kind("one").learner(), Kind("other").learner(**settings)
    learner.steps(samples(4, (8,)))
    with pytest.raises(UserError, match=message):
        other.load_training_state(learner.training_state())
    assert other.samples == 0
    learner.save(tmp_path / "learner")
    with pytest.raises(UserError, match=message):
        Learner.load(tmp_path / "learner", residual_net(), **settings)


def test_how_it_learns_may_change():
    learner, other = Kind("one").learner(), Kind("other").learner(beta=0.0)
    learner.steps(samples(4, (8,)))
    other.load_training_state(learner.training_state())
    before = other.state_dict()
    other.steps(samples(4, (8,)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


@pytest.mark.parametrize(
    ("layers", "arguments", "message"),
    [
        (lambda: residual_net(3), {}, r"^layers: the state is of 0, 1, 2 and 3, and these are 0, 1 and 2$"),
        (
            lambda: residual_net(width=8, classes=4),
            {},
            r"^3\.weight: \[3, 8\] float64 in the state, and \[4, 8\] ",
        ),
        (residual_net, {"edges": ["0->1", "1->2", "2->3", "0->3"]}, r"^edges: "),
        (residual_net, {"loss": "mse"}, r"^loss\.3: 'cross_entropy on 3' in the state, and 'mse on 3' here$"),
    ],
    ids=["fewer layers", "another width", "another edge", "another loss"],
)
def test_another_network_is_refused_by_name(
    layers: Callable[[], Any], arguments: dict[str, Any], message: str, tmp_path: Path
):
    learner = Kind("one").learner()
    learner.steps(samples(4, (8,)))
    learner.save(tmp_path / "learner")
    with pytest.raises(UserError, match=message):
        Learner.load(tmp_path / "learner", layers(), **arguments)


def test_other_weights_under_the_same_names_leave_a_learner_as_it_was():
    learner, other = Kind("one").learner(), Kind("other", lambda: residual_net(classes=4)).learner()
    for each in (learner, other):
        each.steps(samples(4, (8,)))
    before = other.training_state()
    with pytest.raises(UserError, match=r"^3\.weight: "):
        other.load_training_state(learner.training_state())
    assert before["told"] == other.training_state()["told"]


def test_a_closed_one_takes_nothing_up():
    learner, closed = Kind("one").learner(), Kind("other").learner()
    learner.steps(samples(4, (8,)))
    closed.close()
    for ask in (closed.load_training_state, closed.load_state_dict):
        with pytest.raises(RunError, match="this learner was closed"):
            ask(learner.training_state())


@pytest.mark.parametrize("state", [{}, {"0.weight": torch.zeros(2)}, None, 3])
def test_what_is_no_training_state_is_refused(state: Any):
    with pytest.raises(UserError, match="this is no training state of a learner"):
        Kind("one").learner().load_training_state(state)


def test_a_state_of_another_version_is_refused():
    learner = Kind("one").learner()
    learner.steps(samples(4, (8,)))
    with pytest.raises(
        UserError, match="the training state is of version 2, and this hamdist knows version 1"
    ):
        learner.load_training_state(learner.training_state() | {"version": 2})


def test_a_state_of_a_gpu_goes_on_on_a_cpu_where_that_is_said():
    learner, other = Kind("one").learner(), Kind("other").learner()
    learner.steps(samples(4, (8,)))
    state = learner.training_state()
    state["about"] = state["about"].replace('"device": "cpu"', '"device": "cuda"')
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="on cuda, which is not here: pass device='cpu'"):
            other.load_training_state(state)
    other.load_training_state(state, device="cpu")
    assert same_bits(other, learner)


def test_it_is_not_kept_in_the_midst_of_a_step():
    """As a signal handler would ask for it."""
    learner, asked = Kind("one").learner(), []
    learner.steps(samples(4, (8,)))

    def batches() -> Any:
        for batch in samples(2, (8,)):
            for ask in (
                learner.training_state,
                lambda: pickle.dumps(learner),
                lambda: copy.deepcopy(learner),
            ):
                with pytest.raises(RunError, match="in the midst of another call"):
                    ask()
                asked.append(ask)
            yield batch

    learner.steps(batches())
    assert len(asked) == 6
    assert learner.training_state()


# What cannot be pickled


def named_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(output, target)


def slower(n: torch.Tensor) -> torch.Tensor:
    return 0.1 / (1 + n)


def build() -> nn.Module:
    return nn.Linear(8, 3)


def hooked() -> nn.Module:
    layer = nn.Linear(8, 3)
    layer.register_forward_hook(lambda module, a, y: y)
    return layer


@pytest.mark.parametrize(
    ("layers", "arguments", "name"),
    [
        ([nn.Linear(8, 3)], {"loss": lambda y, t: y.mean()}, "the loss '0'"),
        ([lambda: nn.Linear(8, 3)], {}, "layer '0'"),
        ([nn.Linear(8, 8), hooked()], {}, "layer '1'"),
        ([nn.Linear(8, 3)], {"beta": lambda n: 0.1}, "beta"),
    ],
    ids=["loss", "builder", "hook", "beta"],
)
def test_what_cannot_be_pickled_is_refused_by_name(layers: list[Any], arguments: dict[str, Any], name: str):
    learner = Learner(layers, arguments.pop("loss", None), **arguments)
    learner.step(torch.zeros(2, 8), torch.tensor([0, 1]))
    with pytest.raises(TypeError, match=f"^{name} cannot be pickled: .*learner.save"):
        pickle.dumps(learner)
    assert copy.deepcopy(learner).samples == 2


def test_functions_by_their_names_can():
    learner = Learner([nn.Linear(8, 8), build], named_loss, beta=slower, locality="nonlocal")
    learner.step(torch.zeros(2, 8), torch.tensor([0, 1]))
    again = pickle.loads(pickle.dumps(learner))
    assert same_bits(again, learner)


def test_functions_must_be_given_again(tmp_path: Path):
    learner = Learner([nn.Linear(8, 8), build], named_loss, beta=slower, locality="nonlocal")
    learner.step(torch.zeros(2, 8), torch.tensor([0, 1]))
    path = tmp_path / "learner"
    learner.save(path)
    layers = [nn.Linear(8, 8), build]
    with pytest.raises(
        UserError, match=r"^loss: was the function 'named_loss', which no file holds: give it again$"
    ):
        Learner.load(path, layers, beta=slower)
    with pytest.raises(
        UserError, match=r"^beta: was the function 'slower', which no file holds: give it again$"
    ):
        Learner.load(path, layers, named_loss)
    with pytest.raises(UserError, match=r"^loss\.1: 'named_loss on 1' in the state, and 'unlike on 1' here$"):
        Learner.load(path, layers, unlike, beta=slower)
    assert same_bits(Learner.load(path, layers, named_loss, beta=slower), learner)
    assert same_bits(Learner.load(path, layers, lambda y, t: named_loss(y, t), beta=slower), learner)


def unlike(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return output.mean()
