"""The report as one page: verdict, waterfall, roofline linked with the kernel table, findings, coverage and notes.

One file that needs no network. Everything that runs is in it, and its security policy allows nothing else: the hash of
each script is in the policy. ``docs/html.md`` says why each directive is there.
"""  # the room's modules bear the format's name

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from diagnose.errors import UsageError
from diagnose.render.html_roofs import axes_of, devices_of, is_drawn, roof_lines
from diagnose.render.html_rows import columns_of, details_of
from diagnose.render.html_tables import further_tables
from diagnose.render.html_waterfall import waterfall
from diagnose.render.html_words import ceiling_lines, facts, finding_cards, left_out_words, printed_rows, uncosted_lines
from diagnose.render.names import clean, fit
from diagnose.render.selection import DeviceKey, main_device, ordered_kernels
from diagnose.render.words import coverage_words, device_words
from diagnose.schema import DeviceRow, Document, KernelRow, WaterfallRow

_TEMPLATES: Final = Path(__file__).with_name("templates")
_SCRIPTS: Final = ("data.js", "plots.js", "details.js", "filters.js", "page.js")
"""Joined in this order into one module."""

_COMPONENTS: Final = ("bokeh", "bokeh-tables")
_MOST_ROWS: Final = 5000
"""A page of so many stays under 3 MB and opens in a second; the rest, which have least time, are in the JSON report."""

_SCRIPT_END: Final = re.compile(r"</(?=script)", re.IGNORECASE)


def to_html(document: Document) -> str:
    """The page. UsageError where Bokeh is not installed."""
    _require_bokeh()
    scripts = [*_bokeh_scripts(), _own_script()]
    rows = ordered_kernels(document)[:_MOST_ROWS]
    names = _device_names(document)
    page: str = _template().render(
        policy=_policy(scripts),
        scripts=scripts,
        style=_read("page.css"),
        payload=_payload(document, rows, names) if rows else "",
        words=_packed(details_of(rows, names)) if rows else "",
        title=_title(document),
        verdict=document.verdict,
        bound=document.verdict.bound or "none",
        facts=facts(document),
        coverage=coverage_words(document),
        costed=_costed_percent(document),
        uncosted=uncosted_lines(document),
        notes=[clean(note) for note in document.notes],
        waterfall=waterfall(document, names),
        findings=finding_cards(document),
        printed=printed_rows(rows),
        kernel_count=len(document.kernels),
        left_out=left_out_words(document, rows),
        tables=further_tables(document),
        ceilings=ceiling_lines(document),
        tool=document.tool,
        has_many_devices=len(devices_of(document)) > 1,
    )
    return page


def _require_bokeh() -> None:
    try:
        import bokeh.plotting  # noqa: F401
    except ImportError as error:
        raise UsageError("the HTML report is drawn with bokeh: pip install 'torch-diagnose[html]'") from error


def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(_TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Names from a trace are data: no control or direction-changing character reaches the page.
    environment.filters["clean"] = lambda text: clean(str(text))
    return environment.get_template("report.html.jinja")


def _read(name: str) -> Any:
    """A file of ours as it is, not escaped."""
    from markupsafe import Markup

    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704  # a file of this package


@cache
def _bokeh_scripts() -> list[Any]:
    """Bokeh's own code; it is large, so that only what the page uses is taken."""
    from bokeh.resources import Resources
    from markupsafe import Markup

    found = Resources(mode="inline", components=list(_COMPONENTS), log_level="error").js_raw
    # Inside a JavaScript string "<\/script" is the same text, and does not end the element that it stands in.
    return [Markup(_SCRIPT_END.sub(r"<\\/", code)) for code in found]  # noqa: S704  # Bokeh's distribution


def _own_script() -> Any:
    from markupsafe import Markup

    return Markup("\n").join([Markup('"use strict";'), *map(_read, _SCRIPTS)])


def _policy(scripts: Sequence[str]) -> str:
    """Nothing may be loaded, and only the scripts of this very file may run."""
    hashes = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _payload(document: Document, rows: Sequence[KernelRow], names: Mapping[DeviceKey, str]) -> str:
    """What the scripts draw first."""
    from diagnose.render.html_plots import plots_json

    axes, keys = axes_of(document), devices_of(document)
    shown = main_device(document)
    index = {key: position for position, key in enumerate(keys)}
    return _packed(
        {
            "plots": plots_json(columns_of(rows, axes), axes, roof_lines(document, axes), str(_read("table.css"))),
            "drawn": [is_drawn(row) for row in rows],
            "devices": [{"name": names[key], "roofs": key[1], "shown": key == shown} for key in keys],
            "device_of": [index[row.process_rank, row.device] for row in rows],
        }
    )


def _packed(content: Any) -> str:
    """JSON, compressed: thousands of kernels stay small, and no name can be read as markup."""
    # mtime 0: the same report gives the same page.
    return base64.b64encode(gzip.compress(msgspec.json.encode(content), 6, mtime=0)).decode()


def _device_names(document: Document) -> dict[DeviceKey, str]:
    """``rank 3 cuda:0``, or without a rank the device alone."""
    tables: tuple[Sequence[KernelRow | WaterfallRow | DeviceRow], ...] = (
        document.kernels,
        document.waterfall,
        document.devices,
    )
    keys = dict.fromkeys((row.process_rank, row.device) for table in tables for row in table)
    return {key: clean(key[1] if key[0] is None else f"rank {key[0]} {key[1]}") for key in keys}


def _title(document: Document) -> str:
    path = document.source.path
    name = "" if path is None else clean(re.split(r"[\\/]", path)[-1])
    return fit(name or device_words(document) or "report", 80)


def _costed_percent(document: Document) -> float | None:
    coverage = document.coverage
    return round(100 * coverage.costed_ns / coverage.kernel_ns, 2) if coverage.kernel_ns else None
