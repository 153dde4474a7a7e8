"""Hardware counters joined to a recording: by order and name, over several steps, and winning over formulas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diagnose.analysis import Options, analyse
from diagnose.cli import main
from diagnose.counters.joining import join
from diagnose.counters.ncu import parse_counters
from diagnose.items import collect
from diagnose.schema import Document, KernelRow
from tests.builders import TraceBuilder, launched
from tests.counter_sheets import Sheet

MATRIX = ((2048, 2048), "bfloat16")
MATRIX_BYTES = 2048 * 2048 * 2
GEMM = "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_32x32_128x2_nn_align8>(Params)"
RELU = "void at::native::relu_kernel<float>(int)"


def recording(steps: int = 1) -> TraceBuilder:
    """Each step: a product, then relu twice, on another grid the second time."""
    built = TraceBuilder()
    for number in range(steps):
        at = 300 * number
        built.step(number, at, 300)
        launched(built, "aten::mm", [MATRIX, MATRIX], at + 20, 60, kernel=GEMM)
        launched(built, "aten::relu", [MATRIX], at + 90, 15, kernel=RELU)
        launched(built, "aten::relu", [((4096, 4096), "bfloat16")], at + 120, 40, kernel=RELU, grid=(528, 1, 1))
    return built


def counted(sheet: Sheet, steps: int = 1) -> Document:
    return analyse(recording(steps).reading(), Options(counters=parse_counters(sheet.raw())))


def step_counted(sheet: Sheet, times: float = 1.0, skip: str = "") -> None:
    if skip != "gemm":
        sheet.kernel("cutlass::Kernel2<T>(T1::Params)", read=round(2.5 * MATRIX_BYTES * times), written=MATRIX_BYTES)
    if skip != "relu":
        sheet.kernel("void at::native::relu_kernel<float>(T1)", read=MATRIX_BYTES, written=MATRIX_BYTES // 2)
        sheet.kernel("_ZN2at6native11relu_kernelIfEEvi", read=4 * MATRIX_BYTES, written=0, grid=(528, 1, 1))


def row(document: Document, op: str, index: int = 0) -> KernelRow:
    return sorted((each for each in document.kernels if each.op == op), key=lambda each: each.time_ns)[index]


def test_what_was_counted_wins_and_the_difference_is_shown() -> None:
    sheet = Sheet()
    step_counted(sheet)
    document = counted(sheet)
    gemm = row(document, "aten::mm")
    assert (gemm.bytes_read, gemm.bytes_written) == (2.5 * MATRIX_BYTES, MATRIX_BYTES)
    assert gemm.extra_bytes == 0.5 * MATRIX_BYTES
    assert gemm.cost_source == "counter"
    assert gemm.flops == 2 * 2048**3
    assert gemm.reasons[-1] == "counters: 29.4 MB of DRAM traffic, 25.2 MB by formula (+16.7 %)"
    small, large = row(document, "aten::relu"), row(document, "aten::relu", 1)
    assert (small.bytes_read, small.bytes_written, small.extra_bytes) == (MATRIX_BYTES, MATRIX_BYTES // 2, 0)
    # The second relu has another grid, and its name was printed mangled.
    assert (large.bytes_read, large.bytes_written) == (4 * MATRIX_BYTES, 0)
    assert "counters: 3 of 3 kernels joined, 100 % of kernel time" in document.notes
    # 3.5 + 1.5 + 4 matrices moved, 3 + 2 + 8 by the formulas.
    assert f"counters: {9 / 13:.2f} times the DRAM traffic that the formulas say, over joined kernels" in document.notes


def test_without_counters_nothing_changes() -> None:
    assert analyse(recording().reading(), Options()) == analyse(recording().reading())
    assert row(analyse(recording().reading()), "aten::mm").cost_source == "formula"


def test_several_counted_steps_are_averaged_and_each_recorded_step_gets_them() -> None:
    sheet = Sheet()
    for times in (1.0, 1.2):
        step_counted(sheet, times)
    document = counted(sheet, steps=3)
    gemm = row(document, "aten::mm")
    assert gemm.calls == 3
    assert gemm.bytes_read == round(2.5 * 1.1 * MATRIX_BYTES)
    assert any("each the mean of 2 counted steps" in note for note in document.notes)


def test_kernels_missing_on_either_side_are_named() -> None:
    sheet = Sheet()
    step_counted(sheet, skip="gemm")
    sheet.kernel("void flush_kernel(int)", read=1, written=1)
    document = counted(sheet)
    assert row(document, "aten::mm").cost_source == "formula"
    assert row(document, "aten::relu").cost_source == "counter"
    assert "counters: not counted: Kernel2 x 1" in document.notes
    assert "counters: counted but not in the recording: flush_kernel x 1" in document.notes


def test_equal_kernels_of_which_some_were_counted_share_the_mean() -> None:
    built = TraceBuilder()
    for number in range(3):
        launched(built, "aten::relu", [MATRIX], 20 + 100 * number, 15, kernel=RELU)
    sheet = Sheet()
    sheet.kernel(RELU, read=10 * MATRIX_BYTES, written=0)
    sheet.kernel(RELU, read=20 * MATRIX_BYTES, written=0)
    document = analyse(built.reading(), Options(counters=parse_counters(sheet.raw())))
    (only,) = document.kernels
    assert only.calls == 3
    assert only.bytes_read == 15 * MATRIX_BYTES
    assert only.reasons[-1].endswith("(counted in 2 of 3 calls)")


def test_a_kernel_without_a_formula_gets_its_bytes_and_no_flops() -> None:
    built = TraceBuilder()
    launched(built, "mine::op", None, 20, 50, kernel="my_kernel")
    sheet = Sheet()
    sheet.kernel("my_kernel", read=60_000_000, written=40_000_000)
    document = analyse(built.reading(), Options(counters=parse_counters(sheet.raw())))
    (only,) = document.kernels
    assert (only.bytes_read, only.bytes_written, only.flops) == (60_000_000, 40_000_000, None)
    assert only.bound == "memory"
    assert only.reasons[-1] == "counters: 100 MB of DRAM traffic, no formula"
    assert document.coverage.costed_ns == document.coverage.kernel_ns


def test_a_cache_that_served_a_kernel_leaves_its_compulsory_bytes() -> None:
    sheet = Sheet()
    sheet.kernel(GEMM, read=3 * MATRIX_BYTES, written=0)
    sheet.kernel(RELU, read=1000, written=1000, l2=2 * MATRIX_BYTES)
    document = counted(sheet)
    relu = row(document, "aten::relu")
    assert relu.bytes_read == MATRIX_BYTES
    assert relu.cost_source == "formula"
    assert "a cache served them" in relu.reasons[-1]


def test_little_traffic_without_a_word_of_the_cache_is_taken_as_counted() -> None:
    sheet = Sheet()
    sheet.kernel(GEMM, read=3 * MATRIX_BYTES, written=0)
    sheet.kernel(RELU, read=1000, written=1000)
    assert row(counted(sheet), "aten::relu").bytes_read == 1000


def test_a_sum_is_split_as_the_formula_splits_it() -> None:
    sheet = Sheet(units={"dram__bytes.sum": "byte"})
    sheet.kernel(RELU)
    sheet.launches[0].values["dram__bytes.sum"] = str(3 * MATRIX_BYTES)
    relu = row(counted(sheet), "aten::relu")
    assert (relu.bytes_read, relu.bytes_written) == (1.5 * MATRIX_BYTES, 1.5 * MATRIX_BYTES)


def test_counters_without_dram_change_nothing_and_say_so() -> None:
    sheet = Sheet()
    sheet.kernel(GEMM, ns=5)
    document = counted(sheet)
    assert row(document, "aten::mm").cost_source == "formula"
    assert any("none of DRAM traffic" in note for note in document.notes)


def test_a_recording_of_a_cpu_joins_nothing() -> None:
    built = TraceBuilder(device=None)
    built.op("aten::relu", 10, 20, inputs=[MATRIX])
    sheet = Sheet()
    step_counted(sheet)
    document = analyse(built.reading(), Options(counters=parse_counters(sheet.raw())))
    assert "counters: 0 of 0 kernels joined, none of kernel time" in document.notes


def test_steps_are_found_where_only_some_kernels_were_counted() -> None:
    sheet = Sheet()
    for times in (1, 3):
        sheet.kernel(GEMM, read=times * MATRIX_BYTES, written=0)
    document = counted(sheet, steps=2)
    # One product a step, two counted: each step has the same mean, whichever came first.
    assert row(document, "aten::mm").bytes_read == 2 * MATRIX_BYTES
    assert "counters: not counted: relu_kernel x 4" in document.notes


def test_one_process_of_several_is_taken() -> None:
    sheet = Sheet()
    step_counted(sheet)
    sheet.kernel(GEMM, read=1, written=1, process=1)
    joined = join(collect(recording().reading().trace), parse_counters(sheet.raw()))
    assert joined.launches.tolist() == [[0, 1, 2]]


def test_the_command_reads_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Sheet()
    step_counted(sheet)
    trace = recording().write(tmp_path / "trace.json.gz")
    counters = tmp_path / "ncu.csv"
    counters.write_text(sheet.details())
    assert main(["report", str(trace), "--counters", str(counters), "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {each["cost_source"] for each in shown["kernels"]} == {"counter"}


@pytest.mark.parametrize("content", [None, "", "nothing of the kind", "==ERROR== ERR_NVGPUCTRPERM"])
def test_no_counters_are_one_line(content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = recording().write(tmp_path / "trace.json.gz")
    counters = tmp_path / "ncu.csv"
    if content is not None:
        counters.write_text(content)
    assert main(["report", str(trace), "--counters", str(counters)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "ncu.csv" in err
