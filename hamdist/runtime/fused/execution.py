"""How a part's regular ticks run: one by one or in chunks, operation by operation or compiled."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """chunk: ticks in one go.  compiled: whether torch's compiler makes machine code of them."""

    chunk: int = 1
    compiled: bool = False


EAGER = Execution()
