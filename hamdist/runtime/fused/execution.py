"""In which form layers run: one by one as Python, or as stacks of traced operations; compiled; in chunks of ticks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """stacked: whether layers of equal structure compute as one, and regular ticks as one sequence of operations.

    compiled: whether torch's compiler makes machine code of them.  chunk: ticks that run, and cross between actors, in
    one go, where the delays allow.
    """

    stacked: bool = False
    compiled: bool = False
    chunk: int = 1


PLAIN = Execution()
STACKED = Execution(stacked=True)
