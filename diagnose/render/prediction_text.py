"""Predictions as a small table: text for a terminal, Markdown for an issue."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from diagnose.render.names import clean, fit
from diagnose.schema import Interval
from diagnose.tables.prediction import Factor, Outlook, Predicted
from diagnose.units import format_ns, format_share

_ASCII: Final = str.maketrans({"·": "-", "…": "~", "–": "-"})
_MOST_FAMILIES: Final = 10
_HEAD: Final = ("what if", "step", "from", "to", "speed-up", "throughput")


def to_text(outlook: Outlook, width: int = 100, *, ascii_only: bool = False) -> str:
    """The predictions in ``width`` columns.

    Args:
        outlook: What was predicted.
        width: Columns, at least 60.
        ascii_only: For an output whose encoding has no dots in the middle of a line.
    """
    width = max(width, 60)
    last = outlook.predictions[-1]
    lines = [
        fit(
            f"{clean(outlook.device)} · step {format_ns(outlook.step_ns)} · kernels {format_ns(outlook.kernel_ns)}",
            width,
        ),
        "",
        *_table([_HEAD, *map(_row, outlook.predictions)]),
        "",
        fit(f"Kernel time a step, by family ({clean(last.change)})", width),
        *_table(_families(last)),
        "",
        *_sentences("Assumes: ", _assumptions(outlook), width),
        *_sentences("Note: ", outlook.notes, width),
    ]
    text = "\n".join(line.rstrip() for line in lines)
    return text.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else text


def to_markdown(outlook: Outlook) -> str:
    """The same with Markdown's tables."""
    last = outlook.predictions[-1]
    head = f"**{_escaped(outlook.device)}**: step {format_ns(outlook.step_ns)}, kernels {format_ns(outlook.kernel_ns)}"
    families = _families(last)
    return "\n".join(
        [
            head,
            "",
            *_markdown([_HEAD, *map(_row, outlook.predictions)]),
            "",
            f"Kernel time a step, by family ({_escaped(last.change)}):",
            "",
            *_markdown(families),
            "",
            *(f"- Assumes: {_escaped(sentence)}" for sentence in _assumptions(outlook)),
            *(f"- Note: {_escaped(note)}" for note in outlook.notes),
        ]
    )


def _row(one: Predicted) -> tuple[str, ...]:
    step = one.step_ns
    return (
        clean(one.change), format_ns(step.mid), format_ns(step.low), format_ns(step.high), _factor(one.speedup),
        _factor(one.throughput),
    )  # fmt: skip


def _factor(factor: Factor) -> str:
    return f"x{factor.mid:.2f} ({factor.low:.2f}–{factor.high:.2f})"


def _families(one: Predicted) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("family", "calls", "recorded", "predicted", "from", "to", "unknown work")]
    for row in one.families[:_MOST_FAMILIES]:
        unknown = format_share(row.unknown_ns / row.recorded_ns) if row.unknown_ns and row.recorded_ns else ""
        rows.append((row.family, f"{row.calls:g}", format_ns(row.recorded_ns), *_interval(row.predicted_ns), unknown))
    rest = one.families[_MOST_FAMILIES:]
    if rest:
        ends = [sum(getattr(row.predicted_ns, end) for row in rest) for end in ("low", "mid", "high")]
        recorded = sum(row.recorded_ns for row in rest)
        rows.append((f"{len(rest)} more", "", format_ns(recorded), *_interval(Interval(*ends)), ""))
    return rows


def _interval(interval: Interval) -> tuple[str, str, str]:
    return format_ns(interval.mid), format_ns(interval.low), format_ns(interval.high)


def _assumptions(outlook: Outlook) -> list[str]:
    """Of the last prediction: it holds every change."""
    return outlook.predictions[-1].assumptions


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(size) if not index else cell.rjust(size)
            for index, (cell, size) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _markdown(rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]
    return [lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]]


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in "\\`*_|<>[]" else char for char in clean(text))


def _sentences(title: str, sentences: Sequence[str], width: int) -> list[str]:
    lines = []
    for sentence in sentences:
        lines += textwrap.wrap(clean(sentence), width, initial_indent=title, subsequent_indent=" " * len(title))
    return lines
