"""The source's part of a cut."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hamdist.engine.state import SourceState


@dataclass(frozen=True)
class SourcePart:
    """state: of the source; its tick is the cut's.  stream: the stream's position after the batch presented last.
    first: inputs and targets of the first batch of all, which tells a run that goes on the shapes.
    """

    state: SourceState
    stream: Mapping[str, Any]
    first: tuple[Tensor, Tensor | None]

    @property
    def tick(self) -> int:
        """That of the cut."""
        return self.state.tick
