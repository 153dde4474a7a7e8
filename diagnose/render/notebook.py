"""The report as a small piece of HTML for a notebook: verdict and kernels, everything escaped, no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from diagnose.render.names import clean, file_line, short_kernel, short_op
from diagnose.render.selection import PART_WORDS, groups_of, line_of, ordered_kernels, shown_waterfall
from diagnose.render.words import bound_words, coverage_words, device_words, rate_words, step_words, totals_words
from diagnose.schema import Document
from diagnose.units import format_ns, format_share

_SHOWN_KERNELS: Final = 20


def to_notebook_html(document: Document) -> str:
    """One ``<div>``: the three sentences, the totals, the waterfall, the first kernels, coverage and notes."""
    verdict = document.verdict
    said = (("Verdict", verdict.verdict), ("Why", verdict.why), ("Next", verdict.next))
    facts = [device_words(document), step_words(document), *totals_words(document)]
    parts = [
        *(f"<p><b>{label}:</b> {_text(words)}</p>" for label, words in said),
        f"<p>{_text(' · '.join(fact for fact in facts if fact is not None))}</p>",
        _waterfall(document),
        _kernels(document),
        *(f"<p>{_text(line)}</p>" for line in (coverage_words(document), *document.notes) if line is not None),
    ]
    return f"<div>{''.join(parts)}</div>"


def _waterfall(document: Document) -> str:
    rows = [row for _, members in groups_of(shown_waterfall(document)[1]) for row in members]
    return _table(
        ("limit", "part", "time", "share"),
        [(row.bound or "no kind", PART_WORDS[row.part], format_ns(row.ns), format_share(row.share)) for row in rows],
    )


def _kernels(document: Document) -> str:
    return _table(
        ("#", "kernel", "op", "bound", "time", "share", "calls", "efficiency", "achieved", "line"),
        [
            (
                str(row.place), short_kernel(row.kernel), short_op(row.op), bound_words(row), format_ns(row.time_ns),
                format_share(row.share), str(row.calls), format_share(row.efficiency), rate_words(row),
                file_line(line_of(row)),
            )
            for row in ordered_kernels(document)[:_SHOWN_KERNELS]
        ],
    )  # fmt: skip


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{_text(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(words: str) -> str:
    return escape(clean(words))
