"""The report as GitHub-flavoured Markdown: for an issue, a pull request, a chat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from diagnose.render.names import clean, fit, short_kernel, short_op
from diagnose.render.selection import PART_WORDS, groups_of, ordered_kernels, shown_waterfall
from diagnose.render.words import (
    bound_words,
    coverage_words,
    device_words,
    line_words,
    rate_words,
    recording_words,
    shown_step_words,
    step_words,
    totals_words,
    uncosted_words,
)
from diagnose.schema import Document, KernelRow
from diagnose.units import format_ns, format_share

_SHOWN_PARTS: Final = 12
_SHOWN_NOTES: Final = 5
_SHOWN_FINDINGS: Final = 5
_LONGEST_NAME: Final = 60
_PUNCTUATION: Final = re.compile(r"([\\`*_\[\]|~#!])")
_LINKING: Final = re.compile(r"(@|://|www\.)")


def to_markdown(document: Document, top: int = 20) -> str:
    """The verdict, the waterfall and the ``top`` kernels as Markdown; fewer than 60 lines for 20 kernels."""
    lines = _verdict(document)
    facts = [device_words(document), step_words(document), *totals_words(document), recording_words(document)]
    lines += ["", escaped(" · ".join(fact for fact in facts if fact is not None))]
    if not document.kernels and not document.waterfall:
        return "\n".join([*lines, "", *_notes(document)]) + "\n"
    lines += _waterfall(document)
    lines += _kernels(ordered_kernels(document)[:top], len(document.kernels))
    lines += _findings(document)
    known, unknown = coverage_words(document), uncosted_words(document)
    lines += ["", f"Coverage: {escaped(known)}"] if known else []
    lines += [f"Unknown work: {escaped(unknown)}"] if unknown else []
    return "\n".join([*lines, "", *_notes(document)]).rstrip() + "\n"


def escaped(text: str) -> str:
    """Words that stay words: no markup, no HTML, no mention of a person, no link."""
    entities = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An empty comment inside keeps GitHub from making a mention or a link of it.
    return _LINKING.sub(lambda met: f"{met[0][0]}<!-- -->{met[0][1:]}", _PUNCTUATION.sub(r"\\\1", entities))


def code(text: str) -> str:
    """A name as code in a table's cell: nothing inside is read as markup, and a pipe does not end the cell."""
    name = fit(clean(text), _LONGEST_NAME).replace("`", "'").replace("\\|", "\\ |").replace("|", "\\|")
    return f"`{name}`" if name else ""


def _verdict(document: Document) -> list[str]:
    verdict = document.verdict
    said = (("Verdict", verdict.verdict), ("Why", verdict.why), ("Next", verdict.next))
    return [f"- **{label}:** {escaped(words)}" for label, words in said]


def _waterfall(document: Document) -> list[str]:
    step, rows = shown_waterfall(document)
    if not rows:
        return []
    ordered = [row for _, members in groups_of(rows) for row in members]
    kept = sorted(sorted(ordered, key=lambda row: -row.ns)[:_SHOWN_PARTS], key=ordered.index)
    cells: list[Sequence[str]] = [
        (row.bound or "no kind", PART_WORDS[row.part], format_ns(row.ns), format_share(row.share)) for row in kept
    ]
    rest = [row for row in ordered if row not in kept]
    if rest:
        total_ns, share = sum(row.ns for row in rest), sum(row.share for row in rest)
        cells.append(("", f"{len(rest)} smaller parts", format_ns(total_ns), format_share(share)))
    title = f"Where the time goes: {shown_step_words(document, step)}"
    return ["", escaped(title), "", *_table(("limit", "part", "time", "share"), "llrr", cells)]


def _kernels(rows: Sequence[KernelRow], count: int) -> list[str]:
    if not rows:
        return []
    headings = ("#", "kernel", "op", "bound", "time", "share", "calls", "efficiency", "achieved", "line")
    cells = [
        (
            str(row.place), code(short_kernel(row.kernel)), code(short_op(row.op)), bound_words(row),
            format_ns(row.time_ns), format_share(row.share), str(row.calls), format_share(row.efficiency),
            rate_words(row), code(line_words(row)),
        )
        for row in rows
    ]  # fmt: skip
    more = [f"\n{count - len(rows)} more kernels are not shown."] if count > len(rows) else []
    return ["", *_table(headings, "rlllrrrrrl", cells), *more]


def _findings(document: Document) -> list[str]:
    found = document.findings[:_SHOWN_FINDINGS]
    return (
        ["", *(f"- saves {format_ns(row.recoverable_ns.mid)}: {escaped(row.title)}" for row in found)] if found else []
    )


def _notes(document: Document) -> list[str]:
    rest = len(document.notes) - _SHOWN_NOTES
    lines = [f"- {escaped(note)}" for note in document.notes[:_SHOWN_NOTES]]
    return [*lines, f"- {rest} more notes are in the JSON report"] if rest > 0 else lines


def _table(headings: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> list[str]:
    rules = ["---:" if side == "r" else "---" for side in sides]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rules, *rows)]
