"""A comparison as GitHub-flavoured Markdown: for a pull request's comment or a step's summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

# Not a sibling's look but its words: both show the same rows.
from diagnose.render.comparison_text import (
    change_words,
    quantity_words,
    share_words,
    shown_changes,
    side_words,
    threshold_words,
)
from diagnose.render.markdown import code, escaped
from diagnose.tables.comparison import Change, Difference
from diagnose.units import format_ns

_SHOWN: Final = 15
_MARKS: Final = {"crossed": "**crossed**", "held": "held", "unknown": "**unknown**"}


def to_markdown(difference: Difference, top: int = _SHOWN) -> str:
    """The verdict as a heading, the thresholds, the figures, and the ``top`` changes folded away."""
    whole = difference.step_after_ns - difference.step_before_ns
    shown, rest = shown_changes(difference, top)
    lines = [f"### {escaped(difference.verdict)}", "", f"- **Noise:** {escaped(difference.noise)}"]
    for label, is_before in (("Before", True), ("After", False)):
        lines.append(f"- **{label}:** {escaped(side_words(difference, is_before=is_before))}")
    if difference.thresholds:
        judged = [threshold_words(row) for row in difference.thresholds]
        rows: list[Sequence[str]] = [(_MARKS[said], code(name), escaped(words)) for said, name, words in judged]
        lines += ["", *_table(("threshold", "", "figures"), "lll", rows)]
    figures = [[escaped(cell) for cell in quantity_words(row)] for row in difference.quantities]
    lines += ["", *_table(("a step", "before", "after", "difference", ""), "lrrrr", figures)]
    changes = [_change(change, whole) for change in shown]
    left = sum(change.difference_ns for change in rest)
    if rest:
        changes.append((_signed(left), share_words(left, whole), "", "", "", f"{len(rest)} more", ""))
    headings = ("difference", "share", "", "before", "after", "what", "")
    summary = f"What changed in the recorded step: {_signed(whole)}, the sum of these"
    lines += ["", f"<details><summary>{summary}</summary>", "", *_table(headings, "rrlrrll", changes), "", "</details>"]
    lines += [""] + [f"- {escaped(note)}" for note in difference.notes] if difference.notes else []
    return "\n".join(lines).rstrip() + "\n"


def _change(change: Change, whole: int) -> tuple[str, ...]:
    name, more = change_words(change)
    old = "-" if change.status == "new" else format_ns(change.before_ns)
    new = "-" if change.status == "gone" else format_ns(change.after_ns)
    share = share_words(change.difference_ns, whole)
    return _signed(change.difference_ns), share, change.status, old, new, code(name), escaped(" ".join(more))


def _signed(ns: int) -> str:
    return f"{'+' if ns > 0 else ''}{format_ns(ns)}"


def _table(headings: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> list[str]:
    rules = ["---:" if side == "r" else "---" for side in sides]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rules, *rows)]
