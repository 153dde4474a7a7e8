"""The report over many ranks as GitHub-flavoured Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.render.markdown import escaped
from diagnose.render.ranks_rows import (
    COLLECTIVE_HEADINGS,
    COLLECTIVE_SIDES,
    RANK_HEADINGS,
    RANK_SIDES,
    balance_words,
    clock_words,
    collective_cells,
    count_words,
    finding_words,
    rank_cells,
)
from diagnose.tables.ranks import RanksDocument


def ranks_to_markdown(document: RanksDocument) -> str:
    """The verdict, a row a rank, the joined collectives, clocks and notes."""
    lines = [f"- **Ranks:** {escaped(document.verdict)}", "", escaped(count_words(document)), ""]
    lines += _table(RANK_HEADINGS, RANK_SIDES, rank_cells(document.table))
    cells = collective_cells(document.collectives)
    lines += ["", *_table(COLLECTIVE_HEADINGS, COLLECTIVE_SIDES, cells)] if cells else []
    said = [
        (label, words)
        for label, words in (("Balance", balance_words(document)), ("Clocks", clock_words(document.offsets)))
        if words is not None
    ]
    lines += ["", *(f"{label}: {escaped(words)}\n" for label, words in said)] if said else []
    found = [f"- saves {escaped(words)}" for words in finding_words(document)]
    lines += ["", *found, ""] if found else []
    lines += [f"- {escaped(note)}" for note in document.notes]
    return "\n".join(lines).rstrip() + "\n"


def _table(headings: Sequence[str], sides: str, rows: Sequence[Sequence[str]]) -> list[str]:
    rules = ["---:" if side == "r" else "---" for side in sides]
    body = [[escaped(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rules, *body)]
