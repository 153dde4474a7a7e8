"""From a trace to the tables: what a user reads off a report, on traces small enough to work out by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from diagnose.analysis import Options, analyse
from diagnose.errors import UnknownDeviceError
from diagnose.schema import Document, KernelRow
from diagnose.trace.extras import CpuFacts, Extras, encode_extras
from tests.builders import TraceBuilder, launched

H100 = "NVIDIA H100 80GB HBM3"
H100_DRAM_BYTES_PER_S = 3.35e12
"""The datasheet's."""


def report(built: TraceBuilder, **options: Any) -> Document:
    return analyse(built.reading(), Options(**options))


def parts(document: Document, device: str = "cuda:0", step: int | None = None) -> dict[str, int]:
    return {row.part: row.ns for row in document.waterfall if (row.device, row.step) == (device, step)}


def idle(document: Document, device: str = "cuda:0") -> int:
    """Time that no activity owns, whatever its cause."""
    return sum(ns for part, ns in parts(document, device).items() if part.startswith("idle_"))


def only_kernel(document: Document) -> KernelRow:
    (row,) = document.kernels
    return row


# ---- A copy kernel at 90 % of DRAM bandwidth, and the same with its recorded shape doubled


ELEMENTS = 1 << 29
COPY_NS = round(2 * 2 * ELEMENTS / (0.9 * H100_DRAM_BYTES_PER_S) * 1e9)
"""2 bytes read and 2 written an element: 712 us, far beyond L2's 50 MB."""


def copy_kernel(elements: int) -> Document:
    built = TraceBuilder(H100)
    built.step(0, 0, 20)
    tensor = ((elements,), "bfloat16")
    launched(built, "aten::copy_", [tensor, tensor, False], 20, f"{COPY_NS / 1000:.3f}", kernel="copy_kernel")
    return report(built)


def test_a_copy_at_its_roof_is_memory_bound() -> None:
    document = copy_kernel(ELEMENTS)
    row = only_kernel(document)
    assert (row.bytes_read, row.bytes_written, row.flops) == (2 * ELEMENTS, 2 * ELEMENTS, 0)
    assert row.bound == "memory"
    assert "above-roof" not in row.flags
    assert row.achieved_bytes_per_s == pytest.approx(0.9 * H100_DRAM_BYTES_PER_S, rel=1e-5)
    assert row.efficiency == pytest.approx(1, abs=0.05)
    assert row.gap_ns is not None
    assert document.coverage.costed_ns == document.coverage.kernel_ns == COPY_NS
    assert parts(document)["memory_roof"] >= 0.95 * COPY_NS


def test_the_same_copy_with_its_bytes_doubled_is_not_believed() -> None:
    document = copy_kernel(2 * ELEMENTS)
    row = only_kernel(document)
    assert "above-roof" in row.flags
    assert row.bound is None
    assert row.gap_ns is None  # kept out of savings
    assert document.coverage.costed_ns == 0
    (uncosted,) = document.coverage.uncosted
    assert uncosted.ns == COPY_NS
    assert "not believed" in uncosted.reason
    assert parts(document)["uncosted"] == COPY_NS
    assert not {"memory_roof", "memory_above_roof"} & set(parts(document))
    assert document.totals.bytes is None


# ---- Rows


LINEAR = [((1024,), "bfloat16"), ((2048, 512), "bfloat16"), ((512, 1024), "bfloat16", (1, 512)), 1, 1]


def test_a_rows_numbers_follow_from_its_work_and_time() -> None:
    built = TraceBuilder()
    for index in range(3):
        launched(built, "aten::addmm", LINEAR, 20 + 100 * index, 10 + index, kernel="nvjet_tst_128x128")
    document = report(built)
    row = only_kernel(document)
    bytes_accessed = row.bytes_read + row.bytes_written
    assert (row.calls, row.time_ns, row.exposed_ns, row.share) == (3, 33_000, 33_000, 1.0)
    assert row.flops >= 2 * 2048 * 512 * 1024
    assert row.achieved_flops_per_s == pytest.approx(row.flops * 3 / 33e-6)
    assert row.achieved_bytes_per_s == pytest.approx(bytes_accessed * 3 / 33e-6)
    assert row.arithmetic_intensity == pytest.approx(row.flops / bytes_accessed)
    assert row.efficiency == pytest.approx(row.roof_ns / 11_000)
    assert row.gap_ns.high == pytest.approx(33_000 - 3 * row.roof_ns, abs=1)
    assert 0 <= row.gap_ns.low <= row.gap_ns.mid <= row.gap_ns.high
    assert document.totals.flops == 3 * row.flops
    assert document.totals.launches == 3


