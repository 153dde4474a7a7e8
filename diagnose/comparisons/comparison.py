"""``compare(a, b)``: two recordings or saved reports, what differs between their steps, and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from diagnose.comparisons.comparing import difference_of
from diagnose.comparisons.thresholds import Threshold, parse_threshold
from diagnose.reading import read
from diagnose.report import Report
from diagnose.schema import Document
from diagnose.tables.comparison import Change, Difference, Judged, Quantity

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Comparable = Report | Document | str | os.PathLike[str] | BinaryIO


def compare(before: Comparable, after: Comparable, *, fail_on: Sequence[str] = (), strict: bool = False) -> Comparison:
    """What got faster, slower, new and gone from one recording to the other, and whether it exceeds the noise.

    Kernels are matched by op, shape and place. The differences of all of them and of the idle time add up to that of
    the recorded step, exactly.

    Args:
        before: A report, or where to read one or a trace: path, URL or binary file object.
        after: The same, of the later run.
        fail_on: What must not have happened, as ``step_time:+5%`` (see ``thresholds``); ``failed`` says whether it did.
        strict: Whether what lies within noise crosses a threshold too.

    Raises:
        TraceError: One of the two is neither a trace nor a report.
        UsageError: An expression is none, or names kernels that neither has.
    """
    thresholds = [parse_threshold(expression, is_strict=strict) for expression in fail_on]
    return Comparison(_document(before), _document(after), thresholds)


def _document(source: Comparable) -> Document:
    if isinstance(source, Document):
        return source
    return source.document if isinstance(source, Report) else read(source).document


class Comparison:
    """Two reports side by side. Made by ``diagnose.compare``; ``print`` shows one screen.

    Attributes:
        before, after: The two reports.
        tables: Everything that was found, as in the JSON.
    """

    def __init__(self, before: Document, after: Document, thresholds: Sequence[Threshold] = ()) -> None:
        self.before = Report(before)
        self.after = Report(after)
        self.tables: Difference = difference_of(before, after, thresholds)

    @property
    def verdict(self) -> str:
        """One sentence: slower, faster or no difference beyond noise, and the cause."""
        return self.tables.verdict

    @property
    def changes(self) -> list[Change]:
        """What differs, the largest first."""
        return self.tables.changes

    @property
    def quantities(self) -> list[Quantity]:
        """Step time, idle, launches and other figures of both."""
        return self.tables.quantities

    @property
    def thresholds(self) -> list[Judged]:
        """What was asked for by ``fail_on``."""
        return self.tables.thresholds

    @property
    def failed(self) -> bool:
        """Whether a threshold was crossed."""
        return any(row.crossed for row in self.thresholds)

    @property
    def notes(self) -> list[str]:
        """What makes the two less alike than they should be."""
        return self.tables.notes

    def to_json(self, indent: int = 2) -> str:
        """Every table as JSON."""
        encoded = msgspec.json.encode(self.tables)
        return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()

    def to_markdown(self, top: int = 15) -> str:
        """For a pull request's comment or a step's summary."""
        from diagnose.render.comparison_markdown import to_markdown

        return to_markdown(self.tables, top)

    def to_frame(self) -> pd.DataFrame:
        """The changes as a DataFrame, one row each."""
        import pandas as pd

        rows = [{**msgspec.structs.asdict(row), "difference_ns": row.difference_ns} for row in self.changes]
        columns = [*Change.__struct_fields__, "difference_ns"]
        return pd.DataFrame(rows, columns=columns)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The later report's roofline, with arrows from where its kernels were before."""
        return self.after.plot(ax, before=self.before)

    def __str__(self) -> str:
        from diagnose.render.comparison_text import to_text

        return to_text(self.tables)

    def __repr__(self) -> str:
        return f"<diagnose.Comparison: {self.verdict}>"

    def _repr_markdown_(self) -> str:
        return self.to_markdown()
