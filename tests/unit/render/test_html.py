"""The page: safe for any name, whole without a network, true to the report. A real browser sees it in tests/browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
import report_documents as documents
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import schema
from diagnose.cli import main
from diagnose.errors import UsageError
from diagnose.render import html, html_words
from diagnose.render.html import to_html
from diagnose.render.html_roofs import axes_of, has_arithmetic, is_drawn, position, roof_lines, ticks
from diagnose.render.html_rows import columns_of, details_of
from diagnose.render.html_waterfall import waterfall
from diagnose.render.html_words import passages
from diagnose.report import Report

pytest.importorskip("bokeh")

MEGABYTE = 10**6
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
NAMES = {(None, "cuda:0"): "cuda:0"}


class Parsed(HTMLParser):
    """What a browser would make of the page: elements, attributes, text, scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._open: dict[str, str | None] | None = None
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self._open = dict(attrs)
            self.scripts.append((self._open, ""))

    def handle_endtag(self, _tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            attrs, code = self.scripts[-1]
            self.scripts[-1] = (attrs, code + data)
        elif not self._inside:
            self.text += data

    @property
    def code(self) -> list[str]:
        return [code for attrs, code in self.scripts if attrs.get("type") in (None, "module")]

    @property
    def policy(self) -> str:
        return next(
            value for tag, name, value in self.attributes if tag == "meta" and name == "content" and "src" in value
        )

    def data(self, name: str):
        packed = next(code for attrs, code in self.scripts if attrs.get("id") == name)
        return json.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.fixture
def whole() -> None:
    """Asks for the page with Bokeh in it."""


@pytest.fixture(autouse=True)
def _short_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line in place of Bokeh's megabytes, which a test that looks at names does not have to parse."""
    if "whole" not in request.fixturenames:
        monkeypatch.setattr(html, "_bokeh_scripts", lambda: ["var Bokeh = {}"])


def findings() -> list[schema.Finding]:
    saves = schema.Interval(1_000_000, 2_000_000, 3_000_000)
    return [
        schema.Finding(
            rule="fusion", bound="memory", title="Fuse <them>", evidence={"idle_ns": 1500, "calls": 3},
            where=["model.py:3"], claims=[], recoverable_ns=saves, gap_ns=None,
            advice="Compile it:\n```python\nmodel = torch.compile(model)\nmodel(x < 3)\n```\nThen measure.",
            assumes="static shapes",
        )
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["gpu", "cpu", "deviceless", "unknown_device", "hostile"])
def test_every_kind_of_report_is_a_page_with_its_verdict_first(name: str) -> None:
    document = getattr(documents, f"{name}_document")()

    parsed = Parsed(to_html(document))

    first = parsed.text.index(html.clean(document.verdict.verdict))
    assert first < parsed.text.index("How much of it is known")
    for note in document.notes:
        assert html.clean(note) in parsed.text


@pytest.mark.usefixtures("whole")
def test_page_needs_no_network_and_stays_small() -> None:
    page = to_html(documents.gpu_document())
    parsed = Parsed(page)

    assert not {"link", "img", "iframe", "object", "embed", "base", "a"} & set(parsed.tags)
    assert not [value for _, name, value in parsed.attributes if name in ("src", "href", "action", "srcset")]
    assert "url(" not in html._read("page.css") + html._read("table.css")
    assert len(page.encode()) < 3 * MEGABYTE


@pytest.mark.usefixtures("whole")
def test_policy_allows_the_scripts_of_the_page_and_nothing_else() -> None:
    parsed = Parsed(to_html(documents.gpu_document()))

    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(c.encode()).digest()).decode()}'" for c in parsed.code}
    directives = dict(part.strip().split(" ", 1) for part in parsed.policy.split(";"))

    assert set(directives.pop("script-src").split()) == hashes
    assert directives == {
        "default-src": "'none'", "style-src": "'unsafe-inline'", "img-src": "data:", "base-uri": "'none'",
        "form-action": "'none'",
    }  # fmt: skip


def test_no_own_script_evaluates_text() -> None:
    own = Parsed(to_html(documents.gpu_document())).code[-1]

    assert not re.search(
        r"innerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|CustomJS\b(?! evaluates)", own
    )


def test_names_from_a_trace_add_no_element_no_attribute_and_no_control_character() -> None:
    plain, hostile = Parsed(to_html(documents.gpu_document())), Parsed(to_html(documents.hostile_document()))

    assert set(hostile.tags) == set(plain.tags)
    assert len(hostile.scripts) == len(plain.scripts)
    assert {(tag, name) for tag, name, _ in hostile.attributes} == {(tag, name) for tag, name, _ in plain.attributes}
    assert not CONTROL.search(hostile.text)
    assert "<script>alert(1)</script>" in hostile.text, "the name is shown, as text"
    for name in ("payload", "words"):
        assert not CONTROL.search(json.dumps(hostile.data(name), ensure_ascii=False))


