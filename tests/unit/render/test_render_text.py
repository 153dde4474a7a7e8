"""The one-screen report: what a person reads first."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_documents import (
    HOSTILE_NAME,
    cpu_document,
    deviceless_document,
    gpu_document,
    hostile_document,
    kernel_of,
    ranked,
    unknown_device_document,
)

from diagnose import schema
from diagnose.errors import UsageError
from diagnose.render.text import to_text
from diagnose.render.words import line_words
from diagnose.schema import Document, Finding, Interval, WaterfallRow

ESCAPE = "\x1b"


def crowded_document() -> Document:
    known = gpu_document()
    rows = ranked([kernel_of(f"kernel_{index}", f"lib::op_{index}", 10_000 + index) for index in range(300)])
    parts = dict.fromkeys(row.part for row in known.waterfall)
    every = [WaterfallRow(None, "cuda:0", 1, part, None, 1000, 1 / 12) for part in parts] + [
        WaterfallRow(None, "cuda:0", 1, "idle_gc", "overhead", 1000, 1 / 12),
        WaterfallRow(None, "cuda:0", 1, "idle_data", "overhead", 1000, 1 / 12),
    ]
    finding = Finding(
        rule="r", bound="compute", title="fuse this", evidence={}, where=["a.py:1"], claims=[],
        recoverable_ns=Interval(1, 2, 3), gap_ns=None, advice="", assumes="",
    )  # fmt: skip
    long = "a sentence that goes on and on about one thing and then another " * 8
    return msgspec.structs.replace(
        known, kernels=rows, waterfall=every, findings=[finding] * 9, notes=[long] * 9,
        verdict=msgspec.structs.replace(known.verdict, verdict=long, why=long, next=long),
    )  # fmt: skip


@pytest.mark.parametrize("width", [80, 100])
def test_the_three_sentences_come_first(document, width):
    lines = to_text(document, width).splitlines()
    starts = [line.split(":")[0] for line in lines if line.startswith(("Verdict:", "Why:", "Next:"))]
    assert starts == ["Verdict", "Why", "Next"]
    assert lines[0].startswith("Verdict: ")


def test_short_sentences_are_exactly_the_first_three_lines():
    lines = to_text(gpu_document(), 100).splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == ["Verdict", "Why", "Next", ""]


@pytest.mark.parametrize("width", [80, 100])
def test_it_fits_a_screen(document, width):
    lines = to_text(document, width).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [80, 100])
def test_a_crowded_report_fits_a_screen_and_counts_what_it_leaves_out(width):
    text = to_text(crowded_document(), width)
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= width
    shown = sum(bool(re.match(r" *\d+ kernel_", line)) for line in lines)
    assert shown >= 3
    assert f"… {300 - shown} more" in text
    assert "more in the JSON report" in text


def test_top_shows_that_many_kernels_whatever_the_height():
    lines = to_text(crowded_document(), top=60).splitlines()
    assert sum(bool(re.match(r" *\d+ kernel_", line)) for line in lines) == 60


def test_no_height_shows_every_kernel():
    lines = to_text(crowded_document(), height=None).splitlines()
    assert sum(bool(re.match(r" *\d+ kernel_", line)) for line in lines) == 300


def test_a_table_line_is_one_line_a_kernel_in_rank_order():
    document = gpu_document()
    _, _, table = to_text(document).partition("\n # kernel")
    ranks = re.findall(r"^ *(\d+) \S", table, re.MULTILINE)
    assert ranks == [str(place) for place in range(1, len(document.kernels) + 1)]


def test_the_unknown_is_a_question_mark_and_never_a_zero():
    line = next(line for line in to_text(unknown_device_document()).splitlines() if "addmm" in line)
    assert re.search(r"\? +3\.60 ms +41 % +24 +\? ", line)
    assert " 0 " not in line
    assert "MFU" not in to_text(unknown_device_document())


def test_a_trace_without_device_says_so_before_anything_else_and_shows_no_empty_table():
    text = to_text(deviceless_document())
    assert text.splitlines()[4].startswith("Note: the trace holds no device activity")
    assert "kernel " not in text.split("Note:")[1]
    assert "Where the time goes" not in text


def test_several_steps_show_the_median_steady_one_and_the_spread():
    text = to_text(gpu_document())
    assert "step 2.92 ms (median of 3 steady of 4, 2.90 ms to 3.01 ms)" in text
    assert "Where the time goes: ProfilerStep#1, the median steady step, 2.92 ms" in text


def test_the_waterfall_names_each_kind_once_with_its_sum():
    text = to_text(gpu_document())
    assert len(re.findall(r"^compute +47 %  at the roof +900 us +31 %", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^ +above the roof +480 us +16 %", text, re.MULTILINE)) == 1
    assert text.index("\ncompute") < text.index("\noverhead") < text.index("\nmemory ") < text.index("\nno kind")


def test_kinds_differ_without_colour():
    lines = [
        line for line in to_text(gpu_document()).splitlines() if line.startswith(("compute ", "memory ", "overhead "))
    ]
    assert len({line[-1] for line in lines}) == 3


def test_colour_only_when_asked_for(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert ESCAPE not in to_text(gpu_document())
    coloured = to_text(gpu_document(), color=True)
    assert ESCAPE in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured).split() == to_text(gpu_document()).split()


def test_ascii_only_is_ascii_of_the_same_shape():
    plain, full = to_text(gpu_document(), ascii_only=True), to_text(gpu_document())
    assert plain.isascii()
    assert list(map(len, plain.splitlines())) == list(map(len, full.splitlines()))


def test_names_are_data_not_markup_nor_control_sequences():
    text = to_text(hostile_document())
    assert ESCAPE not in text
    assert "\u202e" not in text
    assert "[red]" in text  # rich did not take it for a style
    assert HOSTILE_NAME.splitlines()[0] not in text


@given(st.text(max_size=60))
def test_no_name_breaks_the_screen(name):
    document = gpu_document()
    rows = [msgspec.structs.replace(row, kernel=name, op=name) for row in document.kernels]
    text = to_text(msgspec.structs.replace(document, kernels=rows, notes=[name]))
    printable = text.replace("\n", "")
    assert printable.isprintable() or all(char.isprintable() or char == "\u3000" for char in printable)
    assert len(text.splitlines()) <= 40


def test_the_source_line_stands_beside_its_kernel():
    line = next(line for line in to_text(gpu_document()).splitlines() if line.startswith(" 1 "))
    assert line.endswith("gpt2.py:123")


def test_on_a_cpu_the_op_is_named_once_with_its_shapes():
    text = to_text(cpu_document())
    assert re.search(r"^1 addmm +768 128x768 768x3072 +compute", text, re.MULTILINE)


def test_one_long_name_does_not_cost_the_others_their_shapes():
    document = cpu_document()
    long = msgspec.structs.replace(document.kernels[-1], **dict.fromkeys(("kernel", "op"), "autograd::" + "x" * 90))
    text = to_text(msgspec.structs.replace(document, kernels=[*document.kernels[:-1], long]))
    assert re.search(r"^1 addmm +768 128x768 768x3072 +compute", text, re.MULTILINE)


def test_what_is_above_the_roof_is_not_called_a_bound():
    line = next(line for line in to_text(gpu_document()).splitlines() if "nvjet" in line)
    assert "above-roof" in line
    assert "compute" not in line


def test_sorting_by_module_shows_modules_and_by_recoverable_the_largest_gap_first():
    document = gpu_document()
    assert "GPT2.h.0.mlp" in to_text(document, sort="module")
    first = to_text(document, sort="recoverable").splitlines()
    table = next(index for index, line in enumerate(first) if line.startswith(" #"))
    gaps = {row.place: row.gap_ns.mid for row in document.kernels if row.gap_ns}
    assert int(first[table + 1].split()[0]) == max(gaps, key=gaps.get)


def in_layers(document, *modules):
    """The report with the first kernel's time in these modules, equally."""
    row = document.kernels[0]
    part = row.time_ns // len(modules)
    places = [schema.Place(module, "/u/net.py:8 def forward", None, None, 1, part) for module in modules]
    return msgspec.structs.replace(
        document, kernels=[msgspec.structs.replace(row, places=places), *document.kernels[1:]]
    )


