"""Communication and ranks on recordings that others made."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

import diagnose

TracePath = Callable[[str], Path]


def only(report: diagnose.Report, kind: str) -> object:
    (row,) = [row for row in report.document.communication if row.collective == kind]
    return row


def test_ddp_shows_its_all_reduce_exposed_and_overlapped(trace_path: TracePath) -> None:
    row = only(diagnose.read(trace_path("a100_resnet_ddp_rank0")), "all_reduce")
    assert (row.calls, row.group, row.group_size) == (15, "0", 2)
    assert row.exposed_ns > 0
    assert row.overlapped_ns > 0
    # By hand from the header's metadata: fp32 gradients of a ResNet-50, 25.6 million of them, in three steps.
    assert row.bytes == pytest.approx(3 * 4 * 25.557e6, rel=0.01)
    assert 0 < row.efficiency < 0.1


def test_tensor_parallel_decode_has_its_74_collectives(trace_path: TracePath) -> None:
    rows = diagnose.read(trace_path("b200_vllm_moe_tp8_rank0")).document.communication
    collectives = [row for row in rows if row.memory is None]
    assert sum(row.calls for row in collectives) == 74
    assert sum(row.time_ns for row in collectives) == pytest.approx(2.1e6, rel=0.03)


def test_two_sampled_ranks_of_a_large_job_are_joined(trace_path: TracePath) -> None:
    paths = [trace_path(f"a100_ranks_sampled_rank{rank}") for rank in (0, 1)]
    report = diagnose.read_ranks(paths)
    assert report.document.world_size == 128
    assert [row.rank for row in report.table] == [0, 1]
    # Both files dropped collectives: five of each ten have a partner, and those end together within half a millisecond.
    assert len(report.collectives) == 5
    for row in report.collectives:
        ends = [start + wait + move for start, wait, move in zip(row.start_ns, row.wait_ns, row.move_ns, strict=True)]
        assert max(ends) - min(ends) < 500_000
        assert not row.is_complete
        assert all(low <= high for low, high in zip(row.wait_ns, row.wait_high_ns, strict=True))
    assert any("126 of 128 ranks are missing" in note for note in report.notes)
    assert "at least" in report.verdict


def test_exposed_time_is_what_a_sweep_over_the_raw_events_finds(trace_path: TracePath) -> None:
    """By the file's own text alone: a collective's nanoseconds that no other kernel, set or device copy covers."""
    path = trace_path("a100_resnet_ddp_rank0")
    events = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)["traceEvents"]
    busy, collectives = [], []
    for event in events:
        if event.get("cat") not in ("kernel", "gpu_memset", "gpu_memcpy") or "HtoD" in event["name"]:
            continue
        start = int(Decimal(event["ts"]) * 1000)
        span = (start, start + int(Decimal(event["dur"]) * 1000))
        (collectives if "AllReduce" in event["name"] else busy).append(span)
    row = only(diagnose.read(path), "all_reduce")
    exposed = sum(_alone(span, busy) for span in collectives)
    assert len(collectives) == row.calls
    assert exposed == row.exposed_ns


def _alone(span: tuple[int, int], busy: list[tuple[int, int]]) -> int:
    at, left = span[0], 0
    for start, end in sorted(one for one in busy if one[0] < span[1] and one[1] > span[0]):
        left += max(0, start - at)
        at = max(at, end)
    return left + max(0, span[1] - at)
