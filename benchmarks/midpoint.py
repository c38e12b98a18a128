"""Memory of a step against depth where blocks are steps of the midpoint rule, which are inverted and not stored.

Activations' memory is everything alive that is not a weight, its momentum or its gradient: its peak within one step,
non-local, under the pairing `reversible`, beside PyTorch's backpropagation through the same network, with and without
checkpoints of every block. Every storage is followed from its making to its end, on the CPU.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from activation_contenders import Batch, Contender, Local, Loop
from activation_memory import MIB, on_cpu
from deep_networks import Attention, Build, Kind, convolutional, convolutions, perceptron, transformer
from table import machine, show, verdict
from torch import nn

from hamdist.physics.midpoint import LatestOfTwo, Midpoint

DEPTHS = (2, 4, 8, 16, 32, 64)
LIMIT = 1.1
ROWS, CHANNELS, WIDTH = 4, 16, 32


class Chain(NamedTuple):
    """kind: whose stem, head and samples it has.  body: what builds a block.  dim: along which two signals lie."""

    kind: Kind
    body: Build
    dim: int

    @property
    def name(self) -> str:
        return self.kind.name

    def batch(self, rows: int, device: torch.device) -> Batch:
        return self.kind.batch(rows, device)

    def builders(self, depth: int, reversible: bool = False) -> dict[str, Build]:
        """As a Kind's; the blocks are reversible either way."""
        steps = {f"block{n}": partial(self._step, n == 0) for n in range(depth)}
        return {"stem": self.kind.stem, **steps, "head": self._head}

    def _step(self, starts: bool) -> nn.Module:
        return Midpoint(self.body(), starts, self.dim)

    def _head(self) -> nn.Module:
        return nn.Sequential(LatestOfTwo(self.dim), self.kind.head())


def attentive() -> nn.Module:
    return nn.Sequential(Attention(WIDTH, heads=4), perceptron(WIDTH))


CHAINS = (
    Chain(convolutional(CHANNELS, side=16), partial(convolutions, CHANNELS), dim=1),
    Chain(transformer(WIDTH, positions=128), attentive, dim=2),
)
OURS = "hamdist, reversible"
CONTENDERS: Mapping[str, Callable[[Chain, int, Batch], Contender]] = {
    "backpropagation": partial(Loop, checkpoints=False),
    "checkpoint a block": partial(Loop, checkpoints=True),
    OURS: partial(Local, pairing="reversible", mode="nonlocal"),
}


def measure(chain: Chain, depths: Sequence[int]) -> dict[str, list[int]]:
    """The peak of a step in bytes, by contender, one for each depth."""
    batch = chain.batch(ROWS, torch.device("cpu"))
    return {
        name: [on_cpu(partial(make, chain, depth, batch)).peak for depth in depths]
        for name, make in CONTENDERS.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 and 64 blocks alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    depths = (DEPTHS[0], DEPTHS[-1]) if options.quick else DEPTHS
    for chain in CHAINS:
        peaks = measure(chain, depths)
        rows = [(name, *(f"{size / MIB:.2f}" for size in found)) for name, found in peaks.items()]
        show(
            f"{chain.name}, batch {ROWS}: MiB at the peak of a step, by blocks", ["", *map(str, depths)], rows
        )
        ratios = {name: found[-1] / found[0] for name, found in peaks.items()}
        print(verdict(f"{OURS}, {depths[-1]} blocks / {depths[0]}", ratios[OURS], LIMIT))
        print(f"backpropagation {ratios['backpropagation']:.3g}")
    print(machine())


if __name__ == "__main__":
    main()
