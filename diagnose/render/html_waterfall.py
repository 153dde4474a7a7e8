"""Where the wall time goes, as the bars that the page's template draws: shares, words, nothing of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from diagnose.render.names import clean, fit
from diagnose.render.selection import (
    PART_WORDS,
    DeviceKey,
    groups_of,
    main_device,
    shown_waterfall,
    waterfall_of,
)
from diagnose.render.words import shown_step_words
from diagnose.schema import Document, WaterfallRow
from diagnose.units import format_ns, format_share

_MOST_BARS: Final = 48
_NAMED_FROM: Final = 0.06
"""A piece of a bar narrower than this share of it carries no words."""

_PALEST: Final = 45
"""How much of its colour, in percent, the last part of a kind keeps: parts of a kind are told apart by tint."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of a bar. ``width`` is in percent of the longest bar, ``color`` in percent of its kind's colour."""

    kind: str
    color: int
    width: str
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch of time on one device."""

    name: str
    wall: str
    steady: bool
    pieces: list[Piece]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the legend: a part, or with ``part`` empty the sum of its kind."""

    kind: str
    color: int
    part: str
    time: str
    share: str


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The bar of the step that the report speaks of, its legend, and every step of every device.

    ``hidden`` counts the bars that are left out.
    """

    title: str
    main: Bar | None
    legend: list[Line]
    bars: list[Bar]
    hidden: int


def waterfall(document: Document, names: Mapping[DeviceKey, str]) -> Waterfall:
    """The bars of ``document``; ``names`` says what each device is called."""
    step, rows = shown_waterfall(document)
    if not rows:
        return Waterfall("", None, [], [], 0)
    wall_ns = sum(row.ns for row in rows)
    title = f"{shown_step_words(document, step)}, {format_ns(wall_ns)}"
    key = main_device(document)
    if len(names) > 1 and key is not None:
        title = f"{names.get(key, key[1])}: {title}"
    bars = _every_bar(document, names)
    return Waterfall(
        title, _bar("", rows, wall_ns, steady=True), _legend(rows), bars[:_MOST_BARS], len(bars[_MOST_BARS:])
    )


def _every_bar(document: Document, names: Mapping[DeviceKey, str]) -> list[Bar]:
    """One a step and device; none where the one step is all there is to see."""
    keys: list[DeviceKey] = list(dict.fromkeys((row.process_rank, row.device) for row in document.waterfall))
    steps = document.window.steps
    if len(steps) < 2 and len(keys) < 2:
        return []
    by_stretch: dict[tuple[DeviceKey, int | None], list[WaterfallRow]] = {}
    for row in document.waterfall:
        by_stretch.setdefault(((row.process_rank, row.device), row.step), []).append(row)
    stretches: list[int | None] = [*range(len(steps))] if len(steps) > 1 else [None]
    shown = [(key, step) for key in keys for step in stretches if (key, step) in by_stretch]
    longest = max((sum(row.ns for row in by_stretch[stretch]) for stretch in shown), default=0)
    bars = []
    for key, step in shown:
        is_steady = step is None or steps[step].steady
        name = "whole window" if step is None else fit(clean(steps[step].name), 32)
        where = f"{names.get(key, key[1])}: " if len(keys) > 1 else ""
        # In the order of the parts; the rows are those of this stretch alone, so that this stays linear.
        one = waterfall_of(_only(document, by_stretch[key, step]), key, step)
        bars.append(_bar(f"{where}{name}", one, longest, steady=is_steady))
    return bars


def _only(document: Document, rows: list[WaterfallRow]) -> Document:
    import msgspec

    return msgspec.structs.replace(document, waterfall=rows)


def _bar(name: str, rows: Sequence[WaterfallRow], longest_ns: int, *, steady: bool) -> Bar:
    wall_ns = sum(row.ns for row in rows)
    pieces = []
    for kind, members in groups_of(list(rows)):
        for index, row in enumerate(members):
            share = format_share(row.ns / wall_ns)
            words = f"{kind or 'no kind'}, {PART_WORDS[row.part]}: {format_ns(row.ns)}, {share}"
            pieces.append(
                Piece(
                    kind or "none", _color(index, len(members)), f"{100 * row.ns / max(1, longest_ns):.4f}",
                    share if row.ns >= _NAMED_FROM * longest_ns else "", words,
                )
            )  # fmt: skip
    return Bar(name, format_ns(wall_ns), steady, pieces)


def _legend(rows: list[WaterfallRow]) -> list[Line]:
    lines = []
    for kind, members in groups_of(rows):
        name = kind or "none"
        total_ns, share = sum(row.ns for row in members), sum(row.share for row in members)
        lines.append(Line(name, 100, "", format_ns(total_ns), format_share(share)))
        lines += [
            Line(name, _color(index, len(members)), PART_WORDS[row.part], format_ns(row.ns), format_share(row.share))
            for index, row in enumerate(members)
        ]
    return lines


def _color(index: int, count: int) -> int:
    return 100 if count < 2 else round(100 - (100 - _PALEST) * index / (count - 1))
