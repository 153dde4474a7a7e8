"""The report as one screen of text: verdict, totals, waterfall, ranked kernels, findings, coverage, notes.

Lines are laid out here and coloured by rich (``lines``). Nothing is ever parsed as markup: names come from strangers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from diagnose.render.communication_lines import communication_lines
from diagnose.render.host_words import idle_words, outlier_words, phase_words
from diagnose.render.lines import Line, printed
from diagnose.render.names import clean, fit
from diagnose.render.selection import ordered_kernels, shown_waterfall
from diagnose.render.text_modules import MOST_MODULES, module_lines
from diagnose.render.text_tables import STYLES, bars, kernel_lines
from diagnose.render.words import (
    coverage_words,
    device_words,
    recording_words,
    shown_step_words,
    step_words,
    totals_words,
    uncosted_words,
)  # fmt: skip
from diagnose.schema import Document, Finding, KernelRow
from diagnose.units import format_ns, format_share

_NARROWEST: Final = 60
_FEWEST_KERNELS: Final = 3
_BESIDE_KERNELS: Final = 3
"""A blank line, the heading, and the line that counts the kernels which are not shown."""
_KERNELS_BEFORE_MODULES: Final = 6
_FEWEST_MODULES: Final = 2
"""Modules are shown below so many kernels, if there is room for so many of them."""
_SHOWN_FINDINGS: Final = 3
_ASCII: Final = str.maketrans("…█▓▒░∙·×→–—µ", "~#=+-.|x>--u")


class _Limits(Struct, frozen=True):
    """How much of each section is shown: parts of the waterfall, notes, and lines a paragraph."""

    parts: int
    notes: int
    wrapped: int


_LIMITS: Final = (_Limits(11, 3, 2), _Limits(8, 2, 2), _Limits(6, 2, 1), _Limits(5, 1, 1))
"""From roomy to tight: the first that leaves room for a few kernels is taken."""


def to_text(  # noqa: PLR0913  # a public entrance: one argument for each thing a terminal can differ in
    document: Document,
    width: int = 100,
    height: int | None = 40,
    color: bool = False,
    top: int | None = None,
    sort: str = "time",
    *,
    ascii_only: bool = False,
) -> str:
    """The report in ``width`` columns and, unless ``top`` asks for more kernels, ``height`` lines.

    Args:
        document: The report.
        width: Columns, at least 60.
        height: Lines to stay within; None shows every kernel.
        color: Whether to write terminal colours.
        top: How many kernels to show; None shows as many as ``height`` leaves room for.
        sort: ``time``, ``recoverable`` or ``module``.
        ascii_only: For an output whose encoding has no bars and dots.
    """
    width = max(width, _NARROWEST)
    rows = ordered_kernels(document, sort)
    above, below = _around(document, width, height, min(len(rows), _FEWEST_KERNELS))
    room = top if top is not None else _room(height, above, below)
    modules = _modules(document, width, room if top is None else None)
    room = room if room is None or top is not None else room - len(modules)
    kernels = _kernels(rows, room, width, by_module=sort == "module") + modules
    return _printed([*above, *kernels, *below], width, color=color, ascii_only=ascii_only)


def _modules(document: Document, width: int, room: int | None) -> list[Line]:
    """The modules, where the kernels that fit are more than a few."""
    count = MOST_MODULES if room is None else min(MOST_MODULES, room - _KERNELS_BEFORE_MODULES - 2)
    lines = module_lines(document, width, count) if count >= _FEWEST_MODULES else []
    return [Line(), *lines] if lines else []


def _around(document: Document, width: int, height: int | None, kernels: int) -> tuple[list[Line], list[Line]]:
    """What stands above and below the kernels, as roomy as ``height`` allows."""
    for limits in _LIMITS:
        above, below = _above(document, width, limits), _below(document, width, limits)
        if height is None or len(above) + len(below) + kernels + _BESIDE_KERNELS <= height:
            break
    return above, below


def _above(document: Document, width: int, limits: _Limits) -> list[Line]:
    lines = _verdict(document, width, limits.wrapped)
    if not document.kernels and not document.waterfall:
        # Nothing ran on a device: what is missing comes before anything else, and no table is empty.
        lines += [Line(), *_notes(document.notes, width, limits)]
    lines += [Line(), *_facts(document, width)]
    step, waterfall = shown_waterfall(document)
    if waterfall:
        wall = format_ns(sum(row.ns for row in waterfall))
        title = fit(f"Where the time goes: {shown_step_words(document, step)}, {wall}", width)
        lines += [Line(), Line(title, style="bold"), *bars(waterfall, width, limits.parts)]
        lines += _host(document, width, limits)
        lines += _communication(document, width, limits)
    return lines


def _host(document: Document, width: int, limits: _Limits) -> list[Line]:
    """What the bars do not say: which ops left the device idle, the phases, steps that stand out."""
    sentences = (("Idle: ", idle_words, limits.wrapped), ("Phases: ", phase_words, 1), ("Steps: ", outlier_words, 1))
    return [
        line
        for label, words_of, most in sentences
        if (words := words_of(document)) is not None
        for line in _paragraph(label, words, width, most=most)
    ]


def _communication(document: Document, width: int, limits: _Limits) -> list[Line]:
    lines = communication_lines(document, width, most=3 if limits == _LIMITS[0] else 1)
    return [Line(), *(Line(line, style="" if index else "bold") for index, line in enumerate(lines))] if lines else []


def _below(document: Document, width: int, limits: _Limits) -> list[Line]:
    lines = [Line(), *map(_finding, document.findings[:_SHOWN_FINDINGS])] if document.findings else []
    coverage, uncosted = coverage_words(document), uncosted_words(document)
    if coverage is not None:
        lines += [Line(), *_paragraph("Coverage: ", coverage, width, most=1)]
    if uncosted is not None:
        lines += _paragraph("Unknown work: ", uncosted, width, most=limits.wrapped)
    if document.kernels or document.waterfall:
        lines += _notes(document.notes, width, limits)
    return lines


def _verdict(document: Document, width: int, most: int) -> list[Line]:
    verdict = document.verdict
    style = f"bold {STYLES[verdict.bound]}" if verdict.bound else "bold"
    return [
        *_paragraph("Verdict: ", verdict.verdict, width, most=most, style=style),
        *_paragraph("Why:     ", verdict.why, width, most=most),
        *_paragraph("Next:    ", verdict.next, width, most=most),
    ]


def _facts(document: Document, width: int) -> list[Line]:
    phrases = [device_words(document), step_words(document), *totals_words(document), recording_words(document)]
    return _joined([phrase for phrase in phrases if phrase is not None], width)


def _kernels(rows: Sequence[KernelRow], shown: int | None, width: int, *, by_module: bool) -> list[Line]:
    if not rows:
        return []
    kept, rest = rows[:shown], rows[len(rows[:shown]) :]
    lines = [Line(), *kernel_lines(kept, width, by_module=by_module)] if kept else [Line()]
    if rest:
        share = format_share(sum(row.share for row in rest))
        left = f"{len(rest)} more, {format_ns(sum(row.time_ns for row in rest))}, {share} of the kernel time"
        lines.append(Line(f"   … {left}", style="dim"))
    return lines


def _room(height: int | None, above: Sequence[Line], below: Sequence[Line]) -> int | None:
    """How many kernels fit between what stands above and below them."""
    return None if height is None else max(_FEWEST_KERNELS, height - len(above) - len(below) - _BESIDE_KERNELS)


def _finding(finding: Finding) -> Line:
    where = f"  {clean(finding.where[0])}" if finding.where else ""
    return Line(f"saves {format_ns(finding.recoverable_ns.mid):>8}  {clean(finding.title)}{where}")


def _notes(notes: Sequence[str], width: int, limits: _Limits) -> list[Line]:
    shown = notes[: limits.notes]
    lines = [line for note in shown for line in _paragraph("Note: ", note, width, most=limits.wrapped)]
    rest = len(notes) - len(shown)
    return [*lines, Line(f"      {rest} more in the JSON report", style="dim")] if rest else lines


def _paragraph(label: str, words: str, width: int, *, most: int, style: str = "") -> list[Line]:
    """``words`` after a label, wrapped under themselves and cut after ``most`` lines."""
    room = width - len(label)
    wrapped = textwrap.wrap(clean(words), room, max_lines=most, placeholder=" …") or ["?"]
    return [
        Line(label if index == 0 else " " * len(label), style="bold").append(part, style=style or "not bold")
        for index, part in enumerate(wrapped)
    ]


def _joined(phrases: Sequence[str], width: int) -> list[Line]:
    """The phrases side by side, a new line where the next does not fit."""
    lines = [""]
    for phrase in phrases:
        shown = fit(phrase, width)
        if lines[-1] and len(lines[-1]) + 3 + len(shown) > width:
            lines.append("")
        lines[-1] += f" · {shown}" if lines[-1] else shown
    return [Line(line) for line in lines]


def _printed(lines: Sequence[Line], width: int, *, color: bool, ascii_only: bool) -> str:
    text = printed(lines, width, color=color)
    return text.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else text