@settings(max_examples=12)
@given(st.text(max_size=60))
def test_any_name_stays_a_name(name: str) -> None:
    known = documents.gpu_document()
    place = documents.place_of(name, name, 5)
    rows = [msgspec.structs.replace(known.kernels[0], kernel=name, op=name, reasons=[name], places=[place])]
    steps = [schema.Step(name, step.start_ns, step.wall_ns, step.steady) for step in known.window.steps]
    document = msgspec.structs.replace(
        known, kernels=rows, notes=[name], window=msgspec.structs.replace(known.window, steps=steps),
        findings=[msgspec.structs.replace(findings()[0], title=name, advice=name, where=[name])],
    )  # fmt: skip

    parsed = Parsed(to_html(document))

    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]
    # Bokeh's stand-in is the one script without a type.
    assert [attrs for attrs, _ in parsed.scripts if not attrs] == [{}]
    assert not CONTROL.search(parsed.text)


def test_same_report_gives_the_same_page() -> None:
    assert to_html(documents.gpu_document()) == to_html(documents.gpu_document())


def test_every_kernel_is_in_the_data_and_the_first_are_printed() -> None:
    document = documents.gpu_document()

    parsed = Parsed(to_html(document))
    words = parsed.data("words")

    assert [row["name"] for row in words] == [row.kernel for row in document.kernels]
    assert parsed.data("payload")["drawn"] == [is_drawn(row) for row in document.kernels]
    assert all(str(row.calls) in parsed.text for row in document.kernels)


def test_kernels_beyond_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "_MOST_ROWS", 4)
    document = documents.gpu_document()

    parsed = Parsed(to_html(document))

    share = sum(row.share for row in document.kernels[4:])
    assert len(parsed.data("words")) == 4
    assert f"{len(document.kernels) - 4} kernels with {100 * share:.0f} % of the kernel time" in parsed.text


def test_unknown_is_a_question_mark_in_words_and_nan_among_numbers() -> None:
    document = documents.unknown_device_document()
    columns = columns_of(document.kernels, axes_of(document))

    assert all(math.isnan(value) for value in columns["efficiency"])
    assert set(columns["efficiency_text"]) == set(columns["gap_text"]) == {"?"}
    unpriced = next(i for i, row in enumerate(document.kernels) if row.cost_source is None)
    facts = dict(details_of(document.kernels, NAMES)[unpriced]["facts"])
    assert facts["work a call"] == facts["achieved"] == "?"
    assert facts["work known from"] == "not known"


def test_columns_are_one_entry_a_row_and_lie_inside_the_axes() -> None:
    document = documents.gpu_document()
    axes = axes_of(document)

    columns = columns_of(document.kernels, axes)

    assert {len(values) for values in columns.values()} == {len(document.kernels)}
    for row, x, y in zip(document.kernels, columns["x"], columns["y"], strict=True):
        if has_arithmetic(row):
            assert (x, y) == (row.arithmetic_intensity, row.achieved_flops_per_s)
            assert axes.intensity_low < x < axes.intensity_high
        elif is_drawn(row):
            assert axes.strip_low < x < axes.intensity_low
            assert y == row.achieved_bytes_per_s * axes.intensity_low
        else:
            assert math.isnan(x)
            assert position(row, axes) is None
        assert not is_drawn(row) or axes.flops_per_s_low < y < axes.flops_per_s_high


def test_slopes_meet_the_level_roofs_at_the_ridge_point() -> None:
    """Derived twice: the corner of the drawn line, and the report's ridge."""
    document = documents.gpu_document()
    lines = roof_lines(document, axes_of(document))
    levels = {line.ys[0]: line for line in lines if not line.is_slope and line.style == "achievable"}

    for ridge in document.ridges:
        height = next(c.achievable for c in document.ceilings if c.resource == ridge.resource)
        assert levels[height].xs[0] == pytest.approx(ridge.flops_per_byte)
    slope = next(line for line in lines if line.is_slope and line.style == "achievable")
    assert slope.ys[-1] == max(levels)
    assert slope.ys[-1] / slope.xs[-1] == pytest.approx(3.0e12)
    assert slope.ys[1] / slope.xs[1] == pytest.approx(3.0e12)


def test_a_device_without_ceilings_has_axes_and_no_roofs() -> None:
    document = documents.unknown_device_document()

    assert roof_lines(document, axes_of(document)) == []
    assert ticks(0.5, 2000) == [1, 10, 100, 1000]


