"""The communication table in the text report: there where it matters, and only there."""

import pytest

from diagnose.analysis import analyse
from diagnose.render.communication_lines import communication_lines, worth_showing
from diagnose.render.text import to_text
from tests.builders import TraceBuilder, launched


def document(dur, wall=10_000):
    trace = TraceBuilder()
    trace.step(0, 0, wall)
    launched(trace, "aten::mm", [((512, 512), "bfloat16")] * 2, 100, 500, kernel="nvjet_tst_64x8")
    trace.collective(1_000, dur, elements=1_000_000, correlation=trace.launch(900, 3), **{"Process Group Name": "tp"})
    return analyse(trace.reading())


def test_a_tenth_of_the_wall_is_shown():
    lines = communication_lines(document(1_000), 100, 3)
    assert lines[0].split()[:4] == ["transfer", "calls", "bytes", "time"]
    assert lines[1].startswith("all_reduce, 8 ranks, group tp")
    assert "1.00 ms" in lines[1]
    assert any(line.startswith("all_reduce, 8 ranks") for line in to_text(document(1_000)).splitlines())


def test_a_thousandth_is_not():
    assert worth_showing(document(10)) == []
    assert communication_lines(document(10), 100, 3) == []


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_too_wide(width):
    assert all(len(line) <= width for line in communication_lines(document(1_000), width, 3))


def test_the_table_as_a_frame_has_the_same_numbers():
    from diagnose.render.frames import to_frame

    frame = to_frame(document(1_000), "communication")
    assert frame["time_ns"].tolist() == [1_000_000]
    assert frame["exposed_ns"].tolist() == [1_000_000]
    assert frame["memory"].isna().all()
