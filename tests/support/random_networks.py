"""Random networks with skip edges, several inputs and several joins, for the equivalence tests."""

import random

import torch
from torch import nn

from hamdist.network.graph import LOSS, Edge
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.locality import Locality, apply_locality
from hamdist.network.losses import LossSpec
from hamdist.network.network import Network
from hamdist.network.timing import shortest_hold


def random_network(seed: int, width: int = 6, classes: int = 3, **locality) -> tuple[Network, int]:
    """A network of 4 to 8 layers that each hear one to three earlier ones, and the hold it needs to settle."""
    chance = random.Random(seed)
    count = chance.randint(4, 8)
    edges, specs = [], []
    for target in range(count):
        heard = sorted(chance.sample(range(target), min(target, chance.randint(1, 3))))
        edges += [Edge(f"n{source}", f"n{target}") for source in heard]
        join = chance.choice(["sum", "concat"])
        inputs = width * len(heard) if join == "concat" and heard else width
        specs.append(
            LayerSpec(
                f"n{target}", _builder(inputs, width if target < count - 1 else classes, seed, target), join
            )
        )
    leading = {edge.source for edge in edges}
    dead_ends = [f"n{i}" for i in range(count - 1) if f"n{i}" not in leading]
    losses = {LOSS: LossSpec(nn.functional.cross_entropy, f"n{count - 1}", "cross_entropy")}
    for name in dead_ends:  # a layer nobody hears bears a loss of its own
        losses[f"loss-{name}"] = LossSpec(nn.functional.cross_entropy, name, "cross_entropy", 0.5)
    network = Network(tuple(specs), losses, tuple(edges))
    return network, shortest_hold(apply_locality(network.graph, Locality(**locality)))


def _builder(inputs: int, outputs: int, seed: int, index: int):
    def build() -> nn.Module:
        torch.manual_seed(1000 * seed + index)
        return nn.Sequential(nn.Linear(inputs, outputs), nn.Tanh()).double()

    return build
