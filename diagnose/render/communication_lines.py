"""The communication table as lines of text, where there is enough of it to matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from diagnose.render.names import clean, fit
from diagnose.schema import CommunicationRow, Document
from diagnose.units import format_bytes, format_bytes_per_s, format_ns, format_share

HEADINGS: Final = ("transfer", "calls", "bytes", "time", "exposed", "overlapped", "achieved", "of the link")
_WORTH_SHOWING: Final = 0.01
_LONGEST_NAME: Final = 36


def worth_showing(document: Document) -> list[CommunicationRow]:
    """The rows that take time of note, most first; nothing where all of them together take below 1 % of the wall."""
    total = sum(row.time_ns for row in document.communication)
    if total < _WORTH_SHOWING * document.window.wall_ns:
        return []
    return [row for row in document.communication if row.time_ns >= _WORTH_SHOWING * total]


def transfer_name(row: CommunicationRow) -> str:
    """``all_reduce, 8 ranks, group 0``; ``host_to_device, pageable``."""
    parts = [
        row.collective,
        row.memory,
        None if row.group_size is None else f"{row.group_size} ranks",
        None if row.group is None else f"group {row.group}",
    ]
    return fit(clean(", ".join(part for part in parts if part is not None)), _LONGEST_NAME)


def cells(rows: Sequence[CommunicationRow]) -> list[tuple[str, ...]]:
    """What each row shows, under ``HEADINGS``."""
    return [
        (
            transfer_name(row), str(row.calls), format_bytes(row.bytes), format_ns(row.time_ns),
            format_ns(row.exposed_ns), format_ns(row.overlapped_ns), format_bytes_per_s(row.achieved_bytes_per_s),
            format_share(row.efficiency),
        )
        for row in rows
    ]  # fmt: skip


def communication_lines(document: Document, width: int, most: int) -> list[str]:
    """A heading and at most ``most`` rows, each at most ``width`` wide; nothing where there is little communication."""
    rows = worth_showing(document)
    if not rows:
        return []
    table = [HEADINGS, *cells(rows[:most])]
    widths = [max(len(row[place]) for row in table) for place in range(len(HEADINGS))]
    lines = [
        " ".join(
            text.rjust(size) if place else text.ljust(size)
            for place, (text, size) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return [fit(line, width) for line in lines]
