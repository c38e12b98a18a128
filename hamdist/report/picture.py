"""The picture of a network: layers as boxes from left to right in time, the delay on every edge."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from hamdist.errors import MissingExtraError, UserError
from hamdist.report.layout import Arrow, Box, GraphDrawing

BOX_HEIGHT, ROW_PITCH, LANE_PITCH, GUTTER, HEADER = 0.44, 0.95, 0.3, 0.62, 0.4  # inches
LONGEST_NAME = 18
FILLS = ("#cfe3f7", "#fbe0b8", "#d5ecc9", "#ecd3ee", "#f7d0cf", "#cdebe9", "#eee6a8", "#dcd8f3")
PLAIN, OUTSIDE, BAND, INK, SOFT, RED = "#ffffff", "#eeeeee", "#f4f6f8", "#333333", "#999999", "#b3402a"
COLOURS = {"forward": INK, "feedback": RED, "target": SOFT}

Point = tuple[float, float]


def draw(boxes: Sequence[Box], arrows: Sequence[Arrow], path: str | Path) -> None:
    """Draws a network into a file, whose ending says the format (.png, .svg, .pdf).

    Raises MissingExtraError without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing a network", "plots") from None
    sheet = Sheet(GraphDrawing(boxes, arrows))
    figure = Figure(figsize=(sheet.width, sheet.height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, sheet.width), ylim=(-sheet.height, 0))
    axes.set_axis_off()
    for tick, first, last in sheet.bands():
        _draw_band(axes, sheet, tick, first, last)
    for arrow, lane in zip(arrows, sheet.drawing.lane, strict=True):
        _draw_arrow(axes, sheet, arrow, lane)
    for box in boxes:
        _draw_box(axes, sheet, box)
    axes.text(0.15, 0.12 - sheet.height, caption(sheet.drawing), fontsize=7, color=SOFT, va="bottom")
    try:
        figure.savefig(path, dpi=130, facecolor="white")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be drawn: {error}") from error


@dataclass(frozen=True)
class Sheet:
    """A drawing in inches; the origin is the upper left corner, and y runs upwards, so that all y are negative."""

    drawing: GraphDrawing

    @property
    def box_width(self) -> float:
        longest = max(len(shown(box.name)) for box in self.drawing.boxes)
        return max(0.62, 0.16 + 0.078 * longest)

    @property
    def pitch(self) -> float:
        return self.box_width + GUTTER

    @property
    def above(self) -> float:
        """From the top of a line to the middle of its first row."""
        return HEADER + LANE_PITCH * (max(0, *self.drawing.lane) + 0.5) + ROW_PITCH / 2

    @property
    def below(self) -> float:
        """From the middle of a line's last row to its bottom."""
        return ROW_PITCH / 2 + 0.15 - LANE_PITCH * min(0, *self.drawing.lane)

    @property
    def line_height(self) -> float:
        return self.above + ROW_PITCH * (self.drawing.height - 1) + self.below

    @property
    def width(self) -> float:
        return max(self.drawing.per_line * self.pitch + 0.3, 6.6)

    @property
    def height(self) -> float:
        return self.line_height * (self.line(self.drawing.width - 1) + 1) + 0.35

    def line(self, column: int) -> int:
        return column // self.drawing.per_line

    def left(self, column: int) -> float:
        """The left end of a column's share of the width, half a gutter before its boxes."""
        return 0.15 + (column % self.drawing.per_line) * self.pitch

    def middle(self, name: str) -> Point:
        """The centre of a box."""
        column = self.drawing.column[name]
        missing = self.drawing.height - len(self.drawing.members(column))
        row = self.drawing.row[name] + missing / 2
        return self.left(column) + self.pitch / 2, -self.line(
            column
        ) * self.line_height - self.above - row * ROW_PITCH

    def port(self, name: str, side: int, lane: int) -> Point:
        """Where an edge meets a box, on its right (side 1) or left (−1): in the upper, middle or lower third."""
        x, y = self.middle(name)
        third = (lane > 0) - (lane < 0)
        return x + side * self.box_width / 2, y + third * BOX_HEIGHT / 3

    def lane_height(self, line: int, lane: int) -> float:
        top = -line * self.line_height
        if lane > 0:
            return top - self.above + ROW_PITCH / 2 + LANE_PITCH * (lane - 0.5)
        return top - self.line_height + self.below - ROW_PITCH / 2 + LANE_PITCH * (lane + 0.5)

    def leg(self, name: str, side: int) -> float:
        """Where the edges of a box climb to their lanes or sink from them: one trunk a side, a place for every row."""
        share = self.drawing.row[name] / self.drawing.height
        return self.middle(name)[0] + side * (self.box_width / 2 + GUTTER * (0.2 + 0.2 * share))

    def bands(self) -> Iterator[tuple[int, int, int]]:
        """(tick, first column, last column) of what happens at one tick, broken at the ends of lines."""
        ticks = [self.drawing.members(column)[0].tick for column in range(self.drawing.width)]
        start = 0
        for column in range(1, self.drawing.width + 1):
            ended = column == self.drawing.width or ticks[column] != ticks[start]
            if ended or self.line(column) != self.line(start):
                yield ticks[start], start, column - 1
                start = column

    def pieces(self, arrow: Arrow, lane: int) -> list[list[Point]]:
        """The polylines of an arrow, one for every line it runs through, in the order of its way."""
        start, end = self._climb(arrow.source, 1, lane), self._climb(arrow.target, -1, lane)
        first, last = (
            self.line(self.drawing.column[arrow.source]),
            self.line(self.drawing.column[arrow.target]),
        )
        step = 1 if last >= first else -1
        enters, leaves = (0.0, self.width)[::step]
        pieces: list[list[Point]] = []
        for line in range(first, last + step, step):
            y = self.lane_height(line, lane)
            head = start if line == first else [(enters, y if lane else end[0][1])]
            tail = end[::-1] if line == last else [(leaves, y if lane else start[0][1])]
            pieces.append(head + tail)
        return pieces

    def _climb(self, name: str, side: int, lane: int) -> list[Point]:
        """From a box to the height of a lane."""
        port = self.port(name, side, lane)
        if not lane:
            return [port]
        x, line = self.leg(name, side), self.line(self.drawing.column[name])
        return [port, (x, port[1]), (x, self.lane_height(line, lane))]