def test_a_signature_is_shown_as_recorded() -> None:
    built = TraceBuilder()
    launched(built, "aten::addmm", LINEAR, 20, 10)
    signature = only_kernel(report(built)).signature
    assert signature.shapes == [[1024], [2048, 512], [512, 1024], None, None]
    assert signature.dtypes == ["bfloat16"] * 3 + [None, None]
    assert signature.strides == [[1], [512, 1], [1, 512], None, None]
    assert signature.args == [None, None, None, "1", "1"]


def test_rows_are_ranked_by_time_and_told_apart_by_work() -> None:
    built = TraceBuilder()
    for index, (size, dur) in enumerate([(64, 10), (128, 30), (64, 10)]):
        tensor = ((size, size), "bfloat16")
        launched(built, "aten::mm", [tensor, tensor], 50 + 100 * index, dur, kernel="gemm")
    rows = report(built).kernels
    assert [(row.place, row.calls, row.time_ns) for row in rows] == [(1, 1, 30_000), (2, 2, 20_000)]
    assert sum(row.share for row in rows) == pytest.approx(1)


def test_concurrent_kernels_share_the_wall_but_keep_their_time() -> None:
    built = TraceBuilder()
    built.kernel("a", 0, 10, stream=1)
    built.kernel("b", 0, 10, stream=2)
    document = report(built)
    assert [row.time_ns for row in document.kernels] == [10_000, 10_000]
    assert [row.exposed_ns for row in document.kernels] == [5_000, 5_000]
    assert parts(document) == {"uncosted": 10_000}


def test_a_kernel_without_duration() -> None:
    built = TraceBuilder()
    tensor = ((64, 64), "bfloat16")
    launched(built, "aten::mm", [tensor, tensor], 50, 0)
    launched(built, "aten::mm", [tensor, tensor], 80, 5)
    document = report(built)
    assert msgspec.json.encode(document)
    assert sum(row.time_ns for row in document.kernels) == 5_000


# ---- Copies and collectives


@pytest.mark.parametrize(
    ("name", "part", "bound"),
    [
        ("Memcpy HtoD (Pageable -> Device)", "exposed_copy", "communication"),
        ("Memcpy DtoH (Device -> Pinned)", "exposed_copy", "communication"),
        ("Memcpy PtoP (Device -> Device)", "exposed_copy", "communication"),
        ("Memcpy DtoD (Device -> Device)", "memory", "memory"),
    ],
)
def test_which_copies_are_communication(name: str, part: str, bound: str) -> None:
    built = TraceBuilder()
    built.copy(name, 0, 3000, size=100_000_000)
    document = report(built)
    assert only_kernel(document).bound == bound
    owned = {key.removesuffix("_roof").removesuffix("_above") for key in parts(document)}
    assert owned == {part}


def test_a_host_copys_roof_is_the_link_not_the_memory() -> None:
    built = TraceBuilder()
    built.copy("Memcpy HtoD (Pinned -> Device)", 0, 2000, size=100_000_000)
    row = only_kernel(report(built))
    assert row.roof_ns == pytest.approx(100_000_000 / 63e9 * 1e9, rel=0.01)  # PCIe 5 x16, one way


def test_a_memset_is_memory_bound() -> None:
    built = TraceBuilder()
    built.memset(0, 500, size=1_000_000_000)
    row = only_kernel(report(built))
    assert (row.bound, row.bytes_read, row.bytes_written) == ("memory", 0, 1_000_000_000)


def test_a_collective_behind_compute_is_hidden() -> None:
    built = TraceBuilder()
    built.collective(0, 100, elements=1_000_000, correlation=built.launch(-70, 2))
    tensor = ((4096, 4096), "bfloat16")
    launched(built, "aten::mm", [tensor, tensor], 20, 200, kernel="nvjet_tst", launch_at=-50)
    document = report(built)
    assert parts(document)["exposed_communication"] == 20_000
    (collective,) = [row for row in document.kernels if row.kernel.startswith("nccl")]
    assert (collective.time_ns, collective.exposed_ns, collective.bound) == (100_000, 20_000, "communication")