def test_the_layers_of_a_stack_are_one_module():
    document = in_layers(gpu_document(), *(f"GPT2.h.{index}.attn.c_attn" for index in range(4)))
    text = to_text(document, sort="module")
    assert "GPT2.h.*.attn.c_attn" in text
    assert "GPT2.h.2.attn" not in text


def test_the_modules_are_listed_where_there_is_room():
    document = in_layers(gpu_document(), "GPT2.h.0.attn", "GPT2.h.1.attn")
    tall = to_text(document, height=80)
    heading = next(line for line in tall.splitlines() if line.startswith("By module"))
    assert heading.split() == ["By", "module", "time", "share", "kernels", "work", "gap"]
    assert "(outside any module)" in tall
    assert len(to_text(document, height=40).splitlines()) <= 40
    assert all(len(line) <= 80 for line in to_text(document, width=80, height=80).splitlines())


def test_a_line_of_a_function_is_told_from_the_line_of_a_call():
    document = in_layers(gpu_document(), "Net")
    row = document.kernels[0]
    assert line_words(row) == "net.py:8 def"
    call = msgspec.structs.replace(row.places[0], line="/u/net.py:9")
    both = msgspec.structs.replace(row, places=[call, *row.places])
    assert line_words(both) == "net.py:9 +1"
    assert line_words(msgspec.structs.replace(row, places=[])) == ""


def test_an_unknown_order_is_named():
    with pytest.raises(UsageError, match="cannot sort by 'size': choose one of time, recoverable, module"):
        to_text(gpu_document(), sort="size")
