"""A comparison as text, Markdown, JSON and DataFrame."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from report_documents import HOSTILE_NAME, cpu_document, deviceless_document, gpu_document, hostile_document

import diagnose
from diagnose.comparisons.comparison import Comparison
from diagnose.render.comparison_text import to_text
from diagnose.tables.comparison import Difference

replaced = msgspec.structs.replace


def slower() -> Comparison:
    before = gpu_document()
    rows = [replaced(row, exposed_ns=row.exposed_ns * 3) if row.op == "aten::add" else row for row in before.kernels]
    return diagnose.compare(before, replaced(before, kernels=rows), fail_on=["step_time:+5%", "kernel:gemm:+1%"])


@pytest.mark.parametrize("after", [gpu_document(), cpu_document(), deviceless_document(), hostile_document()])
@pytest.mark.parametrize("width", [80, 100])
def test_the_text_fits_a_screen(after, width: int):
    lines = to_text(diagnose.compare(gpu_document(), after).tables, width).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("Verdict: ")
    assert not any(char in "".join(lines) for char in "\x1b\u202e")


def test_the_lines_of_changes_add_up_to_the_sum_above_them():
    found = slower()
    shown = [change for change in found.changes if change.difference_ns]
    assert (
        sum(change.difference_ns for change in shown) == 0 == found.tables.step_after_ns - found.tables.step_before_ns
    )
    text = str(found)
    assert "What changed in the recorded step: 0 ns" in text
    assert "aten::" not in text
    assert "slower" in next(line for line in text.splitlines() if "  add" in line)


def test_thresholds_are_shown_with_their_figures():
    lines = str(slower()).splitlines()
    assert any(line.startswith("held      step_time:+5%  2.40 ms → 2.40 ms") for line in lines)


def test_ascii_only_text_is_ascii():
    assert to_text(slower().tables, ascii_only=True).isascii()


def test_the_markdown_has_a_verdict_tables_and_nothing_that_is_markup():
    found = diagnose.compare(gpu_document(), hostile_document(), fail_on=["kernel:evil:+5%"])
    text = found.to_markdown()
    assert text.startswith("### ")
    assert "| threshold |" in text
    assert "<script" not in re.sub(r"`[^`]*`", "", text.replace(r"\`", ""))  # code is shown as it is
    assert "<details><summary>" in text
    assert HOSTILE_NAME not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_the_json_is_the_tables():
    found = slower()
    assert msgspec.json.decode(found.to_json(), type=Difference) == found.tables
    assert json.loads(found.to_json(indent=0))["verdict"] == found.verdict


def test_the_frame_has_a_row_a_change_and_units_in_its_columns():
    frame = slower().to_frame()
    assert len(frame) == len(slower().changes)
    assert {"before_ns", "after_ns", "difference_ns"} <= set(frame.columns)
    assert frame["difference_ns"].sum() == 0


def test_it_is_drawn_with_arrows_from_before():
    before = gpu_document()
    rows = [replaced(row, achieved_flops_per_s=(row.achieved_flops_per_s or 0) / 20) if row.place == 1 else row
            for row in before.kernels]  # fmt: skip
    axes = diagnose.compare(before, replaced(before, kernels=rows)).plot()
    assert any(getattr(text, "arrow_patch", None) is not None for text in axes.texts)
