"""The kernel table as CSV."""  # the room's modules bear the format's name

from __future__ import annotations

import csv
import io
from typing import Any, Final

import msgspec

from diagnose.render.columns import KERNEL_COLUMNS, Kind, kernel_records
from diagnose.render.names import clean
from diagnose.schema import Document

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "'")
_JOINED: Final = frozenset({"flags", "reasons"})


def to_csv(document: Document) -> str:
    """One line a kernel row, units in the column names, nothing where a value is unknown.

    Text that a spreadsheet would run as a formula gets a leading apostrophe (and so does text that begins with one,
    so that taking one away gives the name back).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(KERNEL_COLUMNS)
    for record in kernel_records(document):
        writer.writerow([_cell(record[name], kind, name) for name, kind in KERNEL_COLUMNS.items()])
    return text.getvalue()


def _cell(value: Any, kind: Kind, name: str) -> str | float | int | None:
    if value is None or kind in ("int", "float"):
        return value  # type: ignore[no-any-return]  # the column's kind says that it is a number or None
    if kind == "list":
        value = "; ".join(value) if name in _JOINED else msgspec.json.encode(value).decode()
    shown = clean(str(value))
    return f"'{shown}" if shown.startswith(_FORMULA_STARTS) else shown
