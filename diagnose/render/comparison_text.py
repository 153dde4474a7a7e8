"""A comparison as one screen of text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from diagnose.render.names import clean, fit, short_kernel, short_op
from diagnose.render.selection import PART_WORDS
from diagnose.tables.comparison import Change, Difference, Judged, Quantity, Unit
from diagnose.units import format_bytes, format_flops, format_ns, format_share

_ASCII: Final = str.maketrans("…→·", "~>-")
_HEIGHT: Final = 40
_FEWEST: Final = 3
_BESIDE_CHANGES: Final = 3
"""A blank line, the title, and the line that sums up what is not shown."""
_SHOWN_NOTES: Final = 3
_SHORTEST_WORD: Final = 10
_SMALLEST_SHOWN: Final = 0.001
"""Changes below this share of the step are summed in one line."""


def to_text(difference: Difference, width: int = 100, top: int | None = None, *, ascii_only: bool = False) -> str:
    """The comparison in ``width`` columns and, unless ``top`` asks for more changes, 40 lines.

    Args:
        difference: The comparison.
        width: Columns, at least 60.
        top: How many changes to show; None shows as many as there is room for.
        ascii_only: For an output whose encoding has no arrows.
    """
    width = max(width, 60)
    above = [
        *_paragraph("Verdict: ", difference.verdict, width, most=3),
        *_paragraph("Noise:   ", difference.noise, width),
        *_paragraph("Before:  ", side_words(difference, is_before=True), width),
        *_paragraph("After:   ", side_words(difference, is_before=False), width),
        "",
        *_quantities(difference.quantities),
    ]
    below = [*_thresholds(difference.thresholds, width), *_notes(difference.notes, width)]
    room = max(_FEWEST, _HEIGHT - len(above) - len(below) - _BESIDE_CHANGES)
    lines = [*above, *_changes(difference, width, room if top is None else top), *below]
    text = "\n".join(line.rstrip() for line in lines)
    return text.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else text


def side_words(difference: Difference, *, is_before: bool) -> str:
    """Which recording a side is: file, device, torch, steps."""
    side = difference.before if is_before else difference.after
    count = "1 step" if side.steps == 1 else f"{side.steady} steady of {side.steps} steps"
    torch = None if side.torch_version is None else f"torch {side.torch_version}"
    return " · ".join(part for part in (side.path or "recorded live", side.device, torch, count) if part)


def quantity_words(row: Quantity) -> tuple[str, str, str, str, str]:
    """A figure's name, both values, the difference and its share."""
    name = row.name.replace("_", " ")
    if row.difference is None:
        return name, figure_words(row.unit, row.before), figure_words(row.unit, row.after), "?", ""
    sign = "+" if row.difference > 0 else ""
    relative = "" if row.relative is None else f"{'+' if row.relative > 0 else ''}{format_share(row.relative)}"
    change = f"{sign}{figure_words(row.unit, row.difference)}" if row.difference else "same"
    noise = " (noise)" if row.within_noise and row.difference else ""
    return (
        name,
        figure_words(row.unit, row.before),
        figure_words(row.unit, row.after),
        change,
        f"{relative if row.difference else ''}{noise}",
    )


def figure_words(unit: Unit, value: float | None) -> str:
    """A figure with its unit; a count with one decimal where steps differ."""
    if unit == "ns":
        return format_ns(value)
    if unit in ("bytes", "flops"):
        return format_bytes(value) if unit == "bytes" else format_flops(value)
    if unit == "share":
        return format_share(value)
    return "?" if value is None else f"{value:.0f}" if abs(value - round(value)) < 0.05 else f"{value:.1f}"


def change_words(change: Change) -> tuple[str, list[str]]:
    """What it is, and what else is known of it: calls, shapes, place, kernels."""
    if change.part is not None:
        at = "" if change.op is None else f"most at {short_op(change.op)}"
        return PART_WORDS[change.part], [part for part in (at, _place(change)) if part]  # type: ignore[index]  # parts that belong to no kernel, by their own names
    kernels = [short_kernel(name) for name in change.kernels_after or change.kernels_before]
    name = short_op(change.op) if change.op else fit(kernels[0] if kernels else "?", 48)
    return name, [part for part in (_calls(change), _shapes(change), _place(change), _kernels(change)) if part]


def _calls(change: Change) -> str:
    old, new = change.calls_before or 0, change.calls_after or 0
    return f"{old:.3g} → {new:.3g} calls" if old and new and round(old, 2) != round(new, 2) else ""


