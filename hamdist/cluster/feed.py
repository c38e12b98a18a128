"""What a stream is to the worker that gives it to the network."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor

Pair = tuple[Tensor, Tensor | None] | tuple[Tensor, Tensor | None, Tensor | None]
Pairs = Iterator[Pair]
"""Batches: inputs, targets, and perhaps flags where episodes begin."""


class Feed(Protocol):
    """A stream of batches, which says where it is and, unless it cannot seek, can be opened anew and go on there.

    state_dict: the position after the batch handed out last. load_state_dict: the next iteration goes on there; of a
    feed that does not seek, what comes next is what follows.
    """

    @property
    def seeks(self) -> bool: ...

    @property
    def taken(self) -> int:
        """How many samples its source has given, up to that position."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many of them were left out since they are not finite, by what that was."""

    def __iter__(self) -> Pairs: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def holdout(self) -> Pairs | None: ...


class Fed(NamedTuple):
    """A batch, and the feed's position after it, where anybody wants it; or, without a batch, so many silent ticks."""

    batch: Pair | None
    position: dict[str, Any] | None = None
    silent: int = 0


def fed(feed: Feed, positions: bool) -> Iterator[Fed]:
    """The batches of a feed, each with its position where they are wanted."""
    for batch in feed:
        yield Fed(batch, feed.state_dict() if positions else None)
