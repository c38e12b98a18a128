"""Memories whose units move each by themselves, so that ∂ξ/∂θ has no more numbers than weights, a row of the batch.

A weight of such a memory moves one block of units, which moves none of the others. PyTorch's cells are not so, but are
seen so: of what one unit does to another in a step the derivative is left out (SnAp-1, Menick et al., 2021).

Shapes: B batch, k units of a block, n blocks, H units of a component, G gates.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from hamdist.physics.statespace.cells import KINDS, Cell, CellView
from hamdist.physics.statespace.contract import State, between
from hamdist.physics.statespace.diagonal import DiagonalComplex, DiagonalReal
from hamdist.physics.statespace.lru import LRU
from hamdist.physics.statespace.rotations import CTB, CTBE
from hamdist.physics.statespace.walk import Memory

NEIGHBOURS: dict[type[nn.Module], int] = {DiagonalReal: 1, DiagonalComplex: 1, LRU: 1, CTB: 2, CTBE: 2}
"""How many units that follow each other move each other."""


class UnitBlocks(NamedTuple):
    """neighbours: how many units that follow each other in a component are of one block; those of one place in several
    components are in any case. A weight's rows are those of single units, of blocks, or of gates of all units in turn.
    """

    neighbours: int = 1

    def of(self, state: State) -> Tensor:
        """Components [B, H], with whatever comes before, as [B, k, n]."""
        units = torch.stack(state, -2)
        if self.neighbours == 1:
            return units
        return units.unflatten(-1, (-1, self.neighbours)).transpose(-1, -2).flatten(-3, -2)

    def along(self, blocks: Tensor, weight: Tensor) -> Tensor:
        """What is said of every block [B, k, n], for the rows of a weight: broadcasts to [B, k, *weight.shape]."""
        count = len(weight) // blocks.shape[-1]
        if count > 1:
            place = -1 if self.neighbours > 1 else -2
            shape = list(blocks.unsqueeze(place).shape)
            shape[place] = count
            blocks = blocks.unsqueeze(place).expand(shape).flatten(-2)
        return blocks.view(*blocks.shape, *[1] * (weight.dim() - 1))


def blocks_of(memory: Memory) -> UnitBlocks:
    """The blocks of a memory that has a sensitivity."""
    return UnitBlocks(1 if _cell_of(memory) is not None else NEIGHBOURS[type(memory)])  # type: ignore[index]


def has_sensitivity(memory: Memory) -> bool:
    """Whether its units move each by themselves, or are seen so; of memories of one's own nobody knows."""
    return _cell_of(memory) is not None or type(memory) in NEIGHBOURS


def approximated(memory: Memory) -> bool:
    """Whether they are only seen so."""
    return _cell_of(memory) is not None


def apart(memory: Memory) -> Memory:
    """The memory, with the derivatives of units apart."""
    cell = _cell_of(memory)
    return memory if cell is None else ApartView(cell, memory)


def _cell_of(memory: Memory) -> nn.RNNCellBase | None:
    """PyTorch's own cell in a memory, if that is what it is."""
    if type(memory) is Cell or type(memory) is CellView:
        return memory.cell if type(memory.cell) in KINDS.values() else None
    return None


class ApartView(CellView):
    """A cell whose step has the same numbers, and by the state the derivatives of each unit by itself.

    memory: of which it is the cell, and which says where it starts.
    """

    def __init__(self, cell: nn.RNNCellBase, memory: Memory) -> None:
        super().__init__(cell)
        self.learns_start = memory.learns_start
        self._memory = memory

    def initial_state(self, a: Tensor) -> State:
        return self._memory.initial_state(a)

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        heard = linear(a, self.cell.weight_ih, self.cell.bias_ih)
        return between(state, self._after(heard, self._recurrent(state[0]), state), tau)

    def _recurrent(self, h: Tensor) -> Tensor:
        """W h + b, with the derivatives of a diagonal W by h."""
        weight = self.cell.weight_hh
        own = weight.unflatten(0, (-1, h.shape[-1])).diagonal(dim1=-2, dim2=-1).flatten()
        change = h - h.detach()
        return linear(h.detach(), weight, self.cell.bias_hh) + own * change.repeat(1, len(own) // h.shape[-1])

    def _after(self, heard: Tensor, recurrent: Tensor, state: State) -> State:
        """The state that a step leads to, from what the gates hear of the input and of the state, [B, G H] each."""
        if isinstance(self.cell, nn.RNNCell):
            move = torch.tanh if self.cell.nonlinearity == "tanh" else torch.relu
            return (move(heard + recurrent),)
        if isinstance(self.cell, nn.GRUCell):
            (ar, az, an), (hr, hz, hn) = heard.chunk(3, -1), recurrent.chunk(3, -1)
            new, kept = torch.tanh(an + torch.sigmoid(ar + hr) * hn), torch.sigmoid(az + hz)
            return (new + kept * (state[0] - new),)
        i, f, g, o = (heard + recurrent).chunk(4, -1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
