"""The two tables of the text report as lines: the waterfall's bars and the ranked kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from diagnose.render.lines import Line, in_columns
from diagnose.render.names import clean, fit, fit_kernel, fit_line, fit_module, short_kernel, short_op
from diagnose.render.selection import PART_WORDS, groups_of, stack_of
from diagnose.render.words import bound_words, line_words, rate_words, shapes_words
from diagnose.schema import Bound, KernelRow, WaterfallRow
from diagnose.units import format_ns, format_share

STYLES: Final[dict[str | None, str]] = {
    "compute": "blue", "memory": "yellow", "communication": "green", "overhead": "magenta", None: "bright_black",
}  # fmt: skip
_BLOCKS: Final[dict[Bound | None, str]] = {
    "compute": "█", "memory": "▓", "communication": "▒", "overhead": "░", None: "∙",
}  # fmt: skip
_LONGEST_BAR: Final = 30
_BEFORE_BAR: Final = 63
_FEWEST_SHAPES: Final = 10
_ROOMY: Final = 96
"""From this width on the kernel table has room for the calls and the source line."""


class _Bar(Struct, frozen=True):
    """One line of the waterfall: a part, or several that are small."""

    words: str
    ns: int
    share: float
    parts: int = 1


def bars(rows: Sequence[WaterfallRow], width: int, most_lines: int) -> list[Line]:
    """One line a part, by kind of limit; where there are too many, the smallest parts of a kind share a line."""
    groups = groups_of(list(rows))
    shown = _folded(
        [[_Bar(PART_WORDS[row.part], row.ns, row.share) for row in members] for _, members in groups], most_lines
    )
    longest = max((bar.share for bars in shown for bar in bars), default=1.0) or 1.0
    room = min(_LONGEST_BAR, width - _BEFORE_BAR)
    lines: list[Line] = []
    for (bound, members), group in zip(groups, shown, strict=True):
        for index, bar in enumerate(group):
            kind, total = ("", "") if index else (bound or "no kind", format_share(sum(row.share for row in members)))
            line = Line(f"{kind:13} {total:>5}  ", style="bold")
            line.append(f"{bar.words:24} {format_ns(bar.ns):>8} {format_share(bar.share):>6}  ", style="not bold")
            length = max(1 if bar.ns else 0, round(room * bar.share / longest))
            line.append(_BLOCKS[bound] * length, style=f"not bold {STYLES[bound]}")
            lines.append(line)
    return lines


def _folded(groups: list[list[_Bar]], most: int) -> list[list[_Bar]]:
    """The two smallest parts of a kind become one, where that hides least, until there are few enough."""
    while sum(map(len, groups)) > most and any(len(group) > 1 for group in groups):
        smallest = {
            index: sorted(group, key=lambda bar: bar.ns)[:2] for index, group in enumerate(groups) if len(group) > 1
        }
        chosen = min(smallest, key=lambda index: sum(bar.ns for bar in smallest[index]))
        first, second = smallest[chosen]
        count = first.parts + second.parts
        one = _Bar(f"{count} smaller parts", first.ns + second.ns, first.share + second.share, count)
        groups[chosen] = [*(bar for bar in groups[chosen] if bar is not first and bar is not second), one]
    return groups


class _Column(Struct, frozen=True):
    """One column: its heading, its cells and its width; a column of names is on the left and is cut to fit."""

    heading: str
    cells: Sequence[str]
    width: int
    is_name: bool = False

    def lines(self) -> list[str]:
        """The heading and the cells, each exactly as wide as the column."""
        shown = [fit(text, self.width) for text in (self.heading, *self.cells)]
        return [in_columns(text if self.is_name else text.rjust(self.width), self.width) for text in shown]


def kernel_lines(rows: Sequence[KernelRow], width: int, *, by_module: bool = False) -> list[Line]:
    """A heading and one line a row, each at most ``width`` wide: names are shortened, never wrapped."""
    numbers = _number_columns(rows, with_calls=width >= _ROOMY)
    bounds = [bound_words(row).replace("communication", "commun.") for row in rows]
    bound = _Column("bound", bounds, max(map(len, ["bound", *bounds])), is_name=True)
    spare = width - sum(column.width + 1 for column in [*numbers, bound])
    names, line = _name_columns(rows, spare, by_module=by_module, with_line=width >= _ROOMY)
    before, after = numbers[:1] + names, numbers[1:] + line
    left, middle, right = _rows_of(before), bound.lines(), _rows_of(after)
    lines = [Line(f"{left[0]} {middle[0]} {right[0]}".rstrip(), style="bold")]
    for index, row in enumerate(rows, start=1):
        line_text = Line(f"{left[index]} ")
        line_text.append(middle[index], style=STYLES[row.bound])
        lines.append(line_text.append(f" {right[index].rstrip()}"))
    return lines


def _rows_of(columns: Sequence[_Column]) -> list[str]:
    return [" ".join(cells) for cells in zip(*(column.lines() for column in columns), strict=True)]


def _number_columns(rows: Sequence[KernelRow], *, with_calls: bool) -> list[_Column]:
    cells = {
        "#": [str(row.place) for row in rows],
        "time": [format_ns(row.time_ns) for row in rows],
        "share": [format_share(row.share) for row in rows],
        "calls": [str(row.calls) for row in rows],
        "effic.": [format_share(row.efficiency) for row in rows],
        "achieved": [rate_words(row) for row in rows],
    }
    if not with_calls:
        del cells["calls"]
    return [_Column(heading, texts, max(map(len, [heading, *texts]))) for heading, texts in cells.items()]


def _name_columns(
    rows: Sequence[KernelRow], spare: int, *, by_module: bool, with_line: bool
) -> tuple[list[_Column], list[_Column]]:
    """What stands left of the numbers (kernel, and op or module) and right of them (source line) in ``spare``."""
    kernels = [short_kernel(row.kernel) for row in rows]
    seconds = [clean(stack_of(row) or "?") if by_module else short_op(row.op) for row in rows]
    files = [line_words(row) for row in rows]
    line_columns = []
    if with_line and any(files) and not by_module:
        room = min(max(map(len, files)), spare // 3)
        line_columns = [_Column("line", [fit_line(line, room) for line in files], room, is_name=True)]
        spare -= line_columns[0].width + 1
    if not by_module and all(row.kernel == row.op for row in rows):
        kernels, seconds = [short_op(row.kernel) for row in rows], []  # on a CPU the op is the kernel
    columns = []
    if seconds:
        heading, most = ("module", spare * 3 // 5) if by_module else ("op", spare * 2 // 5)
        room = min(max(map(len, [heading, *seconds])), most)
        seconds = [fit_module(name, room) for name in seconds] if by_module else seconds
        columns = [_Column(heading, seconds, room, is_name=True)]
        spare -= columns[0].width + 1
    shapes = [shapes_words(row) for row in rows]
    room = min(spare - 1, max(map(len, ["kernel", *kernels])))
    if not seconds and any(shapes):
        # One long name (autograd's) must not cost every row its shapes.
        room = min(room, max(spare - 2 - max(map(len, shapes)), spare // 2))
    left = spare - 1 - room - 1
    if any(shapes) and left >= _FEWEST_SHAPES:
        # Two rows may differ in nothing else.
        columns.append(_Column("shapes", shapes, min(left, max(map(len, ["shapes", *shapes]))), is_name=True))
    return [_Column("kernel", [fit_kernel(name, room) for name in kernels], room, is_name=True), *columns], line_columns
