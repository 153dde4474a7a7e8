"""The communication table: what is exposed, what overlaps, what the link could do."""

import pytest

from diagnose.analysis import analyse
from tests.builders import TraceBuilder, launched

GROUP = {"Process Group Name": "7", "Process Group Description": "tensor_parallel"}


def rows_of(trace):
    document = analyse(trace.reading())
    return {(row.collective, row.memory): row for row in document.communication}


def test_time_beside_an_own_kernel_is_overlapped_and_the_rest_exposed():
    trace = TraceBuilder()
    launched(trace, "aten::mm", [((64, 64), "bfloat16")] * 2, 100, 30, kernel="first")
    launched(trace, "aten::mm", [((64, 64), "bfloat16")] * 2, 120, 40, kernel="second", stream=8)
    trace.collective(110, 100, elements=1000, correlation=trace.launch(90, 3), **GROUP)
    row = rows_of(trace)["all_reduce", None]
    # The kernels cover 100 to 160; the collective runs from 110 to 210.
    assert (row.time_ns, row.overlapped_ns, row.exposed_ns) == (100_000, 50_000, 50_000)
    assert (row.calls, row.bytes, row.group, row.group_description, row.group_size) == (
        1,
        4000,
        "7",
        "tensor_parallel",
        8,
    )


def test_a_collective_does_not_hide_another():
    trace = TraceBuilder()
    for stream in (20, 21):
        trace.collective(100, 50, elements=1000, stream=stream, correlation=trace.launch(90, 3))
    trace.copy("Memcpy HtoD (Pinned -> Device)", 100, 50, size=10_000, correlation=trace.launch(95, 3))
    found = rows_of(trace)
    assert found["all_reduce", None].exposed_ns == 100_000
    assert found["host_to_device", "pinned"].exposed_ns == 50_000


def test_a_kernel_of_another_device_hides_nothing():
    trace = TraceBuilder()
    trace.header("NVIDIA H100 80GB HBM3", 1)
    trace.kernel("busy", 100, 100, device=1, correlation=trace.launch(80, 3))
    trace.collective(100, 50, elements=1000, correlation=trace.launch(90, 3))
    assert rows_of(trace)["all_reduce", None].exposed_ns == 50_000


def test_bus_bandwidth_is_held_against_the_link():
    trace = TraceBuilder()
    trace.collective(100, 10_000, elements=250_000_000, ranks=8, correlation=trace.launch(90, 3))
    row = rows_of(trace)["all_reduce", None]
    crossed = 4 * 250_000_000 * 2 * 7 / 8
    assert row.link == "link.peer"
    assert row.achieved_bytes_per_s == pytest.approx(crossed / 10e-3)
    assert row.efficiency == pytest.approx(row.achieved_bytes_per_s / row.link_bytes_per_s)
    assert (row.latency_share, row.note) == (0.0, None)


def test_small_messages_are_held_against_latency():
    trace = TraceBuilder()
    for at in (100, 200):
        trace.collective(at, 20, elements=16, correlation=trace.launch(at - 10, 3))
    trace.collective(300, 10_000, elements=250_000_000, correlation=trace.launch(290, 3))
    row = rows_of(trace)["all_reduce", None]
    assert row.latency_share == pytest.approx(40 / 10_040)
    trace.events.pop()
    trace.events.pop()
    row = rows_of(trace)["all_reduce", None]
    assert row.latency_share == 1.0
    assert "latency" in row.note


def test_a_pageable_copy_is_named():
    trace = TraceBuilder()
    trace.copy("Memcpy HtoD (Pageable -> Device)", 100, 50, size=1_000_000, correlation=trace.launch(90, 70))
    row = rows_of(trace)["host_to_device", "pageable"]
    assert (row.bytes, row.link) == (1_000_000, "link.host")
    assert "pin it" in row.note


def test_an_unknown_size_is_none_and_said():
    trace = TraceBuilder()
    trace.kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL", 100, 50, correlation=trace.launch(90, 3))
    trace.collective(300, 50, elements=1000, correlation=trace.launch(290, 3))
    rows = analyse(trace.reading()).communication
    unknown = next(row for row in rows if row.group_size is None)
    assert (unknown.bytes, unknown.achieved_bytes_per_s, unknown.efficiency) == (None, None, None)
    assert "not recorded" in unknown.note


def test_the_op_names_what_an_old_kernel_does_not():
    trace = TraceBuilder()
    trace.op("c10d::alltoall_base_", 80, 30)
    kernel = "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)"
    launched(trace, "record_param_comms", None, 100, 50, kernel=kernel)
    assert ("all_to_all", None) in rows_of(trace)


def test_no_communication_no_rows():
    trace = TraceBuilder()
    launched(trace, "aten::relu", [((64,), "float32")], 100, 30)
    trace.copy("Memcpy DtoD (Device -> Device)", 200, 10, size=100, correlation=trace.launch(190, 3))
    assert rows_of(trace) == {}


def test_exposed_and_overlapped_add_up_on_every_real_trace(real_trace):
    import diagnose

    document = diagnose.read(real_trace).document
    communication = [row for row in document.kernels if row.bound == "communication"]
    assert sum(row.time_ns for row in document.communication) == sum(row.time_ns for row in communication)
    assert sum(row.calls for row in document.communication) == sum(row.calls for row in communication)
    for row in document.communication:
        assert row.exposed_ns + row.overlapped_ns == row.time_ns
        assert row.overlapped_ns >= 0
