"""Idle time and synchronisations as rows: from which op and line, how often, and that nothing is lost."""

from __future__ import annotations

import numpy as np

from diagnose.analysis import analyse
from diagnose.places.places import Places
from diagnose.schema import Document
from diagnose.trace.extras import CodePlace
from diagnose.wall.idle_table import idle_rows
from diagnose.wall.timeline import Timeline
from tests.builders import TraceBuilder, launched


def two_items() -> TraceBuilder:
    """``.item()`` twice, each time with a late launch after it."""
    trace = TraceBuilder()
    for number in range(2):
        at = 200 * number
        launched(trace, "aten::mm", None, at + 20, 30, launch_at=at + 2, kernel="gemm")
        trace.op("aten::_local_scalar_dense", at + 10, 50)
        trace.launch(at + 12, 45, name="cudaStreamSynchronize")
    return trace


def test_idle_time_is_named_after_the_op_that_synchronised_or_launched() -> None:
    rows = [(row.part, row.op, row.call, row.count, row.ns) for row in analyse(two_items().reading()).idle]
    # The recording begins at 1 and ends at 260. From 50, when the first kernel ended, to 202, when the second was
    # launched, and from 250 to the end; 2 to 5 and 202 to 205 are the launches themselves.
    assert ("idle_sync", "aten::_local_scalar_dense", "cudaStreamSynchronize", 2, 152_000 + 10_000) in rows
    assert ("idle_launch", "aten::mm", "cudaLaunchKernel", 2, 1000 + 2 * 3000) in rows


def test_a_synchronisation_says_what_it_waited_for_and_what_it_cost() -> None:
    (row,) = analyse(two_items().reading()).synchronizations
    assert (row.call, row.op) == ("cudaStreamSynchronize", "aten::_local_scalar_dense")
    assert (row.awaited, row.awaited_op) == ("gemm", "aten::mm")
    assert (row.count, row.ns, row.idle_ns) == (2, 90_000, 162_000)


def test_a_synchronisation_that_costs_no_device_time_is_listed_and_costs_nothing() -> None:
    """The host waits while the device works through its queue."""
    trace = TraceBuilder()
    launched(trace, "aten::mm", None, 20, 100, launch_at=2)
    launched(trace, "aten::mm", None, 120, 100, launch_at=10)
    trace.launch(30, 60, name="cudaDeviceSynchronize")
    (row,) = analyse(trace.reading()).synchronizations
    assert (row.op, row.ns, row.idle_ns) == (None, 60_000, 0)


def test_calls_outside_the_window_are_not_listed() -> None:
    trace = TraceBuilder()
    trace.launch(0, 10, name="cudaDeviceSynchronize")
    trace.step(0, 50, 50)
    launched(trace, "aten::mm", None, 70, 10, launch_at=60)
    assert analyse(trace.reading()).synchronizations == []


def test_the_place_is_told_where_it_is_known() -> None:
    trace = two_items()
    document = analyse(trace.reading())
    seen: dict[str, object] = {}
    analyse(trace.reading(), observe=lambda placed, lines: seen.update(placed=placed, timelines=lines))
    placed, timelines = seen["placed"], seen["timelines"]
    ops = placed.recording.trace.ops
    places = Places(np.arange(len(ops.name)) % 2, (CodePlace("model.head", "train.py:7"), CodePlace(None, "eval.py:9")))
    rows = idle_rows(placed.recording, timelines, placed.hardware, places)
    assert {(row.module, row.line) for row in rows if row.op == "aten::mm"} <= {
        ("model.head", "train.py:7"), (None, "eval.py:9"),
    }  # fmt: skip
    assert sum(row.ns for row in rows) == sum(row.ns for row in document.idle)
    plain = idle_rows(placed.recording, timelines, placed.hardware)
    assert all(row.line is None and row.module is None for row in plain)


def sums(document: Document) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """Idle time by device and part: from the waterfall, and from the rows."""
    whole, rows = {}, {}
    for row in document.waterfall:
        if row.step is None and row.part.startswith("idle"):
            whole[row.device, row.part] = row.ns
    for row in document.idle:
        rows[row.device, row.part] = rows.get((row.device, row.part), 0) + row.ns
    return whole, rows


def test_the_rows_of_a_part_sum_to_it() -> None:
    trace = two_items()
    launched(trace, "aten::add", None, 100, 5, device=1)
    trace.kernel("orphan", 300, 10, device=1)
    whole, rows = sums(analyse(trace.reading()))
    assert whole == rows
    assert len(whole) > 3


def test_a_cpus_idle_time_is_named_after_the_op_that_ran_next() -> None:
    trace = TraceBuilder(device=None)
    trace.op("aten::mm", 0, 10)
    trace.annotation("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 15, 50)
    trace.op("aten::mm", 70, 10)
    document = analyse(trace.reading())
    assert {(row.part, row.op, row.call, row.ns) for row in document.idle} == {
        ("idle_data", "aten::mm", None, 50_000), ("idle_launch", "aten::mm", None, 10_000),
    }  # fmt: skip
    assert document.synchronizations == []


def test_a_timeline_says_all_that_the_table_needs() -> None:
    assert set(Timeline.__struct_fields__) >= {"gaps", "cells", "annotations"}
