"""The report as an object: its tables, and what one can ask of them."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from typing import TYPE_CHECKING, Final, Self, overload

import msgspec

from diagnose.errors import UsageError
from diagnose.output import write_whole
from diagnose.render.json import from_json, to_json
from diagnose.render.selection import device_row, main_device
from diagnose.schema import (
    Ceiling,
    Coverage,
    DeviceRow,
    Document,
    Finding,
    KernelRow,
    Totals,
    Verdict,
    WaterfallRow,
    Window,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from diagnose.findings.case import Case
    from diagnose.predictions.prediction import Prediction

_WIDTH: Final = 100
_HEIGHT: Final = 40
_NARROW: Final = 80


class Report:
    """What limits the step, as tables. Made by ``diagnose.profile``, ``measure`` or ``read``.

    ``print(report)`` shows one screen. Two reports are equal when everything but ``source`` is.

    Attributes:
        document: Every table, as in the JSON report.
        case: The recording itself, which ``what_if`` runs again; None for a saved report.
    """

    def __init__(self, document: Document, case: Case | None = None) -> None:
        self.document = document
        self.case = case

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """The report that ``to_json`` or ``save`` wrote; TraceError where ``data`` is none."""
        return cls(from_json(data))

    @property
    def verdict(self) -> Verdict:
        """What the step is bound by, why, and what to try first."""
        return self.document.verdict

    @property
    def waterfall(self) -> list[WaterfallRow]:
        """The wall time of every step as parts that add up exactly."""
        return self.document.waterfall

    @property
    def kernels(self) -> list[KernelRow]:
        """The ranked kernels."""
        return self.document.kernels

    @property
    def findings(self) -> list[Finding]:
        """What to change, and what it would give."""
        return self.document.findings

    @property
    def coverage(self) -> Coverage:
        """How much of the kernel time has known work, and what has not."""
        return self.document.coverage

    @property
    def device(self) -> DeviceRow | None:
        """The device with most kernel time; None where nothing ran on one. ``document.devices`` has them all."""
        found = device_row(self.document, main_device(self.document))
        return found or next(iter(self.document.devices), None)

    @property
    def ceilings(self) -> list[Ceiling]:
        """The roofs that the kernels were placed under."""
        return self.document.ceilings

    @property
    def totals(self) -> Totals:
        """Sums over the window."""
        return self.document.totals

    @property
    def window(self) -> Window:
        """The steps."""
        return self.document.window

    @property
    def notes(self) -> list[str]:
        """What is missing from the report, or was assumed in it."""
        return self.document.notes

    def to_frame(self, table: str = "kernels") -> pd.DataFrame:
        """A table as a DataFrame, units in the names.

        Args:
            table: ``kernels``, ``modules``, ``waterfall``, ``steps``, ``ceilings``, ``findings``, ``coverage``, ...
        """
        from diagnose.render.frames import to_frame

        return to_frame(self.document, table)

    def to_json(self, indent: int = 2) -> str:
        """The whole report; ``report.schema.json`` in this package describes it."""
        return to_json(self.document, indent)

    def to_markdown(self, top: int = 20) -> str:
        """The report for an issue or a chat."""
        from diagnose.render.markdown import to_markdown

        return to_markdown(self.document, top)

    @overload
    def to_html(self, path: None = None) -> str: ...

    @overload
    def to_html(self, path: str | os.PathLike[str]) -> None: ...

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str | None:
        """The report as one page that needs no network: returned, or with ``path`` written there, whole or not at all.

        UsageError where bokeh is not installed (``pip install 'torch-diagnose[html]'``).
        """
        from diagnose.render.html import to_html

        page = to_html(self.document)
        if path is None:
            return page
        write_whole(path, page)
        return None

    def to_csv(self) -> str:
        """The kernel table."""
        from diagnose.render.csv import to_csv

        return to_csv(self.document)

    def plot(self, ax: Axes | None = None, *, before: Report | None = None, iso_time: bool = False) -> Axes:
        """The roofline, drawn into ``ax`` or a new figure (``.figure.savefig(path)`` writes it).

        Args:
            ax: Where to draw.
            before: An earlier report of the same step: arrows show how its kernels moved.
            iso_time: Also lines on which a kernel takes 3, 10, 100... times as long as at the roof.
        """
        from diagnose.render.roofline_plot import plot_roofline

        earlier = None if before is None else before.document
        return plot_roofline(self.document, ax, before=earlier, iso_time=iso_time)

    def plot_waterfall(self, ax: Axes | None = None) -> Axes:
        """Where each step's wall time goes, as stacked bars."""
        from diagnose.render.waterfall_plot import plot_waterfall

        return plot_waterfall(self.document, ax)

    def what_if(  # a public entrance
        self,
        *,
        device: str | None = None,
        batch: float | str | None = None,
        dtype: str | None = None,
        fuse: bool = False,
        graph: bool = False,
        link: float | None = None,
    ) -> Prediction:
        """What the step would take if something were different: each change alone, and all together.

        Args:
            device: Another device, by a name from the device table.
            batch: So many times the batch: ``2`` or ``"x2"``.
            dtype: Of the floating-point tensors: ``bfloat16``, ``float16``; of matrix products ``float8``, ``float4``,
                ``int8``.
            fuse: Neighbouring pointwise kernels as one.
            graph: Launched from a device graph.
            link: Bytes a second between devices, one way.

        Raises:
            UsageError: Nothing was asked for, the device has no such type, or this is a saved report, which has no
                timeline to run again.
            UnknownDeviceError: There is no row for the device.
        """
        from diagnose.predictions.prediction import Asked, batch_of, predict

        if self.case is None:
            raise UsageError("what_if runs the recording again, and a saved report has none: read the trace itself")
        factor = None if batch is None else batch_of(batch)
        asked = Asked(device=device, batch=factor, dtype=dtype, fuse=fuse, graph=graph, link=link)
        return predict(self.case, asked, self.document.source.path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON report, whole or not at all; compressed where the name ends in ``.gz``."""
        data = self.to_json().encode()
        # mtime 0: the same report gives the same file.
        write_whole(path, gzip.compress(data, mtime=0) if os.fspath(path).endswith(".gz") else data)

    def __str__(self) -> str:
        from diagnose.render.text import to_text

        return to_text(self.document, width=_terminal_width(), height=_HEIGHT, ascii_only=not _prints_bars())

    def __repr__(self) -> str:
        return f"<diagnose.Report: {self.verdict.verdict}>"

    def _repr_html_(self) -> str:
        from diagnose.render.notebook import to_notebook_html

        return to_notebook_html(self.document)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Report):
            return NotImplemented
        return msgspec.structs.replace(other.document, source=self.document.source) == self.document

    __hash__ = None  # type: ignore[assignment]  # equal reports may differ in source, and tables are lists


def _terminal_width() -> int:
    """100 columns; fewer, but not below 80, when a terminal that shows the report is narrower."""
    if sys.stdout is None or not sys.stdout.isatty():
        return _WIDTH
    return max(_NARROW, min(_WIDTH, shutil.get_terminal_size((_WIDTH, _HEIGHT)).columns))


def _prints_bars() -> bool:
    """Whether standard output's encoding has the characters of the bars."""
    try:
        "█▓▒░∙·…".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