def _shapes(change: Change) -> str:
    old, new = change.shapes_before, change.shapes_after
    return f"{old} → {new}" if old and new and old != new else clean(new or old or "")


def _place(change: Change) -> str:
    return "" if change.where is None else f"in {clean(change.where)}"


def _kernels(change: Change) -> str:
    """Names, where the op got others; on a CPU the kernel is the op."""
    old, new = change.kernels_before, change.kernels_after
    if not old or not new or set(old) == set(new):
        return ""
    return f"[{_named(old)} → {_named(new)}]"


def _named(kernels: Sequence[str]) -> str:
    return fit(short_kernel(kernels[0]), 30) if len(kernels) == 1 else f"{len(kernels)} kernels"


def shown_changes(difference: Difference, top: int) -> tuple[list[Change], list[Change]]:
    """The changes worth a line, and the rest."""
    least = _SMALLEST_SHOWN * max(difference.step_before_ns, difference.step_after_ns)
    worth = [change for change in difference.changes if abs(change.difference_ns) >= least and change.difference_ns]
    shown = worth[:top]
    rest = [change for change in difference.changes if change not in shown]
    return shown, rest


def share_words(difference_ns: int, whole_ns: int) -> str:
    """The share of the whole difference; nothing where there is none."""
    return format_share(difference_ns / whole_ns) if whole_ns else ""


def _quantities(rows: Sequence[Quantity]) -> list[str]:
    cells = [("a step", "before", "after", "difference", ""), *map(quantity_words, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return [
        f"{line[0]:{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:>{widths[2]}}  {line[3]:>{widths[3]}}  {line[4]}"
        for line in cells
    ]


def _changes(difference: Difference, width: int, top: int) -> list[str]:
    shown, rest = shown_changes(difference, top)
    whole = difference.step_after_ns - difference.step_before_ns
    title = f"What changed in the recorded step: {_signed(whole)}, the sum of what follows"
    lines = ["", fit(title, width)]
    for change in shown:
        name, more = change_words(change)
        numbers = (
            f"{_signed(change.difference_ns):>9} {share_words(change.difference_ns, whole):>6}  {change.status:6} "
            f"{_ns(change, is_before=True):>8} → {_ns(change, is_before=False):>8}  "
        )
        lines.append(_filled(fit(f"{numbers}{name}", width), more, width))
    if rest:
        left = sum(change.difference_ns for change in rest)
        lines.append(f"{_signed(left):>9} {share_words(left, whole):>6}  {len(rest)} more, the same or nearly so")
    return lines


def _filled(line: str, words: Sequence[str], width: int) -> str:
    """The line with as many of the words as fit; the first of them is cut rather than left out."""
    for index, word in enumerate(words):
        room = width - len(line) - 2
        if len(word) > room and (index or room < _SHORTEST_WORD):
            break
        line = f"{line}  {fit(word, room)}"
    return line


def _ns(change: Change, *, is_before: bool) -> str:
    missing = change.status == ("new" if is_before else "gone")
    return "-" if missing else format_ns(change.before_ns if is_before else change.after_ns)


def _signed(ns: int) -> str:
    return f"{'+' if ns > 0 else ''}{format_ns(ns)}"


def threshold_words(judged: Judged) -> tuple[str, str, str]:
    """Whether it was crossed, the expression, the figures."""
    return {True: "crossed", False: "held", None: "unknown"}[judged.crossed], judged.expression, clean(judged.words)


def _thresholds(rows: Sequence[Judged], width: int) -> list[str]:
    if not rows:
        return []
    return [
        "",
        *(
            fit("  ".join((f"{said:8}", expression, words)), width)
            for said, expression, words in map(threshold_words, rows)
        ),
    ]


def _notes(notes: Sequence[str], width: int) -> list[str]:
    lines = [line for note in notes[:_SHOWN_NOTES] for line in _paragraph("Note: ", note, width)]
    rest = len(notes) - _SHOWN_NOTES
    return (["", *lines] if lines else []) + ([f"      {rest} more in the JSON"] if rest > 0 else [])


def _paragraph(label: str, words: str, width: int, most: int = 2) -> list[str]:
    wrapped = textwrap.wrap(clean(words), width - len(label), max_lines=most, placeholder=" …") or ["?"]
    return [f"{label if index == 0 else ' ' * len(label)}{part}" for index, part in enumerate(wrapped)]
