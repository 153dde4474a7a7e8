"""Markdown, CSV, DataFrames and the notebook's HTML."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import msgspec
import pandas as pd
import pytest
from report_documents import deviceless_document, gpu_document, hostile_document

from diagnose.errors import UsageError
from diagnose.render.columns import KERNEL_COLUMNS, TABLES
from diagnose.render.csv import to_csv
from diagnose.render.frames import to_frame
from diagnose.render.markdown import code, escaped, to_markdown
from diagnose.render.notebook import to_notebook_html


def test_markdown_is_short_and_starts_with_the_verdict(document):
    lines = to_markdown(document).splitlines()
    assert len(lines) < 60
    assert [re.match(r"- \*\*(\w+):\*\* ", line)[1] for line in lines[:3]] == ["Verdict", "Why", "Next"]


def test_markdown_tables_are_rectangular(document):
    """GitHub ends a cell at every pipe that has no backslash."""
    for table in re.findall(r"(?:^\|.*\n)+", to_markdown(document), re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1


def test_markdown_top_limits_the_kernels_and_says_what_is_left():
    text = to_markdown(gpu_document(), top=2)
    assert "| 2 |" in text
    assert "| 3 |" not in text
    assert "8 more kernels are not shown." in text


def test_markdown_of_names_is_not_markup():
    text = to_markdown(hostile_document())
    outside = re.sub(r"`[^`\n]*`", "", text.replace("\\`", ""))
    assert "<script" not in outside
    assert not re.search(r"(?<!\\)\[red", outside)
    assert "@team" not in outside
    assert "\x1b" not in text


def test_escaping_word_for_word():
    assert escaped("a*b_c|d <i> @me http://x `y`") == (
        r"a\*b\_c\|d &lt;i&gt; @<!-- -->me http:<!-- -->//x \`y\`"
    )  # fmt: skip
    assert code("a|b`c") == r"`a\|b'c`"
    assert code("a\\|b") == r"`a\ \|b`"


def test_csv_has_a_row_a_kernel_units_in_its_names_and_nothing_for_the_unknown():
    document = gpu_document()
    rows = list(csv.DictReader(io.StringIO(to_csv(document))))
    assert [row["place"] for row in rows] == [str(row.place) for row in document.kernels]
    assert rows[0]["time_ns"] == "3600000"
    assert float(rows[0]["achieved_flops_per_s"]) == document.kernels[0].achieved_flops_per_s
    mystery = next(row for row in rows if row["kernel"] == "triton_mystery_fused_7")
    assert mystery["flops_per_call"] == mystery["efficiency"] == mystery["bound"] == ""
    copy = next(row for row in rows if row["op"] == "aten::copy_")
    assert copy["flops_per_call"] == "0"


def test_special_operations_have_a_column_beside_the_flops():
    document = gpu_document()
    document.kernels[0] = msgspec.structs.replace(document.kernels[0], flops=7, special_ops=12)
    row = next(csv.DictReader(io.StringIO(to_csv(document))))
    assert (row["flops_per_call"], row["special_ops_per_call"]) == ("7", "12")
    frame = to_frame(document, "kernels").set_index("kernel")
    assert frame["special_ops_per_call"].iloc[0] == 12
    assert frame.loc["triton_mystery_fused_7", "special_ops_per_call"] is pd.NA


def test_csv_holds_no_formula_and_no_control_character():
    rows = list(csv.DictReader(io.StringIO(to_csv(hostile_document()))))
    for row in rows:
        assert row["op"].startswith("'=")
        assert all(not cell.startswith(("=", "+", "-", "@")) for cell in row.values())
        assert all(cell.isprintable() for cell in row.values())


@pytest.mark.parametrize("table", sorted(TABLES))
def test_frames_have_their_columns_even_when_empty(table, document):
    frame = to_frame(document, table)
    assert list(frame.columns) == list(TABLES[table][0])
    assert to_frame(deviceless_document(), table).dtypes.equals(to_frame(gpu_document(), table).dtypes)


def test_frames_keep_the_unknown_and_whole_numbers():
    frame = to_frame(gpu_document(), "kernels").set_index("kernel")
    assert frame.loc["triton_mystery_fused_7", "flops_per_call"] is pd.NA
    assert frame.loc["Memcpy DtoD (Device -> Device)", "flops_per_call"] == 0
    assert frame["time_ns"].dtype == "Int64"
    assert frame["time_ns"].sum() == gpu_document().coverage.kernel_ns
    assert frame.loc["Memcpy HtoD (Pinned -> Device)", "efficiency"] is pd.NA


def test_frames_and_reports_agree():
    document = gpu_document()
    waterfall = to_frame(document, "waterfall")
    whole = waterfall[waterfall["step"].isna()]
    assert whole["ns"].sum() == document.window.wall_ns
    assert to_frame(document, "steps")["steady"].tolist() == [False, True, True, True]
    assert to_frame(document, "ceilings").set_index("resource")["unit"].to_dict() == {
        "tensor.bfloat16": "flops/s", "vector.float32": "flops/s", "dram": "bytes/s", "kernel_floor": "s",
    }  # fmt: skip
    assert to_frame(document, "coverage")["reason"].tolist() == ["no formula for this op"]


def test_an_unknown_table_is_named():
    with pytest.raises(UsageError, match="no table 'kernel': choose one of kernels, waterfall, steps"):
        to_frame(gpu_document(), "kernel")


def test_numbers_of_a_column_are_named_with_their_unit():
    units = ("_ns", "_per_call", "_per_s", "_per_byte", "share_of_kernel_time", "efficiency", "calls", "count", "place")
    for name, kind in KERNEL_COLUMNS.items():
        if kind in ("int", "float"):
            assert any(unit in name for unit in units) or name == "process_rank", name


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        assert not attrs
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_notebook_html_is_well_formed_and_holds_only_a_table(document):
    tags = Tags()
    tags.feed(to_notebook_html(document))
    assert not tags.open
    assert tags.seen <= {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"}
