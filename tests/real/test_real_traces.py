"""Sixteen recordings by others, of five kinds of device: every one is read, adds up, and keeps its times exactly."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from diagnose.cli import main
from diagnose.trace.chrome import read_trace
from diagnose.trace.numbers import nanoseconds
from diagnose.trace.tables import Trace

SCHEMA = json.loads((Path(__file__).parents[2] / "diagnose" / "report.schema.json").read_text())

WITHOUT_DEVICE_ACTIVITY = {"a100_cupti_counters", "cpu_only_no_device", "mtia_inference_rank0"}

ROUNDED_BY_NS = 250
"""The step of the coarsest starts (v100_resnet): an op may seem to outlive its parent, or begin in the one before."""

COLUMNS = {
    "ops": {"cpu_op"},
    "calls": {"cuda_runtime", "cuda_driver", "mtia_runtime", "mtia_driver"},
    "activities": {"kernel", "gpu_memcpy", "gpu_memset"},
    "annotations": {"user_annotation"},
    "overheads": {"overhead"},
}


def name_of(path: Path) -> str:
    return path.name.removesuffix(".json.gz")


@cache
def reported(path: Path) -> tuple[int, dict[str, Any]]:
    """Exit status and report of ``diagnose report PATH --format json``."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(["report", str(path), "--format", "json"])
    return status, json.loads(out.getvalue())


def report_of(path: Path) -> dict[str, Any]:
    return reported(path)[1]


def test_the_report_is_readable_and_fits_the_schema(real_trace: Path) -> None:
    status, document = reported(real_trace)
    assert status == 0
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


def test_every_waterfall_sums_to_its_wall_time(real_trace: Path) -> None:
    document = report_of(real_trace)
    walls = {None: document["window"]["wall_ns"]}
    walls |= {index: step["wall_ns"] for index, step in enumerate(document["window"]["steps"])}
    sums: dict[tuple[str, int | None], int] = {}
    for row in document["waterfall"]:
        key = row["device"], row["step"]
        sums[key] = sums.get(key, 0) + row["ns"]
        assert row["ns"] >= 0
    assert {key: walls[key[1]] for key in sums} == sums
    # A step of no length has no rows; every other one has.
    devices = {row["device"] for row in document["kernels"]}
    assert set(sums) >= {(device, step) for device in devices for step, wall in walls.items() if wall}


def test_steps_tile_the_window(real_trace: Path) -> None:
    window = report_of(real_trace)["window"]
    ends = [step["start_ns"] + step["wall_ns"] for step in window["steps"]]
    assert [0, *ends[:-1]] == [step["start_ns"] for step in window["steps"]]
    assert ends[-1] == window["wall_ns"]


def test_tables_agree_with_each_other(real_trace: Path) -> None:
    document = report_of(real_trace)
    kernels, coverage = document["kernels"], document["coverage"]
    assert sum(row["time_ns"] for row in kernels) == coverage["kernel_ns"]
    uncosted = sum(row["ns"] for row in coverage["uncosted"])
    assert coverage["costed_ns"] + coverage["bounded_ns"] + uncosted == coverage["kernel_ns"]
    assert sum(coverage["by_source"].values()) == coverage["costed_ns"] + coverage["bounded_ns"]
    assert [row["place"] for row in kernels] == list(range(1, len(kernels) + 1))
    assert all(a["time_ns"] >= b["time_ns"] for a, b in pairwise(kernels))
    for row in kernels:
        assert row["exposed_ns"] <= document["window"]["wall_ns"]
        assert sum(place["time_ns"] for place in row["places"]) == row["time_ns"]
    idle = {part["part"] for part in document["waterfall"] if part["part"].startswith("idle")} | {"carried_over"}
    whole = [row for row in document["waterfall"] if row["step"] is None and row["part"] not in idle]
    assert sum(row["exposed_ns"] for row in kernels) == sum(row["ns"] for row in whole)


def test_work_above_the_roof_is_rare(real_trace: Path) -> None:
    document = report_of(real_trace)
    above = sum(row["time_ns"] for row in document["kernels"] if "above-roof" in row["flags"])
    assert above <= 0.005 * document["coverage"]["kernel_ns"]
    assert all(row["gap_ns"] is None for row in document["kernels"] if "above-roof" in row["flags"])