# ---- Steps


def training(steps: int = 3) -> TraceBuilder:
    """Each step: 100 of host, one kernel of 150."""
    built = TraceBuilder()
    for number in range(steps):
        built.step(number, 100 * number, 100)
        tensor = ((2048, 2048), "bfloat16")
        launched(built, "aten::mm", [tensor, tensor], 10 + 150 * number, 150, launch_at=100 * number + 5)
    return built


def test_steps_tile_the_window_and_the_first_is_not_steady() -> None:
    document = report(training())
    window = document.window
    assert [(step.start_ns, step.wall_ns, step.steady) for step in window.steps] == [
        (0, 160_000, False), (160_000, 150_000, True), (310_000, 150_000, True),
    ]  # fmt: skip
    assert window.wall_ns == 460_000


def test_every_waterfall_adds_up_to_its_step() -> None:
    document = report(training())
    for number, step in enumerate(document.window.steps):
        assert sum(parts(document, step=number).values()) == step.wall_ns
    assert sum(parts(document).values()) == document.window.wall_ns
    assert sum(row.exposed_ns for row in document.kernels) + idle(document) == 460_000


def test_carried_over_work_owns_what_own_work_does_not() -> None:
    built = training()
    built.kernel(
        "queued before", -20, 35, correlation=built.launch(-40, 2), stream=9
    )  # 5 of it beside the first kernel
    document = report(built)
    assert parts(document)["carried_over"] == 10_000
    assert document.coverage.out_of_window_ns == 35_000
    assert "queued before" not in {row.kernel for row in document.kernels}


def test_a_step_that_begins_while_earlier_work_still_runs_is_not_steady() -> None:
    built = training()
    built.kernel("queued before", -20, 200, correlation=built.launch(-40, 2), stream=9)
    assert [step.steady for step in report(built).window.steps] == [False, False, True]


def test_one_step_alone() -> None:
    document = report(training(), step=1)
    assert [step.name for step in document.window.steps] == ["ProfilerStep#1"]
    assert document.window.wall_ns == 150_000
    assert only_kernel(document).calls == 1
    assert document.window.steps[0].steady


def test_the_windows_start_is_kept_on_the_recordings_clock() -> None:
    built = training()
    built.op("before the window", -500, 10)
    assert report(built).window.epoch_ns == str(built.epoch_us * 1000)


# ---- Devices


def test_a_known_device() -> None:
    document = report(training())
    (device,) = document.devices
    assert (device.device, device.name, device.kind, device.identified_by) == ("cuda:0", H100, "gpu", "name")
    assert {row.resource for row in document.ceilings} >= {"dram", "tensor.bfloat16", "kernel_floor"}


@pytest.mark.parametrize("name", ["NVIDIA H100", "Imaginary X1", "", "NVIDIA H100 80GB HBM3 extra"])
def test_an_unknown_device_gives_every_result_that_needs_no_ceiling(name: str) -> None:
    built = training()
    built.top["deviceProperties"] = [{"id": 0, "name": name, "computeMajor": 99, "computeMinor": 0, "numSms": 3,
                                      "totalGlobalMem": 12345}]  # fmt: skip
    document = report(built)
    row = only_kernel(document)
    assert (row.bound, row.roof_ns, row.efficiency, row.gap_ns) == (None, None, None, None)
    assert row.flops == 2 * 2048**3
    assert document.devices[0].identified_by is None
    assert any("--device" in note for note in document.notes)
    assert not [each for each in document.ceilings if each.origin != "recording"]


def test_the_user_names_the_device() -> None:
    built = training()
    built.top["deviceProperties"] = []
    document = report(built, device="nvidia  h100 80gb hbm3")
    assert (document.devices[0].name, document.devices[0].identified_by) == (H100, "user")
    assert only_kernel(document).bound == "compute"
    with pytest.raises(UnknownDeviceError, match="Imaginary X1"):
        report(training(), device="Imaginary X1")


