"""Traces cut for keeping: only known header keys, no folders, exact times, small; what stays reads the same."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.gpu.cut import LIMIT_BYTES, TooLargeError, cut
from diagnose.analysis import analyse
from diagnose.trace.chrome import parse_trace
from tests.builders import TraceBuilder, launched

MATRIX = ((2048, 2048), "bfloat16")


def built(steps: int = 3) -> TraceBuilder:
    trace = TraceBuilder()
    for number in range(steps):
        at = 200 * number
        trace.step(number, at, 150)
        launched(trace, "aten::mm", [MATRIX, MATRIX], f"{at + 20}.123", "60.001", kernel="nvjet_tst_64x8")
        # The device runs behind: this kernel runs after the next step's mark, and is still of its own step.
        launched(trace, "aten::relu", [MATRIX], at + 210, 15, kernel="relu_kernel", launch_at=at + 100)
    return trace


def unpacked(packed: bytes) -> dict:
    return json.loads(gzip.decompress(packed))


def test_what_is_not_on_the_list_goes() -> None:
    trace = built()
    trace.top["environment"] = {"TOKEN": "secret"}
    trace.top["hostname"] = "secret-host"
    trace.event("python_function", "/home/secret/train.py(3): main", 1, 5)
    trace.annotation("/home/secret/work/train.py: epoch", 2, 3)
    trace.op("mine::load", 3, 2, path="/home/secret/data/x.bin")
    packed = cut(trace.bytes())
    assert b"secret" not in gzip.decompress(packed)
    kept = unpacked(packed)
    assert set(kept) == {"schemaVersion", "deviceProperties", "record_shapes", "traceEvents"}
    assert any(event["name"] == "train.py: epoch" for event in kept["traceEvents"])


def test_a_cut_trace_gives_the_same_report() -> None:
    whole, less = (
        analyse(parse_trace(content, "t")) for content in (built().bytes(), gzip.decompress(cut(built().bytes())))
    )
    assert whole.kernels == less.kernels
    assert whole.waterfall == less.waterfall
    assert whole.window == less.window


def test_times_keep_their_text() -> None:
    text = gzip.decompress(cut(built().bytes())).decode()
    assert '"ts":1712195495519020.123' in text
    assert '"dur":60.001' in text


def test_too_large_a_trace_loses_whole_steps_from_its_end() -> None:
    all_of_it = cut(built(40).bytes())
    packed = cut(built(40).bytes(), len(all_of_it) // 2)
    assert len(packed) <= len(all_of_it) // 2
    document = analyse(parse_trace(gzip.decompress(packed), "t"))
    steps = len(document.window.steps)
    assert 1 < steps < 40
    # No kernel of a kept step is lost, none of another step is left.
    assert sum(row.calls for row in document.kernels) == 2 * steps


def test_one_step_that_is_too_large_is_said() -> None:
    with pytest.raises(TooLargeError, match="one step is"):
        cut(built(1).bytes(), 100)


def test_text_that_looks_like_a_marked_number_stays_text() -> None:
    trace = built()
    trace.annotation("\0true\0", 2, 3)
    names = [event["name"] for event in unpacked(cut(trace.bytes()))["traceEvents"]]
    assert "\0true\0" in names


def test_a_real_trace_fits(trace_path) -> None:
    path: Path = trace_path("h100_bert_small_b1")
    packed = cut(path.read_bytes())
    assert len(packed) <= LIMIT_BYTES
    whole, less = (
        analyse(parse_trace(content, "t")) for content in (gzip.decompress(path.read_bytes()), gzip.decompress(packed))
    )
    assert [(row.kernel, row.calls, row.time_ns, row.flops) for row in whole.kernels] == [
        (row.kernel, row.calls, row.time_ns, row.flops) for row in less.kernels
    ]
