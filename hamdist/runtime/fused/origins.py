"""Where the tensors come from that a unit needs in a tick, and how those of its members are put side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from hamdist.runtime.aligned import settled


@dataclass(frozen=True)
class Outside:
    """What came along an edge from another part, or from the source.  edge: its index in the graph."""

    edge: int


@dataclass(frozen=True)
class Said:
    """What a member of a unit said, `ticks` ago."""

    unit: int
    member: int
    ticks: int


@dataclass(frozen=True)
class Returned:
    """What a member of a unit returned along one of its in-edges, `ticks` ago."""

    unit: int
    slot: int
    member: int
    ticks: int


@dataclass(frozen=True)
class Judged:
    """What a loss returned, `ticks` ago."""

    loss: int
    ticks: int


@dataclass(frozen=True)
class Point:
    """A member's part of what a unit was evaluated at, `ticks` ago within this chunk of ticks."""

    member: int
    ticks: int


Origin = Outside | Said | Returned | Judged | Point
Lookup = Callable[[Origin], Tensor]
"""The tensor of all members, for an origin with its member set to 0; what has no members has none."""


def side_by_side(origins: Sequence[Origin], lookup: Lookup, stacked: Callable[[Origin], bool]) -> Tensor:
    """The tensors of several members along a first dimension; neighbours that lie side by side stay together."""
    runs = [[origin for _, origin in run] for _, run in groupby(enumerate(origins), _run_of)]
    parts = [_rows(run, lookup, stacked(run[0])) for run in runs]
    return settled(parts[0]) if len(parts) == 1 else torch.cat(parts)


def single(origin: Origin, lookup: Lookup, stacked: bool) -> Tensor:
    """The tensor of one member."""
    tensor = lookup(_first(origin))
    return settled(tensor[_member(origin)]) if stacked else tensor


def _rows(run: Sequence[Origin], lookup: Lookup, stacked: bool) -> Tensor:
    tensor = lookup(_first(run[0]))
    if not stacked:
        return tensor.unsqueeze(0)
    start = _member(run[0])
    return tensor[start : start + len(run)]


def _run_of(numbered: tuple[int, Origin]) -> tuple[Origin, int]:
    """Alike for origins that follow each other in one tensor."""
    place, origin = numbered
    if isinstance(origin, Outside | Judged):
        return origin, place
    return _first(origin), origin.member - place


def _first(origin: Origin) -> Origin:
    return origin if isinstance(origin, Outside | Judged) else replace(origin, member=0)


def _member(origin: Origin) -> int:
    return 0 if isinstance(origin, Outside | Judged) else origin.member
