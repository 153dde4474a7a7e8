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