def test_a_device_that_the_header_does_not_list_is_what_the_header_lists() -> None:
    built = TraceBuilder()  # the header lists 0
    tensor = ((2048, 2048), "bfloat16")
    launched(built, "aten::mm", [tensor, tensor], 20, 50, device=2)
    document = report(built)
    assert [(row.device, row.name) for row in document.devices] == [("cuda:2", H100)]
    assert any("device 2 is not in the header" in note for note in document.notes)


def test_it_is_not_if_the_header_lists_unlike_devices() -> None:
    built = TraceBuilder()
    built.header("NVIDIA A100-SXM4-80GB", 1)
    built.kernel("k", 0, 10, device=2)
    assert report(built).devices[0].identified_by is None


def test_two_devices_have_a_waterfall_each_of_the_same_length() -> None:
    built = training()
    built.header(H100, 1)
    tensor = ((2048, 2048), "bfloat16")
    launched(built, "aten::mm", [tensor, tensor], 60, 40, device=1)
    document = report(built)
    assert [row.device for row in document.devices] == ["cuda:0", "cuda:1"]
    assert {sum(parts(document, device).values()) for device in ("cuda:0", "cuda:1")} == {document.window.wall_ns}
    assert idle(document, "cuda:1") == document.window.wall_ns - 40_000
    assert {row.device for row in document.kernels} == {"cuda:0", "cuda:1"}


def test_the_rank_is_on_every_row() -> None:
    built = training()
    built.distributed(3, 8)
    document = report(built)
    tables = (document.devices, document.waterfall, document.kernels)
    assert {row.process_rank for table in tables for row in table} == {3}


def test_ceilings_kept_in_the_recording_win() -> None:
    built = training()
    kept = {"device": "cuda:0", "resource": "tensor.bfloat16", "achievable": 1e12, "datasheet": 2e15, "low": None,
            "high": None, "origin": "measured", "source": "this machine"}  # fmt: skip
    built.top["diagnose"] = {"version": 1, "ceilings": [kept]}
    document = report(built)
    (row,) = [row for row in document.ceilings if row.resource == "tensor.bfloat16"]
    assert (row.achievable, row.origin) == (1e12, "measured")
    assert any("kept in the recording" in note for note in document.notes)
    assert document.source.kind == "recording"


# ---- What is missing comes first


def test_no_device_activity_though_a_device_was_used() -> None:
    built = TraceBuilder()
    built.op("aten::mm", 0, 10)
    built.launch(1, 2)
    document = report(built)
    assert "no device activity" in document.notes[0]
    assert document.kernels == []
    assert document.verdict.bound is None
    assert document.window.wall_ns == 10_000


def test_no_shapes() -> None:
    built = TraceBuilder()
    launched(built, "aten::mm", None, 20, 10)
    document = report(built)
    assert "shapes were not recorded" in document.notes[0]
    assert only_kernel(document).flops is None


def test_unknown_work_is_none_never_zero() -> None:
    built = TraceBuilder()
    launched(built, "nobody::knows", [1.5], 20, 10)
    document = report(built)
    row = only_kernel(document)
    assert (row.flops, row.bytes_read, row.bytes_written, row.efficiency, row.cost_source) == (None,) * 5
    assert (document.totals.flops, document.totals.bytes, document.totals.mfu) == (None, None, None)
    assert [each.reason for each in document.coverage.uncosted] == ["no formula for this op"]


def test_a_bound_is_no_cost_and_owns_no_part_of_a_roof() -> None:
    built = TraceBuilder()
    launched(built, "nobody::knows", [((1 << 20,), "float32")], 20, 10)
    document = report(built)
    assert (document.coverage.costed_ns, document.coverage.bounded_ns) == (0, 10_000)
    assert parts(document)["uncosted"] == 10_000
    row = only_kernel(document)
    assert "bounded" in row.flags
    assert any("no formula for this op" in reason for reason in row.reasons)
    assert document.verdict.bound == "overhead"  # the late launch alone: no verdict rests on a bound


