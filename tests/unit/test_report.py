"""The report as an object: printing, saving, comparing, and what it must not import."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys

import msgspec
import pytest
from report_documents import cpu_document, deviceless_document, gpu_document

from diagnose.errors import DiagnoseError
from diagnose.report import Report
from diagnose.schema import Source, SourceOptions


def test_its_tables_are_the_documents():
    document = gpu_document()
    report = Report(document)
    assert report.verdict is document.verdict
    assert report.waterfall is document.waterfall
    assert report.kernels is document.kernels
    assert report.findings is document.findings
    assert report.coverage is document.coverage
    assert report.ceilings is document.ceilings
    assert report.notes is document.notes
    assert report.totals is document.totals
    assert report.window is document.window
    assert report.device.name == "NVIDIA H100 80GB HBM3"
    assert Report(deviceless_document()).device is None


def test_printed_it_fits_a_screen():
    lines = str(Report(gpu_document())).splitlines()
    assert len(lines) <= 40
    assert 80 < max(map(len, lines)) <= 100


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.mark.parametrize(("columns", "width"), [(80, 80), (90, 90), (200, 100), (20, 80)])
def test_a_terminal_says_how_wide_it_is(monkeypatch, columns, width):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", str(columns))
    assert width - 3 <= max(map(len, str(Report(gpu_document())).splitlines())) <= width


def test_a_pipe_has_no_width(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, str(Report(gpu_document())).splitlines())) > 80


def test_an_output_without_bars_gets_ascii(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert str(Report(gpu_document())).isascii()


def test_equal_but_for_source():
    elsewhere = Source("live", None, 1, SourceOptions(True, True, True))
    document = gpu_document()
    assert Report(document) == Report(msgspec.structs.replace(document, source=elsewhere))
    assert Report(document) != Report(msgspec.structs.replace(document, notes=[]))
    assert Report(document) != Report(cpu_document())
    assert Report(document) != "report"


@pytest.mark.parametrize("name", ["report.json", "report.json.gz"])
def test_saved_and_read_back_it_is_equal(tmp_path, name):
    report = Report(gpu_document())
    report.save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    assert Report.from_json(gzip.decompress(data) if name.endswith(".gz") else data) == report
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_saving_where_it_cannot_be_says_so(tmp_path):
    with pytest.raises(DiagnoseError, match=r"cannot write .*report\.json: No such file or directory"):
        Report(gpu_document()).save(tmp_path / "nowhere" / "report.json")


def test_every_way_out_gives_something():
    report = Report(gpu_document())
    assert report.to_markdown(top=1).startswith("- **Verdict:**")
    assert report.to_csv().startswith("place,")
    assert report._repr_html_().startswith("<div>")
    assert len(report.to_frame("kernels")) == len(report.kernels)
    assert report.plot().get_title(loc="left")
    assert report.plot_waterfall().get_title(loc="left")
    assert repr(report) == "<diagnose.Report: compute-bound: 47 % of the step; overhead is next with 25 %>"


PRINTS_A_REPORT = """
import sys
from report_documents import gpu_document
from diagnose.report import Report
report = Report(gpu_document())
assert str(report) and report.to_json() and report.to_markdown() and report.to_csv() and report._repr_html_()
print(sorted({"torch", "pandas", "matplotlib"} & set(sys.modules)))
"""


def test_reading_a_report_needs_neither_torch_nor_pandas_nor_matplotlib(repo):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo), str(repo / "tests")])}
    run = subprocess.run(
        [sys.executable, "-c", PRINTS_A_REPORT], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
