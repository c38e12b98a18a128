"""Where the boxes and edges of a network's picture go: columns from left to right, lanes above and below them.

Time runs to the right, and on to the next line where a line is full. An edge to the next column is direct; one that
skips columns runs in a lane above the boxes, feedback in a lane below them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

COLUMNS_PER_LINE = 12

Kind = Literal["forward", "feedback", "target"]


@dataclass(frozen=True)
class Box:
    """A node.

    tick: when a sample arrives there.  under: what stands below a layer, "" for others.  group: one colour each.
    """

    name: str
    tick: int
    under: str = ""
    group: int | None = None


@dataclass(frozen=True)
class Arrow:
    """An edge between boxes, with what stands on it; every arrow but feedback leads to a later column."""

    source: str
    target: str
    label: str
    kind: Kind = "forward"


@dataclass(frozen=True)
class GraphDrawing:
    """column, row: of every box, the rows of a column counted from the top.

    lane: of every arrow, 0 for a direct one, 1, 2, … upwards for one that skips columns, −1, −2, … for feedback.
    """

    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    column: dict[str, int] = field(init=False)
    row: dict[str, int] = field(init=False)
    lane: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        column = columns(self.boxes, self.arrows)
        object.__setattr__(self, "column", column)
        object.__setattr__(self, "row", rows(column, self.arrows))
        object.__setattr__(self, "lane", lanes(column, self.arrows))

    @property
    def width(self) -> int:
        """The number of columns."""
        return 1 + max(self.column.values())

    @property
    def height(self) -> int:
        """The number of boxes in the fullest column."""
        return 1 + max(self.row.values())

    @property
    def per_line(self) -> int:
        """Columns in a line, the lines being about equally long."""
        lines = -(-self.width // COLUMNS_PER_LINE)
        return -(-self.width // lines)

    def members(self, column: int) -> list[Box]:
        """The boxes of a column."""
        return [box for box in self.boxes if self.column[box.name] == column]


def columns(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> dict[str, int]:
    """A column for every (tick, place among the boxes of that tick), in order of time."""
    ticks = {box.name: box.tick for box in boxes}
    forward = [arrow for arrow in arrows if arrow.kind != "feedback"]

    def place(name: str) -> int:
        """How many boxes of the same tick lie before one, on the longest way to it."""
        before = [a.source for a in forward if a.target == name and ticks[a.source] == ticks[name]]
        return 1 + max(map(place, before)) if before else 0

    moments = {name: (tick, place(name)) for name, tick in ticks.items()}
    index = {moment: i for i, moment in enumerate(sorted(set(moments.values())))}
    return {name: index[moment] for name, moment in moments.items()}


def rows(column: dict[str, int], arrows: Sequence[Arrow]) -> dict[str, int]:
    """Within a column, boxes in the order of the mean row of what they hear."""
    row: dict[str, int] = {}

    def heard(name: str) -> float:
        known = [row[a.source] for a in arrows if a.target == name and a.source in row]
        return sum(known) / len(known) if known else 0.0

    for index in range(1 + max(column.values())):
        members = [name for name, c in column.items() if c == index]
        row |= {name: i for i, name in enumerate(sorted(members, key=heard))}
    return row


def lanes(column: dict[str, int], arrows: Sequence[Arrow]) -> tuple[int, ...]:
    """The lane of every arrow: the nearest one that is free over its whole way, short ways first."""
    lane = [0] * len(arrows)
    ways = {i: gutters(column, arrow) for i, arrow in enumerate(arrows)}
    for i in sorted(ways, key=lambda i: (arrows[i].kind == "target", len(ways[i]))):
        side = -1 if arrows[i].kind == "feedback" else 1
        if side < 0 or len(ways[i]) > 1:
            lane[i] = _free_lane(ways[i], side, lambda taken: (ways[j] for j in ways if lane[j] == taken))
    return tuple(lane)


def gutters(column: dict[str, int], arrow: Arrow) -> range:
    """The gaps between columns that an arrow runs through; gap c lies to the right of column c."""
    start, end = column[arrow.source], column[arrow.target] - 1
    return range(min(start, end), max(start, end) + 1)


def _free_lane(way: range, side: int, ways_in: Callable[[int], Iterable[range]]) -> int:
    return next(
        lane
        for lane in (side * i for i in count(1))
        if all(other.stop <= way.start or way.stop <= other.start for other in ways_in(lane))
    )