def test_a_bound_with_known_flops_owns_no_part_of_a_roof_either() -> None:
    """GIVEN packed attention, whose lengths lie in a tensor WHEN it took long THEN its time has no kind."""
    packed, lengths = ((4096, 16, 64), "bfloat16"), ((5,), "int32")
    inputs = [packed, packed, packed, lengths, lengths, 2048, 2048, 0.0, False, False, None, None, None, None, None]
    built = TraceBuilder()
    launched(built, "aten::_flash_attention_forward", inputs, 20, 1000, kernel="flash_fwd_kernel")
    document = report(built, device=H100)
    row = only_kernel(document)
    assert "bounded" in row.flags
    assert row.flops
    assert parts(document)["uncosted"] == 1_000_000
    assert not {"compute_roof", "memory_roof"} & parts(document).keys()


def test_mfu_counts_each_unit_against_its_own_peak() -> None:
    """GIVEN a gelu, whose exp and arithmetic run on two units THEN the arithmetic is not held against exp's peak."""
    built = TraceBuilder()
    elements = 1 << 24
    launched(built, "aten::gelu", [((elements,), "bfloat16"), None], 20, 1000)
    document = report(built, device="NVIDIA H100 80GB HBM3")
    peaks = {row.resource: row.datasheet for row in document.ceilings}
    row = only_kernel(document)
    assert row.math == "special"
    assert row.flops > elements
    expected = elements / peaks["special"] / (document.window.wall_ns / 1e9)
    assert document.totals.mfu == pytest.approx(expected)


def test_the_recorded_gap_is_between_kernels_with_nothing_between_them() -> None:
    """GIVEN 120 queued kernels, a memset after every second one WHEN gaps are 1 us THEN so is the recording's gap."""
    built = TraceBuilder(H100)
    built.step(0, 0, 2000)
    at = 1000.0
    for index in range(120):
        host = 2 + 6 * index
        built.kernel("small", at, 2, correlation=built.launch(host, 1))
        if index % 2:  # two tenths of a us before and after it
            built.memset(at + 2.2, 4, size=4, correlation=built.launch(host + 3, 1, name="cudaMemsetAsync"))
        at += 6.4 if index % 2 else 3
    (gap,) = [row for row in report(built).ceilings if row.resource == "kernel_gap"]
    assert (gap.achievable, gap.origin) == (pytest.approx(1e-6), "recording")


def test_mfu_of_two_devices_is_the_share_of_both_peaks() -> None:
    def mfu(devices: int) -> float:
        built = TraceBuilder(H100)
        built.step(0, 0, 200)
        for device in range(devices):
            if device:
                built.header(H100, device)
            launched(built, "aten::mm", [((2048, 2048), "bfloat16")] * 2, 20 + 20 * device, 100, device=device)
        found = report(built).totals.mfu
        assert found is not None
        return found

    assert mfu(2) == pytest.approx(mfu(1))


def test_the_gap_to_the_familys_best_is_not_measured_from_a_bound() -> None:
    """GIVEN two lengths of dense attention and a packed one, whose work is a bound THEN only the dense ones compare."""
    packed, lengths = ((4096, 16, 64), "bfloat16"), ((5,), "int32")
    built = TraceBuilder(H100)
    for index, (tokens, took) in enumerate(((2048, 200), (1024, 100))):
        dense = ((4, tokens, 16, 64), "bfloat16")
        inputs = [dense, dense, dense, None, None, tokens, tokens, 0.0, False, False, None, None, None, None, None]
        launched(built, "aten::_flash_attention_forward", inputs, 20 + 500 * index, took, kernel="flash_fwd_kernel")
    before = {row.time_ns: row.gap_ns for row in report(built).kernels}
    inputs = [packed, packed, packed, lengths, lengths, 2048, 2048, 0.0, False, False, None, None, None, None, None]
    launched(built, "aten::_flash_attention_forward", inputs, 1100, 45, kernel="flash_fwd_kernel")
    rows = report(built).kernels
    (bound,) = [row for row in rows if "bounded" in row.flags]
    assert bound.efficiency is not None
    assert bound.efficiency > max(row.efficiency or 0 for row in rows if row is not bound)
    assert {row.time_ns: row.gap_ns for row in rows if row is not bound} == before


def test_totals_that_leave_kernels_out_say_so() -> None:
    built = TraceBuilder()
    launched(built, "aten::mm", [((512, 512), "bfloat16")] * 2, 20, 30)
    launched(built, "nobody::knows", [1.5], 100, 70, kernel="mystery")
    noted = [note for note in report(built).notes if "lower bound" in note]
    assert len(noted) == 1
    assert "70 %" in noted[0]
    whole = TraceBuilder()
    launched(whole, "aten::mm", [((512, 512), "bfloat16")] * 2, 20, 30)
    assert not [note for note in report(whole).notes if "lower bound" in note]


