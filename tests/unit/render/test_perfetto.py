"""The recording for Perfetto: nothing recorded is changed, what is added is the report's, and the format holds."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from builders import TraceBuilder, launched

from diagnose.cli import main
from diagnose.errors import TraceError
from diagnose.reading import read
from diagnose.render.perfetto import to_perfetto
from diagnose.trace.rewrite import FIRST_PROCESS
from diagnose.trace.source import read_bytes

REAL = ("h100_vit_bf16_b4", "b200_vllm_moe_tp8_rank0", "mi300x_vllm_decode_graph_replay", "cpu_only_no_device")


def exact(content: bytes) -> dict[str, Any]:
    """The document with every number as its text, so that a changed digit is seen."""
    parsed: dict[str, Any] = json.loads(content, parse_float=str, parse_int=str)
    return parsed


def without_added(event: dict[str, Any]) -> dict[str, Any]:
    if "diagnose" not in event.get("args", {}):
        return event
    return {**event, "args": {key: value for key, value in event["args"].items() if key != "diagnose"}}


def parts_of(content: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The recorded events and ours, with numbers as numbers."""
    events = json.loads(content)["traceEvents"]
    ours = [event for event in events if isinstance(event["pid"], int) and event["pid"] >= FIRST_PROCESS]
    return [event for event in events if event not in ours], ours


def matmul_and_add() -> TraceBuilder:
    """Two kernels on two streams that overlap, in two steps, with a pause between."""
    trace = TraceBuilder()
    matrix, row = ((2048, 2048), "bfloat16"), ((2048, 2048), "float32")
    for step in (0, 1):
        at = 1000 * step
        trace.step(step, at, 990)
        launched(trace, "aten::mm", [matrix, matrix], at + 100, 60, kernel="nvjet_gemm")
        launched(trace, "aten::add", [row, row, 1], at + 130, "40.125", kernel="vectorized_add", stream=9)
    return trace


@pytest.mark.parametrize("name", REAL)
def test_every_recorded_field_is_as_it_was(trace_path, name: str) -> None:
    content = read_bytes(trace_path(name))

    before, after = exact(content), exact(to_perfetto(content, name))

    count = len(before["traceEvents"])
    assert [without_added(event) for event in after["traceEvents"][:count]] == before["traceEvents"]
    assert {**after, "traceEvents": None} == {**before, "traceEvents": None}


@pytest.mark.parametrize("name", REAL)
def test_added_events_keep_the_trace_event_format(trace_path, name: str) -> None:
    content = read_bytes(trace_path(name))
    recorded, ours = parts_of(to_perfetto(content, name))

    needed = {"M": {"name", "args"}, "C": {"name", "ts", "args"}, "X": {"name", "ts", "dur", "cat"}}
    for event in ours:
        assert event["ph"] in needed
        assert needed[event["ph"]] | {"pid", "tid"} <= event.keys()
        assert event["ph"] != "C" or all(isinstance(value, int | float) for value in event["args"].values())
        assert event.get("dur", 0) >= 0
    assert not {event["pid"] for event in ours} & {event["pid"] for event in recorded}


@pytest.mark.parametrize("name", REAL)
def test_report_of_the_written_trace_has_the_same_kernels(trace_path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "again.json"
    path.write_bytes(to_perfetto(read_bytes(trace_path(name)), name))

    assert read(path).kernels == read(trace_path(name)).kernels


def test_kernels_carry_what_the_report_says_of_them() -> None:
    trace = matmul_and_add()
    rows = {row.kernel: row for row in read(_file(trace)).kernels}

    recorded, _ = parts_of(to_perfetto(trace.bytes(), None))

    kernels = [event for event in recorded if event["cat"] == "kernel"]
    assert len(kernels) == 4
    for event in kernels:
        added, row = event["args"]["diagnose"], rows[event["name"]]
        assert (added["bound"], added["flops"], added["bytes_read"], added["bytes_written"], added["roof_ns"]) == (
            row.bound, row.flops, row.bytes_read, row.bytes_written, row.roof_ns,
        )  # fmt: skip
        duration_ns = row.time_ns / row.calls
        assert added["efficiency"] == pytest.approx(row.efficiency, abs=1e-4)
        assert added["recoverable_ns"] == pytest.approx(duration_ns - row.roof_ns, abs=1)


def test_area_under_the_rates_is_the_work() -> None:
    """Derived twice: the counters summed over time, and the report's work of each kernel."""
    trace = matmul_and_add()
    rows = read(_file(trace)).kernels

    _, ours = parts_of(to_perfetto(trace.bytes(), None))

    samples = [event for event in ours if event["ph"] == "C" and event["name"] == "achieved"]
    for series, expected in (
        ("FLOP/s", sum(row.flops * row.calls for row in rows)),
        ("bytes/s", sum((row.bytes_read + row.bytes_written) * row.calls for row in rows)),
    ):
        area = sum(now["args"][series] * (then["ts"] - now["ts"]) / 1e6 for now, then in pairwise(samples))
        assert area == pytest.approx(expected, rel=0.01)  # json reads ts as doubles: a quarter of a microsecond
    assert samples[-1]["args"] == {"FLOP/s": 0, "bytes/s": 0}


def test_waterfall_track_adds_up_to_each_step_and_idle_slices_to_its_idle_time() -> None:
    trace = matmul_and_add()
    report = read(_file(trace))

    _, ours = parts_of(to_perfetto(trace.bytes(), None))

    steps = [event["args"] for event in ours if event["ph"] == "C" and event["name"].startswith("waterfall")]
    assert [sum(step.values()) for step in steps] == pytest.approx(
        [*(step.wall_ns / 1e6 for step in report.window.steps), 0]
    )
    idle_ns = sum(row.ns for row in report.waterfall if row.step is None and row.part.startswith("idle_"))
    slices = [event for event in ours if event["ph"] == "X"]
    assert sum(sum(event["args"].values()) for event in slices) == idle_ns
    assert {event["name"] for event in slices} <= {"idle: launching", "idle: unexplained", "idle: between kernels"}


def test_writing_twice_replaces_what_was_added() -> None:
    once = to_perfetto(matmul_and_add().bytes(), None)

    kernels = [event for event in parts_of(to_perfetto(once, None))[0] if event["cat"] == "kernel"]

    assert kernels == [event for event in parts_of(once)[0] if event["cat"] == "kernel"]


def test_a_file_that_needed_mending_is_not_written_back() -> None:
    trace = matmul_and_add()
    trace.events[-1]["args"]["odd"] = "MARK"

    with pytest.raises(TraceError, match="cannot be written back unchanged"):
        to_perfetto(trace.bytes().replace(b'"MARK"', b"nan"), "odd.json")


def test_command_writes_it_compressed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = matmul_and_add().write(tmp_path / "trace.json")

    assert main(["report", str(path), "--perfetto", str(tmp_path / "out.json.gz")]) == 0

    assert "out.json.gz" in capsys.readouterr().err
    assert gzip.decompress((tmp_path / "out.json.gz").read_bytes()) == to_perfetto(path.read_bytes(), None)


def _file(trace: TraceBuilder) -> Any:
    import io

    return io.BytesIO(trace.bytes())
