"""PyTorch's own cells as modules with a memory: RNNCell, GRUCell, LSTMCell. The hidden state is the output."""

from torch import Tensor, nn

from hamdist.physics.statespace.contract import State, StateSpace, between
from hamdist.physics.statespace.start import Initial

KINDS: dict[str, type[nn.RNNCellBase]] = {
    "RNNCell": nn.RNNCell,
    "GRUCell": nn.GRUCell,
    "LSTMCell": nn.LSTMCell,
}


class CellView:
    """A cell of PyTorch's, seen as what has a drift, an output and a start at zero; it stays as it is."""

    learns_start = False
    invertible = False

    def __init__(self, cell: nn.RNNCellBase) -> None:
        self.cell = cell

    @property
    def kind(self) -> str:
        return type(self.cell).__name__

    @property
    def components(self) -> int:
        return len(self.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.cell.hidden_size,) * (2 if isinstance(self.cell, nn.LSTMCell) else 1)

    def initial_state(self, a: Tensor) -> State:
        return tuple(a.new_zeros(len(a), size) for size in self.sizes)

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        """(h' − h)/τ, so that one step of any length is one call of the cell."""
        after = self.cell(a, state if len(state) > 1 else state[0])
        return between(state, (after,) if isinstance(after, Tensor) else tuple(after), tau)

    def output(self, a: Tensor, state: State) -> Tensor:
        return state[0]


class Cell(StateSpace):
    """A cell of PyTorch's that starts where it is told to; a bare cell starts at zero.

    kind: "RNNCell", "GRUCell" or "LSTMCell"; options: as theirs.
    """

    def __init__(
        self, kind: str, input_size: int, hidden_size: int, initial: Initial = "zeros", **options: object
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
        cell = KINDS[kind](input_size, hidden_size, **options)  # type: ignore[arg-type]
        super().__init__(input_size, CellView(cell).sizes, initial)
        self.cell = cell

    def drift(self, a: Tensor, state: State, tau: float) -> State:
        return CellView(self.cell).drift(a, state, tau)

    def output(self, a: Tensor, state: State) -> Tensor:
        return state[0]
