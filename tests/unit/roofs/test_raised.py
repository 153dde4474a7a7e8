"""A roof that was only measured, and that the recording exceeds, was too low: it is raised, and nothing is lost."""

from __future__ import annotations

import pytest

from diagnose.analysis import analyse
from diagnose.schema import Ceiling, Document
from diagnose.trace.extras import Extras
from tests.builders import TraceBuilder

MM = [((1024, 1024), "float32"), ((1024, 1024), "float32")]
FLOPS = 2 * 1024**3


def on_cpu(matmul_us: float, flops_per_s: float, datasheet: float | None = None) -> Document:
    """One matrix product under a roof that was measured to be ``flops_per_s``."""
    built = TraceBuilder(device=None)
    built.op("aten::mm", 0, matmul_us, inputs=MM)
    reading = built.reading()
    rows = (
        Ceiling("cpu", "tensor.float32", flops_per_s, datasheet, None, None, "measured", "a second ago"),
        Ceiling("cpu", "dram", 40e9, None, None, None, "measured", "a second ago"),
    )
    return analyse(reading._replace(extras=Extras(ceilings=rows)))


def test_an_op_faster_than_the_measured_roof_raises_it():
    document = on_cpu(20_000, 5e9)  # 107 GFLOP/s under a roof of 5
    (row,) = document.kernels
    assert row.efficiency == pytest.approx(1)
    assert row.bound == "compute"
    (roof,) = [each for each in document.ceilings if each.resource == "tensor.float32"]
    assert roof.achievable == pytest.approx(FLOPS / 20e-3)
    assert roof.origin == "recording"
    assert any(
        "measured to reach 5.00 GFLOP/s, an op of this recording reached 107 GFLOP/s" in n for n in document.notes
    )


def test_an_op_below_its_roof_leaves_it():
    document = on_cpu(20_000, 200e9)
    (roof,) = [each for each in document.ceilings if each.resource == "tensor.float32"]
    assert (roof.achievable, roof.origin) == (200e9, "measured")


def test_a_datasheet_is_never_raised():
    document = on_cpu(20_000, 5e9, datasheet=6e9)
    (row,) = document.kernels
    assert "above-roof" in row.flags
    assert row.bound is None


def test_what_is_too_short_to_be_timed_raises_nothing():
    built = TraceBuilder(device=None)
    built.op("aten::mm", 0, 2, inputs=[((64, 64), "float32"), ((64, 64), "float32")])
    roof = Ceiling("cpu", "tensor.float32", 1e9, None, None, None, "measured", "a second ago")
    document = analyse(built.reading()._replace(extras=Extras(ceilings=(roof,))))
    assert document.ceilings == [roof]
    assert "ceiling-too-low" in document.kernels[0].flags


@pytest.mark.parametrize(("side", "is_raised"), [(1024, False), (16384, True)], ids=["fits a cache", "1 GB"])
def test_only_traffic_that_no_cache_can_hold_raises_dram(side: int, is_raised: bool):
    built = TraceBuilder(device=None)
    moved = 3 * 4 * side**2
    built.op("aten::add", 0, moved / 80e9 * 1e6, inputs=[((side, side), "float32"), ((side, side), "float32"), None])
    roof = Ceiling("cpu", "dram", 40e9, None, None, None, "measured", "a second ago")
    (found,) = analyse(built.reading()._replace(extras=Extras(ceilings=(roof,)))).ceilings
    assert found.achievable == pytest.approx(80e9 if is_raised else 40e9)


def test_an_op_that_calls_itself_again_has_handed_its_work_over():
    """``div_`` by a number is ``div_`` by a tensor: the shell would seem to move everything in no time."""
    built = TraceBuilder(device=None)
    big = ((16384, 16384), "float32")
    built.op("aten::div_", 0, 60_000, inputs=[big, None])
    built.op("aten::div_", 30, 59_960, inputs=[big, ((), "float32")])
    roof = Ceiling("cpu", "dram", 40e9, None, None, None, "measured", "a second ago")
    document = analyse(built.reading()._replace(extras=Extras(ceilings=(roof,))))
    assert document.ceilings == [roof]
    moved = {row.time_ns: row.bytes_read for row in document.kernels}
    assert moved[40_000] == 0
    assert moved[59_960_000] == 4 * 16384**2 + 4
