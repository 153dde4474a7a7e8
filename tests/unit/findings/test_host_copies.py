"""Rules about copies between host and device; prices worked out by hand, times in microseconds."""

from __future__ import annotations

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import findings_of
from diagnose.findings.host_copies import constants_copied_again, copies_in_line, pageable_bandwidth
from tests.builders import TraceBuilder, launched

BUS = 63e9  # PCIe 5
PAGEABLE, PINNED = "Memcpy HtoD (Pageable -> Device)", "Memcpy HtoD (Pinned -> Device)"


def case_of(built: TraceBuilder) -> Case:
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def prices(found) -> list[int]:
    return [found.recoverable_ns.low, found.recoverable_ns.mid, found.recoverable_ns.high]


def copied(
    name: str, us: float, size: int, *, count: int = 1, kernel_us: float = 3000, stream: int = 7
) -> TraceBuilder:
    """Copies, then a kernel; all are launched at once."""
    built = TraceBuilder()
    for number in range(count):
        external_id = built.op("aten::copy_", 4 * number, 3, inputs=[((size,), "bool"), ((size,), "bool"), True])
        correlation = built.launch(4 * number + 1, 1, name="cudaMemcpyAsync", external_id=external_id)
        built.copy(name, 100 + us * number, us, size=size, correlation=correlation, stream=stream)
    inputs = [((64, 64), "bfloat16")] * 2
    launched(built, "aten::mm", inputs, 100 + us * count, kernel_us, launch_at=4 * count + 2)
    return built


def test_a_pageable_copy_would_take_what_pinned_memory_takes():
    # 63 MB in 10 ms are 6.3 GB/s; at half of the bus's rate 2 ms, at 80 % of it 1.25 ms.
    (found,) = findings_of(case_of(copied(PAGEABLE, 10_000, 63_000_000)), [pageable_bandwidth])
    # A kernel of 3 ms could cover 3 ms of the copy: less than what pinned memory wins.
    assert prices(found) == pytest.approx([8_000_000, 8_750_000, 8_750_000], abs=2)
    assert (found.evidence["bytes_per_s"], found.evidence["bus_bytes_per_s"]) == (6_300_000_000, int(BUS))
    assert "pin_memory=True" in found.advice


def test_a_copy_back_is_told_to_use_a_pinned_buffer():
    (found,) = pageable_bandwidth(case_of(copied("Memcpy DtoH (Device -> Pageable)", 10_000, 63_000_000)))
    assert "torch.empty(" in found.advice


@pytest.mark.parametrize(
    "built",
    [copied(PINNED, 10_000, 63_000_000), copied(PAGEABLE, 20, 65_536)],
    ids=["pinned", "small enough for the driver's buffer"],
)
def test_copies_whose_memory_is_no_matter(built):
    assert pageable_bandwidth(case_of(built)) == []


def test_a_copy_on_the_kernels_stream_could_run_beside_them():
    (found,) = findings_of(case_of(copied(PINNED, 1000, 50_000_000)), [copies_in_line])
    assert prices(found) == pytest.approx([500_000, 1_000_000, 1_000_000], abs=2)
    assert "wait_stream(side)" in found.advice


def test_as_much_of_a_copy_as_kernels_last_can_be_hidden():
    (found,) = findings_of(case_of(copied(PINNED, 1000, 50_000_000, kernel_us=400)), [copies_in_line])
    assert prices(found) == pytest.approx([200_000, 400_000, 1_000_000], abs=2)


@pytest.mark.parametrize(
    "built",
    [copied(PINNED, 1000, 50_000_000, stream=20), copied(PAGEABLE, 1000, 5_000_000), copied(PINNED, 30, 500_000)],
    ids=["on a stream of its own", "pageable", "small"],
)
def test_copies_that_are_not_in_the_way(built):
    assert copies_in_line(case_of(built)) == []


def test_a_constant_copied_six_times_is_copied_once():
    (found,) = findings_of(case_of(copied(PINNED, 10, 256, count=6, kernel_us=100)), [constants_copied_again])
    assert prices(found)[:2] == [50_000, 50_000]
    assert (found.evidence["copies_per_step"], found.evidence["bytes_each"]) == (6, 256)


@pytest.mark.parametrize(
    "built",
    [copied(PINNED, 10, 256, count=3), copied(PINNED, 100, 1_000_000, count=6)],
    ids=["a few", "layers brought in from the host"],
)
def test_copies_that_may_differ_are_left_alone(built):
    assert constants_copied_again(case_of(built)) == []
