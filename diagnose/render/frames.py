"""The tables of a report as pandas DataFrames: the exit, and the only module that needs pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from diagnose.errors import UsageError
from diagnose.render.columns import TABLES, Kind
from diagnose.schema import Document

if TYPE_CHECKING:
    import pandas as pd

_DTYPES: Final[dict[Kind, str]] = {
    "int": "Int64", "float": "Float64", "text": "string", "flag": "boolean", "list": "object",
}  # fmt: skip
"""Nullable types: what is unknown stays NA."""


def to_frame(document: Document, table: str = "kernels") -> pd.DataFrame:
    """One table of the report: a name in ``columns.TABLES``, as ``kernels`` or ``modules``.

    Raises UsageError for another name. An empty table has its columns.
    """
    import pandas as pd

    if table not in TABLES:
        raise UsageError(f"no table {table!r}: choose one of {', '.join(TABLES)}")
    columns, records_of = TABLES[table]
    records = records_of(document)
    return pd.DataFrame(
        {name: pd.Series([record[name] for record in records], dtype=_DTYPES[kind]) for name, kind in columns.items()}
    )
