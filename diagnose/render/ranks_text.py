"""The report over many ranks as one screen of text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from diagnose.render.names import clean, fit
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
from diagnose.tables.ranks import RankRow, RanksDocument

_ASCII: Final = str.maketrans("…·×", "~|x")
_MOST_RANKS: Final = 16
_MOST_COLLECTIVES: Final = 8
_MOST_NOTES: Final = 4


def ranks_to_text(
    document: RanksDocument, width: int = 100, height: int | None = 40, *, ascii_only: bool = False
) -> str:
    """The verdict, a row a rank, the joined collectives, clocks and notes.

    Args:
        document: The report.
        width: Columns; cells are cut, never wrapped.
        height: Lines to stay within; None shows every rank and collective.
        ascii_only: For an output whose encoding has no dots.
    """
    most = (_MOST_RANKS, _MOST_COLLECTIVES, _MOST_NOTES) if height is not None else (None, None, None)
    lines = [*_paragraph("Ranks:   ", document.verdict, width), count_words(document), ""]
    shown = sorted(document.table, key=lambda row: -row.awaited_ns)[: most[0]]
    lines += _rank_table(sorted(shown, key=lambda row: row.rank), width)
    if len(document.table) > len(shown):
        lines.append(f"   … {len(document.table) - len(shown)} more ranks, for whom the others waited less")
    cells = collective_cells(document.collectives)
    if cells:
        lines += ["", *_table(COLLECTIVE_HEADINGS, COLLECTIVE_SIDES, cells[: most[1]], width)]
        if len(cells) > len(cells[: most[1]]):
            lines.append(f"   … {len(cells) - len(cells[: most[1]])} more kinds of collective")
    lines.append("")
    for label, words in (("Balance: ", balance_words(document)), ("Clocks:  ", clock_words(document.offsets))):
        lines += _paragraph(label, words, width) if words else []
    for words in finding_words(document):
        lines += _paragraph("Saves:   ", words, width)
    for note in document.notes[: most[2]]:
        lines += _paragraph("Note: ", note, width)
    if len(document.notes) > len(document.notes[: most[2]]):
        lines.append(f"      {len(document.notes) - _MOST_NOTES} more in the JSON report")
    text = "\n".join(line.rstrip() for line in lines)
    return text.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else text


def _rank_table(rows: Sequence[RankRow], width: int) -> list[str]:
    """One line a rank; the device's name gives way where there is no room."""
    for room in (20, 14, 7):
        lines = _table(RANK_HEADINGS, RANK_SIDES, rank_cells(rows, room), 2 * width)
        if max(map(len, lines)) <= width:
            break
    return [fit(line, width) for line in lines]


def _paragraph(label: str, words: str, width: int) -> list[str]:
    wrapped = textwrap.wrap(clean(words), width - len(label), max_lines=3, placeholder=" …") or ["?"]
    return [(label if index == 0 else " " * len(label)) + line for index, line in enumerate(wrapped)]


def _table(headings: Sequence[str], sides: str, rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Columns as wide as their widest cell; the line is cut at the width."""
    table = [headings, *rows]
    widths = [max(len(row[place]) for row in table) for place in range(len(headings))]
    lines = []
    for row in table:
        cells = [
            text.rjust(size) if side == "r" else text.ljust(size)
            for text, size, side in zip(row, widths, sides, strict=True)
        ]
        lines.append(fit(" ".join(cells).rstrip(), width))
    return lines
