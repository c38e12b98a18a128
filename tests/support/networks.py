"""Networks to compare: chains of modules, and networks from builders by name."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from hamdist.network.edges import edge_of
from hamdist.network.graph import LOSS
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.losses import LossSpec
from hamdist.network.network import Network
from hamdist.physics.modules import Coupling, Residual


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


def relaxed(layers: Iterable[nn.Module], constant: float) -> Network:
    """The network with all its layers relaxing but the last, which bears the loss."""
    network = Network.of(layers, nn.functional.cross_entropy)
    specs = [replace(spec, relaxing=constant) for spec in network.layers[:-1]]
    return replace(network, layers=(*specs, network.layers[-1]))


def half() -> nn.Module:
    """What one half of a coupling of 8 features does to the other."""
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh())


def reversible_net(depth: int, seed: int = 0) -> list[nn.Module]:
    """Couplings, which have an inverse, between two layers that have none."""
    torch.manual_seed(seed)
    couplings = [Coupling(half(), half()) for _ in range(depth - 2)]
    return [layer.double() for layer in (nn.Linear(8, 8), *couplings, nn.Linear(8, 3))]
