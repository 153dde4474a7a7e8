"""Comparisons of real traces: of each with itself, and of the same model on two devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import diagnose


def test_a_trace_compared_with_itself_has_no_difference(real_trace: Path) -> None:
    report = diagnose.read(real_trace)
    found = diagnose.compare(report, report)
    assert all(change.difference_ns == 0 and change.status == "same" for change in found.changes)
    assert all(row.difference in (0, None) for row in found.quantities)
    assert sum(change.before_ns for change in found.changes) == found.tables.step_before_ns
    assert "no difference" in found.verdict or "nothing to compare" in found.verdict


def test_the_same_model_on_two_devices_is_matched_op_by_op(trace_path: Callable[[str], Path]) -> None:
    """GIVEN BERT-small on an H100 and on an MI300X, THEN kernels are matched by op, whatever their names."""
    found = diagnose.compare(trace_path("h100_bert_small_b1"), trace_path("mi300x_bert_small_b1"))
    assert found.notes[0].startswith("the two ran on different devices (NVIDIA H100 80GB HBM3, then AMD")
    assert sum(change.difference_ns for change in found.changes) == (
        found.tables.step_after_ns - found.tables.step_before_ns
    )
    kernels = [change for change in found.changes if change.part is None]
    lone = [change for change in kernels if change.status in ("new", "gone")]
    whole = sum(change.kernel_after_ns or 0 for change in kernels)
    assert sum(change.kernel_after_ns or 0 for change in lone) < 0.02 * whole
    # Every op of both makes as many calls; both recordings hold one step, so its noise is unknown and that is said.
    assert all(change.calls_before == change.calls_after for change in kernels if change not in lone)
    assert "noise unknown" in found.verdict
    assert "mostly idle" in found.verdict


def test_work_is_followed_by_op_where_names_differ(trace_path: Callable[[str], Path]) -> None:
    """A pattern that only NVIDIA's kernels fit finds their counterparts on AMD."""
    found = diagnose.compare(
        trace_path("h100_bert_small_b1"), trace_path("mi300x_bert_small_b1"), fail_on=["kernel:gemm|nvjet|xmma:+1s"]
    )
    (judged,) = found.thresholds
    assert judged.crossed is False
    assert "→ 0 ns" not in judged.words