def test_waterfall_pieces_fill_the_bar_and_name_the_shares() -> None:
    document = documents.gpu_document()

    drawn = waterfall(document, NAMES)

    assert drawn.main is not None
    assert sum(float(piece.width) for piece in drawn.main.pieces) == pytest.approx(100, abs=0.01)
    assert drawn.main.pieces[0].kind == "compute"
    assert drawn.main.pieces[-1].kind == "none"
    assert [bar.steady for bar in drawn.bars] == [False, True, True, True]
    longest = max(sum(float(piece.width) for piece in bar.pieces) for bar in drawn.bars)
    assert longest == pytest.approx(100, abs=0.01)
    kinds = [line for line in drawn.legend if not line.part]
    assert [line.kind for line in kinds] == ["compute", "overhead", "memory", "communication", "none"]


def test_findings_have_their_code_and_what_they_assume() -> None:
    document = msgspec.structs.replace(documents.gpu_document(), findings=findings())

    parsed = Parsed(to_html(document))

    for words in ("Fuse <them>", "model = torch.compile(model)\nmodel(x < 3)", "static shapes", "2.00 ms", "1.50 us"):
        assert words in parsed.text
    assert "pre" in parsed.tags


@pytest.mark.parametrize(
    ("advice", "pieces"),
    [
        ("Do it.", [(False, "Do it.")]),
        ("```\na = 1\n\x1b[31m    b\n```", [(True, "a = 1\n[31m b")]),
        ("Try:\n    x = 1\n    if x:\n        y()", [(False, "Try:"), (True, "x = 1\nif x:\n    y()")]),
        ("model = torch.compile(model)", [(True, "model = torch.compile(model)")]),
        ("for x in data:\n    f(x)", [(True, "for x in data:\n    f(x)")]),
        ("measure", [(False, "measure")]),
        ("", []),
    ],
)
def test_advice_is_prose_and_code(advice: str, pieces: list[tuple[bool, str]]) -> None:
    assert [(passage.is_code, passage.text) for passage in passages(advice)] == pieces


def test_several_devices_are_named_and_can_be_chosen() -> None:
    document = documents.gpu_document()
    rows = [
        msgspec.structs.replace(row, process_rank=rank, device="cuda:0") for rank in (0, 1) for row in document.kernels
    ]
    water = [msgspec.structs.replace(row, process_rank=rank) for rank in (0, 1) for row in document.waterfall]
    document = msgspec.structs.replace(document, kernels=documents.ranked(rows), waterfall=water)

    parsed = Parsed(to_html(document))

    assert [device["name"] for device in parsed.data("payload")["devices"]] == ["rank 0 cuda:0", "rank 1 cuda:0"]
    assert sum(device["shown"] for device in parsed.data("payload")["devices"]) == 1
    assert ("select", "id", "by-device") in parsed.attributes
    assert "rank 1 cuda:0: ProfilerStep#1" in parsed.text


def test_report_writes_the_page_or_returns_it(tmp_path: Path) -> None:
    report = Report(documents.gpu_document())

    assert report.to_html(tmp_path / "report.html") is None
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report.to_html()


def test_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "report.json"
    Report(documents.gpu_document()).save(saved)

    status = main(["report", str(saved), "--format", "html", "-o", str(tmp_path / "report.html")])

    assert status == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_without_bokeh_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "report.json"
    Report(documents.gpu_document()).save(saved)
    monkeypatch.setitem(sys.modules, "bokeh.plotting", None)

    assert main(["report", str(saved), "--format", "html"]) == 2
    said = capsys.readouterr().err
    assert said == "diagnose: the HTML report is drawn with bokeh: pip install 'torch-diagnose[html]'\n"
    with pytest.raises(UsageError):
        to_html(documents.gpu_document())


@pytest.mark.parametrize(
    ("name", "value", "label", "said"),
    [
        ("gap_ns", 1500, "gap", "1.50 us"),
        ("gap_ns_per_kernel", 1486, "gap per kernel", "1.49 us"),
        ("copy_bytes_per_step", 3_516_923_904, "copy bytes per step", "3.52 GB"),
        ("float8_flops_per_s", 1.4e15, "float8 flops per s", "1.40 PFLOP/s"),
        ("waiting_share", 0.822, "waiting share", "82 %"),
        ("launches_per_step", 929.0, "launches per step", "929"),
        ("ops_per_step", 2426, "ops per step", "2,426"),
    ],
)
def test_evidence_stands_with_the_unit_of_its_name(name: str, value: float, label: str, said: str) -> None:
    finding = msgspec.structs.replace(findings()[0], evidence={name: value})
    document = msgspec.structs.replace(documents.gpu_document(), findings=[finding])
    assert html_words.finding_cards(document)[0].evidence == [(label, said)]
