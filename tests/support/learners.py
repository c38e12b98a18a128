"""Learners to be kept and gone on with: every kind of thing that moves, and whether two stand at the same bits."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from support.networks import cnn, half, mlp, residual_net
from support.samples import samples
from torch import Tensor, nn

from hamdist import Coupling, Learner, Prediction, midpoint
from hamdist.engine.encoding import Encoded, decode
from hamdist.physics import statespace

SETTINGS: dict[str, Any] = {"dtype": torch.float64, "beta": 0.05}


@dataclass(frozen=True)
class Kind:
    """make: the layers.  shape: of a row.  chunk: batches that come in one go."""

    name: str
    make: Callable[[], Any] = residual_net
    settings: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = (8,)
    loss: Any = None
    edges: tuple[str, ...] | None = None
    chunk: int = 1

    def learner(self, **more: Any) -> Learner:
        return Learner(self.make(), self.loss, edges=self.edges, **(SETTINGS | dict(self.settings) | more))

    def batches(self, first: int, last: int) -> list[tuple[Any, ...]]:
        """Episodes begin now and then, and a target is missing now and then."""
        found = []
        for number, (x, target) in enumerate(samples(last, self.shape)[first:], first):
            flags = torch.tensor([number % 9 == 4, False, number % 5 == 2, False])
            y: Any = target
            if self.loss is not None:
                y = {"head": target, "aux": x[:, :2]}
            elif number % 7 == 3:
                y = torch.cat([torch.tensor([-100]), target[1:]])
            found.append((x, y, flags))
        return found

    def go(self, learner: Learner, first: int, last: int) -> list[Any]:
        """Presents batches from one number to another, with a hold-out now and then; what left the network."""
        batches = self.batches(first, last)
        if self.chunk > 1:
            pieces = [batches[i : i + self.chunk] for i in range(0, len(batches), self.chunk)]
            return told(p for piece in pieces for p in learner.steps(piece))
        left: list[Any] = []
        for number, batch in enumerate(batches, first):
            left += told([learner.step(*batch)])
            if number % 10 == 7:
                left.append(learner.evaluate([batch]))
        return left


def told(predictions: Iterable[Prediction | None]) -> list[Any]:
    return [p and (p.first, p.rows, p.output.tolist(), str(p.loss.item())) for p in predictions]


def couplings() -> list[nn.Module]:
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8), Coupling(half(), half()), Coupling(half(), half()), nn.Linear(8, 3)]
    return [layer.double() for layer in layers]


def midpoints() -> list[nn.Module]:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.Tanh()).double() for _ in range(3)]
    return midpoint(blocks, nn.Linear(8, 3).double())


def memories() -> list[nn.Module]:
    torch.manual_seed(0)
    return [statespace.CSSM(8, 6, 5).double(), statespace.CTBE(5, 6, 4).double(), nn.Linear(4, 3).double()]


def dropped() -> list[nn.Module]:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.3), nn.Tanh())
    return [layer.double(), nn.Linear(8, 3).double()]


def branched() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "body": nn.Sequential(nn.Linear(8, 8), nn.Tanh()).double(),
        "head": nn.Linear(8, 3).double(),
        "aux": nn.Linear(8, 2).double(),
    }


class Odd(nn.Module):
    """Two weights that are one, a buffer that no state_dict has, and a factor that it keeps as its extra state."""

    passing: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.one.weight
        self.register_buffer("passing", torch.zeros(8), persistent=False)
        self.factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        y = self.factor * self.other(torch.tanh(self.one(x)))
        self.passing = 0.9 * self.passing + y.detach().mean(0)
        return y - self.passing

    def get_extra_state(self) -> dict[str, float]:
        return {"factor": self.factor}

    def set_extra_state(self, state: dict[str, float]) -> None:
        self.factor = state["factor"]


def odd() -> list[nn.Module]:
    torch.manual_seed(0)
    return [Odd().double(), nn.Linear(8, 3).double()]


ADAM = {"adaptive": {"type": "adam"}, "weight_decay": 0.01}
LOSSES = {"head": "cross_entropy", "aux": {"type": "mse", "weight": 0.3}}
KINDS = [
    Kind("stashed, with momentum", settings={"dissipation": {"weight": 0.2}}),
    Kind("adam", settings=ADAM),
    Kind("adam, in chunks", mlp, ADAM | {"stack": True, "chunk": 4}, chunk=4),
    Kind("stacked", settings={"stack": True}),
    Kind("current", settings={"pairing": "current"}),
    Kind("graph", settings={"stash": "graph"}),
    Kind("reversible", couplings, {"pairing": "reversible"}),
    Kind("midpoint steps", midpoints, {"pairing": "reversible"}),
    Kind("non-local", settings={"locality": "nonlocal"}),
    Kind("memories", memories),
    Kind("forward in time", memories, {"pairing": "current"}),
    Kind("blocks of time", memories, {"time": "backward", "horizon": 5}),
    Kind("windows of time", memories, {"time": "backward", "horizon": 5, "window": "slid"}),
    Kind("dropout", dropped),
    Kind("batch norm", cnn, shape=(1, 8, 8)),
    Kind("held", settings={"hold": 3}),
    Kind("cyclic", settings={"locality": "cyclic", "pairing": "current", "hold": 4}),
    Kind("dampened", settings={"dissipation": {"weight": 0.5}, "dampening": 0.5}),
    Kind("a schedule", settings={"beta": {"schedule": "linear", "start": 0.1, "end": 0.01, "over": 20}}),
    Kind("several losses", branched, loss=LOSSES, edges=("body->head", "body->aux")),
    Kind("tied, and passing", odd),
    Kind("delays", settings={"delays": {"1->2": 3, "source->0": 2}}),
]


def same_bits(one: Learner, other: Learner) -> bool:
    """Whether all that moves of them is the same, to the bit, and what they say of themselves."""
    return (
        same_states(one.training_state(), other.training_state())
        and same_tensors(one.state_dict(), other.state_dict())
        and (one.metrics, one.samples) == (other.metrics, other.samples)
    )


def same_states(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Of two training states, however their tensors are written down."""
    ours, theirs = (decode(Encoded(state["tensors"], json.loads(state["told"]))) for state in (one, other))
    return _same(ours, theirs)


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return _bits(one) == _bits(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list | deque):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def same_tensors(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Extra states are among them."""
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _bits(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
