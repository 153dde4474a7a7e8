"""The page's further tables: idle time by place, waiting for the device, transfers. Left out where there is nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from diagnose.render.names import clean, file_line, fit, short_op
from diagnose.render.selection import PART_WORDS
from diagnose.schema import CommunicationRow, Document, IdleRow, SynchronizationRow
from diagnose.units import format_bytes, format_bytes_per_s, format_ns, format_share

_Row = TypeVar("_Row")
_SHOWN: Final = 12
_LONGEST: Final = 100


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and cells; a heading that ends in ``>`` stands over numbers. ``more`` counts the rows left out."""

    title: str
    subtitle: str
    headings: list[tuple[str, bool]]
    rows: list[list[str]]
    more: int


def further_tables(document: Document) -> list[Table]:
    """Those that have rows."""
    tables = [
        _table(
            "Idle time", "by what ended it, over the whole window", "part|op|call|where|times>|time>",
            sorted(document.idle, key=lambda row: -row.ns), _idle,
        ),
        _table(
            "Waiting for the device", "a host that waits because the device is the bottleneck loses nothing by it",
            "call|op|where|waited for|times>|time>|idle after it>",
            sorted(document.synchronizations, key=lambda row: (-row.idle_ns, -row.ns)), _synchronization,
        ),
        _table(
            "Communication", "collectives and copies",
            "what|group|calls>|bytes>|time>|exposed>|achieved>|of the link>|note",
            sorted(document.communication, key=lambda row: -row.time_ns), _communication,
        ),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def _table(title: str, subtitle: str, headings: str, rows: Sequence[_Row], cells: Callable[[_Row], list[str]]) -> Table:
    named = [(name.removesuffix(">"), name.endswith(">")) for name in headings.split("|")]
    shown = [[fit(clean(cell), _LONGEST) for cell in cells(row)] for row in rows[:_SHOWN]]
    return Table(title, subtitle, named, shown, len(rows) - len(shown))


def _idle(row: IdleRow) -> list[str]:
    where = _where(row.module, row.line)
    return [PART_WORDS[row.part], _op(row.op), row.call or "", where, f"{row.count:,}", format_ns(row.ns)]


def _synchronization(row: SynchronizationRow) -> list[str]:
    return [
        row.call, _op(row.op), _where(row.module, row.line), _op(row.awaited_op) or row.awaited or "",
        f"{row.count:,}", format_ns(row.ns), format_ns(row.idle_ns),
    ]  # fmt: skip


def _communication(row: CommunicationRow) -> list[str]:
    group = row.group_description or row.group or ""
    size = "" if row.group_size is None else f"{row.group_size} ranks"
    return [
        " ".join(filter(None, (row.collective.replace("_", " "), row.memory))), " ".join(filter(None, (group, size))),
        f"{row.calls:,}", format_bytes(row.bytes), format_ns(row.time_ns), format_ns(row.exposed_ns),
        format_bytes_per_s(row.achieved_bytes_per_s), format_share(row.efficiency), row.note or "",
    ]  # fmt: skip


def _op(op: str | None) -> str:
    return "" if op is None else short_op(op)


def _where(module: str | None, line: str | None) -> str:
    return " · ".join(filter(None, (module, file_line(line))))
