"""What the equivalence tests share: networks to compare, a runtime around them, streams of random samples."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hamdist.engine.build import program
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.spec import PLAIN, Execution
from hamdist.network.graph import LOSS
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.network import LayerSpec, LossSpec, Network, edge_of
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.modules import Residual
from hamdist.physics.rates import Rate

Batches = list[tuple[Tensor, Tensor]]


def mlp(depth: int = 3, width: int = 8, classes: int = 3, seed: int = 0) -> list[nn.Module]:
    torch.manual_seed(seed)
    hidden = [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(depth - 1)]
    return [layer.double() for layer in (*hidden, nn.Linear(width, classes))]


def residual_net(depth: int = 4, width: int = 8, classes: int = 3, seed: int = 0) -> list[nn.Module]:
    torch.manual_seed(seed)
    blocks = [Residual(nn.Sequential(nn.Linear(width, width), nn.Tanh())) for _ in range(depth - 1)]
    return [layer.double() for layer in (*blocks, nn.Linear(width, classes))]


def cnn(classes: int = 3, seed: int = 0) -> list[nn.Module]:
    """For images [B, 1, 8, 8]."""
    torch.manual_seed(seed)
    return [
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()).double(),
        nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.GELU()).double(),
        nn.Sequential(nn.Flatten(), nn.Linear(64, classes)).double(),
    ]


def transformer(classes: int = 3, seed: int = 0) -> list[nn.Module]:
    """For sequences [B, T, 8]; classifies every position: output [B, classes, T]."""
    torch.manual_seed(seed)

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, classes)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x).transpose(1, 2)

    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return [nn.Linear(8, 8).double(), block.double(), Head().double()]


def samples(count: int, shape: Sequence[int], classes: int = 3, batch: int = 4, seed: int = 1) -> Batches:
    """Random classification batches; an output with positions has one class for each."""
    generator = torch.Generator().manual_seed(seed)
    positions = tuple(shape[:1]) if len(shape) == 2 else ()
    return [
        (
            torch.randn(batch, *shape, generator=generator, dtype=torch.float64),
            torch.randint(0, classes, (batch, *positions), generator=generator),
        )
        for _ in range(count)
    ]


def learning(beta: float = 0.1, **constants: Any) -> Learning:
    """Learning constants from keywords of Dynamics, Rate ("adaptive") and Learning ("gamma", "rate")."""
    adaptive = constants.pop("adaptive", None)
    outer = {key: constants.pop(key) for key in ("gamma", "rate", "beta_scale") if key in constants}
    return Learning(
        Dynamics(rate=Rate(beta, adaptive=adaptive), **constants), **({"rate": "constant"} | outer)
    )


def runtime_of(
    layers: Any,
    batches: Batches,
    loss: Any = nn.functional.cross_entropy,
    edges: Any = None,
    rule: Learning | None = None,
    seed: int = 0,
    execution: Execution = PLAIN,
    **locality: Any,
) -> InlineRuntime:
    """An inline runtime in float64 over modules or a Network."""
    network = layers if isinstance(layers, Network) else Network.of(layers, loss, edges)
    place = replace(Locality(), **locality)
    built = program(network, place, rule or learning(), batches[0], seed, torch.float64, execution)
    return InlineRuntime(built)


def run_through(runtime: InlineRuntime, batches: Iterable[tuple[Tensor, Tensor]]) -> list[Any]:
    """Presents every batch and drains; all predictions in order."""
    predictions = [p for x, y, *flags in batches for p in runtime.present(x, y, True, *flags)]
    return predictions + list(runtime.drain())


def weights(runtime: InlineRuntime) -> dict[str, Tensor]:
    """Every weight, by "<layer>.<parameter>"."""
    return {
        f"{name}.{key}": value.clone()
        for name, cell in runtime.cells.items()
        for key, value in cell.carry.parameters.items()
    }


def largest_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest absolute difference over all entries; the keys must agree."""
    assert ours.keys() == theirs.keys()
    return max((ours[key] - theirs[key]).abs().max().item() for key in ours)


def network_of(
    builders: Mapping[str, Callable[[], nn.Module]],
    edges: Iterable[str] | None = None,
    losses: Mapping[str, str] | None = None,
    joins: Mapping[str, str] | None = None,
) -> Network:
    """A network from builders by name; losses: node → layer (the last by default); joins: layer → its join."""
    names = list(builders)
    specs = [LayerSpec(name, build, (joins or {}).get(name, "sum")) for name, build in builders.items()]
    borne = losses or {LOSS: names[-1]}
    loss = nn.functional.cross_entropy
    parsed = None if edges is None else tuple(edge_of(edge, names) for edge in edges)
    losses_by_node = {node: LossSpec(loss, layer, "cross_entropy") for node, layer in borne.items()}
    return Network(tuple(specs), losses_by_node, parsed)


def everything(cell: LayerNode) -> dict[str, Tensor]:
    """All that a layer carries, by "<part>.<name>": θ, ω, buffers, moments, ξ, p and the count of updates."""
    carry = cell.carry
    named = {
        f"{part}.{key}": tensor
        for part in ("parameters", "weight_costate", "buffers", "moments")
        for key, tensor in getattr(carry, part).items()
    }
    states = {
        f"{part}.{i}": t for part in ("state", "state_costate") for i, t in enumerate(getattr(carry, part))
    }
    return {key: tensor.clone() for key, tensor in {**named, **states, "updates": carry.updates}.items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The keys whose tensors are not the same to the last bit."""
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


def watch(runtime: InlineRuntime, observe: Callable[[int], None]) -> None:
    """Calls `observe` with the number of every tick, right after it; batches are to be presented one by one."""
    advance = runtime._part.advance

    def watched(ticks: int = 1) -> Any:
        assert ticks == 1
        predictions = advance()
        observe(runtime.tick - 1)
        return predictions

    runtime._part.advance = watched


def same_bits(ours: InlineRuntime, theirs: InlineRuntime) -> bool:
    """Whether two runs hold the same carries to the last bit."""
    return all(
        not changed(everything(ours.cells[name]), everything(theirs.cells[name])) for name in ours.cells
    )