def caption(drawing: GraphDrawing) -> str:
    """What the numbers and colours in the picture mean, those that are in it."""
    parts = ["on an edge: its delay in ticks", "D: ticks until a layer's costate returns"]
    if any(box.group is not None for box in drawing.boxes):
        parts.append("one colour: one instant (delay 0)")
    if any(arrow.kind == "feedback" for arrow in drawing.arrows):
        parts.append("red: feedback")
    return " · ".join(parts)


def shown(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def rounded(points: Sequence[Point], radius: float = 0.1) -> Any:
    """A polyline with its corners rounded, as a matplotlib path; two points become a gentle S."""
    from matplotlib.path import Path as Curve

    if len(points) == 2:
        (x1, y1), (x2, y2) = points
        middle = (x1 + x2) / 2
        return Curve([(x1, y1), (middle, y1), (middle, y2), (x2, y2)], [Curve.MOVETO] + [Curve.CURVE4] * 3)
    vertices, codes = [points[0]], [Curve.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
    return Curve([*vertices, points[-1]], [*codes, Curve.LINETO])


def _towards(start: Point, end: Point, distance: float) -> Point:
    """The point that lies so far from start on the way to end, but not beyond its middle."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    share = min(0.5, distance / max((dx * dx + dy * dy) ** 0.5, 1e-9))
    return start[0] + share * dx, start[1] + share * dy


def _draw_band(axes: Any, sheet: Sheet, tick: int, first: int, last: int) -> None:
    from matplotlib.patches import Rectangle

    top, left = -sheet.line(first) * sheet.line_height, sheet.left(first)
    width = (last - first + 1) * sheet.pitch
    if tick % 2 == 0:
        corner = (left, top - sheet.line_height + 0.06)
        axes.add_patch(Rectangle(corner, width, sheet.line_height - 0.12, color=BAND, linewidth=0, zorder=0))
    axes.text(left + width / 2, top - 0.14, f"tick {tick}", fontsize=7.5, color=SOFT, ha="center", va="top")


def _draw_arrow(axes: Any, sheet: Sheet, arrow: Arrow, lane: int) -> None:
    from matplotlib.patches import FancyArrowPatch

    colour, pieces = COLOURS[arrow.kind], sheet.pieces(arrow, lane)
    for piece in pieces:
        head = "-|>" if piece is pieces[-1] else "-"
        curve = FancyArrowPatch(
            path=rounded(piece), arrowstyle=head, mutation_scale=8, color=colour, linewidth=1, zorder=2
        )
        curve.set_linestyle(":" if arrow.kind == "target" else "-")
        curve.set_fill(head != "-")
        axes.add_patch(curve)
    (x1, y1), (x2, y2) = max(pairwise(pieces[0]), key=lambda ends: abs(ends[1][0] - ends[0][0]))
    label = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
    place = ((x1 + x2) / 2, (y1 + y2) / 2)
    axes.text(*place, arrow.label, fontsize=7, color=colour, ha="center", va="center", bbox=label, zorder=3)


def _draw_box(axes: Any, sheet: Sheet, box: Box) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = sheet.middle(box.name)
    fill = FILLS[box.group % len(FILLS)] if box.group is not None else PLAIN if box.under else OUTSIDE
    corner, width = (x - sheet.box_width / 2, y - BOX_HEIGHT / 2), sheet.box_width
    style = f"round,pad=0,rounding_size={0.08 if box.under else 0.2}"
    axes.add_patch(FancyBboxPatch(corner, width, BOX_HEIGHT, style, facecolor=fill, edgecolor=INK, zorder=4))
    axes.text(x, y, shown(box.name), fontsize=8, color=INK, ha="center", va="center", zorder=5)
    axes.text(
        x, y - BOX_HEIGHT / 2 - 0.05, box.under, fontsize=7, color=SOFT, ha="center", va="top", zorder=5
    )