def test_missing_device_activity_is_the_first_note(real_trace: Path) -> None:
    document = report_of(real_trace)
    is_missing = name_of(real_trace) in WITHOUT_DEVICE_ACTIVITY
    assert ("no device activity" in " ".join(document["notes"][:1])) == is_missing
    if is_missing:
        assert not [row for row in document["devices"] if row["kind"] != "cpu"]


def test_device_time_is_linked_to_its_ops(real_trace: Path) -> None:
    name, coverage = name_of(real_trace), report_of(real_trace)["coverage"]
    if name in WITHOUT_DEVICE_ACTIVITY:
        pytest.skip("nothing to link")
    if name.endswith("graph_replay"):
        assert coverage["linked_ns"] < 0.05 * coverage["kernel_ns"]  # a replayed graph has lost its ops
    else:
        assert coverage["linked_ns"] >= 0.998 * coverage["kernel_ns"]


@pytest.mark.parametrize("name", ["h100_vit_bf16_b4", "h100_bert_small_b1", "h100_qwen_0.5b_prefill_b16"])
def test_in_window_kernel_time_has_work(name: str, trace_path: Callable[[str], Path]) -> None:
    coverage = report_of(trace_path(name))["coverage"]
    assert coverage["costed_ns"] >= 0.995 * coverage["kernel_ns"] > 0


def test_what_was_launched_before_the_window_is_set_apart(trace_path: Callable[[str], Path]) -> None:
    coverage = report_of(trace_path("h100_qwen_0.5b_prefill_b16"))["coverage"]
    total = coverage["out_of_window_ns"] + coverage["kernel_ns"]
    assert coverage["out_of_window_ns"] / total == pytest.approx(0.30, abs=0.01)


@pytest.mark.parametrize(
    ("name", "steps_ms"),
    [
        ("v100_resnet_ddp_rank0", [101.2, 95.7, 95.6, 95.7, 95.4]),
        ("mi300x_resnet_train_checkpoint", [49.1, 19.0, 18.6]),
    ],
)
def test_steps_last_from_completion_to_completion(
    name: str, steps_ms: list[float], trace_path: Callable[[str], Path]
) -> None:
    steps = report_of(trace_path(name))["window"]["steps"]
    assert [step["wall_ns"] / 1e6 for step in steps] == pytest.approx(steps_ms, abs=0.05)
    assert [step["steady"] for step in steps] == [False] + [True] * (len(steps) - 1)


# ---- Times


def as_text(path: Path) -> list[dict[str, Any]]:
    """The complete events, numbers as the text that the file holds."""
    events = json.loads(gzip.decompress(path.read_bytes()), parse_float=str, parse_int=str, strict=False)["traceEvents"]
    return [event for event in events if event.get("ph") == "X"]


def exact_ns(text: str) -> int:
    return int(Decimal(text) * 1000)


def columns_of(trace: Trace, table: str) -> list[tuple[int, int]]:
    rows = getattr(trace, table)
    return list(zip((rows.start + trace.epoch_ns).tolist(), (rows.end + trace.epoch_ns).tolist(), strict=True))


def test_every_time_equals_decimals(real_trace: Path) -> None:
    events = as_text(real_trace)
    start_text, dur_text = [event["ts"] for event in events], [event["dur"] for event in events]
    starts, durations = list(map(exact_ns, start_text)), list(map(exact_ns, dur_text))
    for texts, exact in ((start_text, starts), (dur_text, durations)):
        values, valid = nanoseconds([text.encode() for text in texts])
        assert valid.all()
        assert values.tolist() == exact

    trace = read_trace(real_trace).trace
    assert not [note for note in trace.notes if "left out" in note]
    for table, categories in COLUMNS.items():
        rows = [row for row, event in enumerate(events) if event.get("cat") in categories]
        rows.sort(key=starts.__getitem__)
        found = columns_of(trace, table)
        assert [start for start, _ in found] == [starts[row] for row in rows]
        cut = np.array([starts[row] + durations[row] - end for row, (_, end) in zip(rows, found, strict=True)])
        if table == "ops":  # an end is cut to the enclosing op's, or to the next one's start
            assert ((cut >= 0) & (cut <= ROUNDED_BY_NS)).all()
        else:
            assert not cut.any()
