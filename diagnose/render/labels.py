"""Names beside points, none on another: a greedy search over boxes in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_RINGS: Final = (4, 12, 24, 40, 60, 84, 110, 140)
_ANGLES: Final = (45, 135, -45, -135, 20, 160, -20, -160, 90, -90, 70, 110, -70, -110, 0, 180)
_PADDING: Final = 2.0


Segment = tuple[float, float, float, float]
"""A line's two ends: x, y, x, y."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: left, bottom, right, top."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share more than an edge."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1

    def is_crossed(self, line: Segment) -> bool:
        """Whether the line from one point to another passes through (Liang and Barsky's clipping)."""
        x, y, end_x, end_y = line
        enter, leave = 0.0, 1.0
        for toward, room in (
            (x - end_x, x - self.x0), (end_x - x, self.x1 - x), (y - end_y, y - self.y0), (end_y - y, self.y1 - y),
        ):  # fmt: skip
            if toward == 0:
                if room < 0:
                    return False
            elif toward < 0:
                enter = max(enter, room / toward)
            else:
                leave = min(leave, room / toward)
        return enter <= leave

    def is_inside(self, other: Box) -> bool:
        """Whether ``other`` holds all of it."""
        return self.x0 >= other.x0 and self.x1 <= other.x1 and self.y0 >= other.y0 and self.y1 <= other.y1

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the box that is nearest to (x, y)."""
        return min(max(x, self.x0), self.x1), min(max(y, self.y0), self.y1)


@dataclass(frozen=True, slots=True)
class Spot:
    """A point that wants a name: its centre and radius, and the name's width and height."""

    x: float
    y: float
    radius: float
    width: float
    height: float


def free_boxes(
    spots: Sequence[Spot], inside: Box, taken: Sequence[Box], lines: Sequence[Segment] = ()
) -> list[Box | None]:
    """A box for each spot's name, in the order of the spots, the important first; None where there is no free place.

    No box touches another, a box of ``taken``, one of the ``lines`` or any spot, and each lies ``inside``. The line
    from a spot to its name crosses as little as can be.
    """
    names: list[Box] = []
    found: list[Box | None] = []
    for spot in spots:
        others: list[Box] = [*taken, *names, *(_around(other) for other in spots if other != spot)]
        free = [box for box in _candidates(spot) if _is_free(box, inside, [*others, _around(spot)], lines)]
        best = min(free, key=lambda box: _crossings(spot, box, others, lines), default=None)
        if best is not None:
            names.append(best)
        found.append(best)
    return found


def _is_free(box: Box, inside: Box, occupied: Sequence[Box], lines: Sequence[Segment]) -> bool:
    return box.is_inside(inside) and not any(map(box.overlaps, occupied)) and not any(map(box.is_crossed, lines))


def _crossings(spot: Spot, box: Box, occupied: Sequence[Box], lines: Sequence[Segment]) -> int:
    """How much lies on the way from the spot to the box."""
    leader = (spot.x, spot.y, *box.nearest(spot.x, spot.y))
    return sum(other.is_crossed(leader) for other in occupied) + sum(_meet(leader, line) for line in lines)


def _meet(one: Segment, other: Segment) -> bool:
    """Whether two lines cross: each has the other's ends on both of its sides."""

    def side(line: Segment, x: float, y: float) -> float:
        return (line[2] - line[0]) * (y - line[1]) - (line[3] - line[1]) * (x - line[0])

    return (
        side(one, other[0], other[1]) * side(one, other[2], other[3]) < 0
        and side(other, one[0], one[1]) * side(other, one[2], one[3]) < 0
    )


def _around(spot: Spot) -> Box:
    return Box(spot.x - spot.radius, spot.y - spot.radius, spot.x + spot.radius, spot.y + spot.radius)


def _candidates(spot: Spot) -> Iterator[Box]:
    """Places around the spot, the nearest first; the box's side or corner that faces the spot is put on the ring."""
    width, height = spot.width + 2 * _PADDING, spot.height + 2 * _PADDING
    for ring in _RINGS:
        for angle in _ANGLES:
            right, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x, y = spot.x + (spot.radius + ring) * right, spot.y + (spot.radius + ring) * up
            left, bottom = x - width * (1 - right) / 2, y - height * (1 - up) / 2
            yield Box(left, bottom, left + width, bottom + height)