def test_a_lower_bound_has_no_efficiency() -> None:
    """GIVEN an op of which only the inputs are known THEN how near its kernel is to its roof is unknown, not low."""
    built = TraceBuilder()
    launched(built, "mylib::attend", [((1024, 1024), "bfloat16")] * 2, 20, 100)
    row = only_kernel(report(built, device="NVIDIA H100 80GB HBM3"))
    assert "bounded" in row.flags
    assert row.efficiency is None
    assert row.bytes_read is not None


def test_equal_calls_whose_kernels_have_no_grid_make_one_row_a_kernel() -> None:
    """GIVEN two kernels an op that share its work by time, and times that jitter THEN the rows are not torn apart."""
    built = TraceBuilder()
    for index in range(6):
        built.op("mylib::attend", 100 * index, 20, inputs=[((64, 64), "bfloat16")] * 2)
        for offset, kernel, took in ((0, "attend", 40 + index), (50, "reduce", 9 + index % 3)):
            correlation = built.launch(100 * index + 2 + offset / 10, 1)
            built.kernel(kernel, 1000 + 100 * index + offset, took, correlation=correlation, grid=None)
    document = report(built)
    assert sorted((row.kernel, row.calls) for row in document.kernels) == [("attend", 6), ("reduce", 6)]
    moved = {row.kernel: row.bytes_read for row in document.kernels}
    assert sum(moved.values()) == 2 * 64 * 64 * 2
    assert moved["attend"] > 3 * moved["reduce"]


def test_a_total_of_flops_is_unknown_where_only_copies_are_known() -> None:
    built = TraceBuilder()
    launched(built, "aten::mm", None, 20, 10)
    built.copy("Memcpy DtoD (Device -> Device)", 40, 10, size=1024)
    assert report(built).totals.flops is None


def test_a_trace_with_only_annotations() -> None:
    built = TraceBuilder(device=None)
    built.annotation("mine", 0, 10)
    document = report(built)
    assert document.notes[0].startswith("the recording has neither device activity nor ops")
    assert document.kernels == []


# ---- The CPU


def on_cpu() -> TraceBuilder:
    built = TraceBuilder(device=None)
    tensor = ((512, 512), "float32")
    built.op("aten::linear", 0, 1000, inputs=[tensor, tensor, None])
    built.op("aten::mm", 100, 800, inputs=[tensor, tensor])
    return built


def test_a_foreign_cpu_recording_has_ops_but_no_ceilings() -> None:
    document = report(on_cpu())
    assert "no device activity" in document.notes[0]
    assert [(row.device, row.kind) for row in document.devices] == [("cpu", "cpu")]
    top = document.kernels[0]
    assert (top.kernel, top.op, top.time_ns, top.flops) == ("aten::mm", "aten::mm", 800_000, 2 * 512**3)
    assert document.ceilings == []
    assert top.efficiency is None
    assert sum(parts(document, "cpu").values()) == document.window.wall_ns == 1_000_000


def test_our_own_cpu_recording_has_ceilings() -> None:
    built = on_cpu()
    extras = Extras(cpu=CpuFacts(model="Some CPU", threads=2))
    built.top["diagnose"] = msgspec.json.decode(encode_extras(extras)) | {
        "ceilings": [
            {"device": "cpu", "resource": resource, "achievable": rate, "datasheet": None, "low": None, "high": None,
             "origin": "measured", "source": "measured"}
            for resource, rate in (("tensor.float32", 1e12), ("dram", 1e10), ("kernel_floor", 1e-6))
        ]
    }  # fmt: skip
    document = report(built)
    assert document.devices[0].name == "Some CPU"
    # t_c = 268 us at 1e12 FLOP/s, t_m = 3 MiB / 1e10 B/s = 315 us: memory, at 39 % of 800 us.
    top = document.kernels[0]
    assert top.bound == "memory"
    assert top.roof_ns == pytest.approx(3 * 512 * 512 * 4 / 1e10 * 1e9)
    assert parts(document, "cpu")["small_kernels"] == 200_000  # the wrapper's own time
