"""From a file to a report: the one road that recorded traces, our own recordings and saved reports all take."""

from __future__ import annotations

from typing import Any, Final

from diagnose.analysis import Options, analyse
from diagnose.errors import TraceError, UsageError
from diagnose.findings.case import Case
from diagnose.render.json import from_json
from diagnose.report import Report
from diagnose.trace.chrome import parse_trace
from diagnose.trace.source import Source, name_of, read_bytes

_HEAD: Final = 200


def read(source: Source, **options: Any) -> Report:
    """Reads a Kineto trace, one of our recordings, or a report saved as JSON.

    Args:
        source: Path, URL that fsspec understands, or binary file object; plain or gzip.
        options: As the fields of ``analysis.Options``: ``device``, ``window``, ``step``.

    Raises:
        TraceError: It is none of the three, or cut off.
        UnknownDeviceError: ``device`` is not in the table.
        UsageError: There is no such step or window, or any option is given for a saved report.
    """
    content = [read_bytes(source)]
    if b'"schema_version"' in content[0][:_HEAD]:
        return _saved(content[0], name_of(source) or "the file object", options)
    kept: list[Case] = []
    # Popped, so that nothing here keeps the text while the tables are made of it.
    document = analyse(parse_trace(content.pop(), name_of(source)), Options(**options), keep=kept.append)
    return Report(document, kept[0])


def _saved(content: bytes, label: str, options: dict[str, Any]) -> Report:
    if any(value is not None for value in options.values()):
        raise UsageError(f"{label}: is a saved report; give such options for the trace that it was made from")
    try:
        return Report(from_json(content))
    except TraceError as error:
        raise TraceError(f"{label}: {error}") from error
