"""What a finding promises is of the step as it runs without the profiler."""

from __future__ import annotations

import pytest

from diagnose.analysis import analyse
from diagnose.trace.extras import Extras
from tests.builders import TraceBuilder, launched


def promised(plain_ns: int | None):
    """The first finding of a step of 4 ms in which 100 small kernels wait for late launches."""
    built = TraceBuilder()
    for index in range(100):
        at = 40.0 * index
        launched(built, "aten::add", [((8,), "float32"), ((8,), "float32"), None], at + 35, 2, launch_at=at + 25)
    extras = Extras(plain_step_ns=() if plain_ns is None else (plain_ns,))
    document = analyse(built.reading()._replace(extras=extras))
    return document.findings[0], document.window.wall_ns


def test_without_an_unrecorded_step_the_recorded_one_counts():
    finding, wall_ns = promised(None)
    assert finding.rule == "launch-bound"
    assert 0 < finding.recoverable_ns.mid < wall_ns


def test_a_step_that_recording_lengthens_is_promised_its_share():
    recorded, wall_ns = promised(None)
    finding, _ = promised(wall_ns // 4)
    assert finding.recoverable_ns.mid == pytest.approx(recorded.recoverable_ns.mid / 4, rel=1e-3)
    assert finding.recoverable_ns.high < wall_ns // 4
    assert "that a step takes unrecorded" in finding.assumes


def test_a_step_that_recording_leaves_alone_is_as_recorded():
    recorded, wall_ns = promised(None)
    assert promised(wall_ns)[0].recoverable_ns == recorded.recoverable_ns
