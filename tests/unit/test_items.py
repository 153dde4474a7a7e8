"""What is placed under the roof: device activities, or a CPU's ops by their own time."""

from __future__ import annotations

import pytest

from diagnose.items import (
    CPU_DEVICE,
    KIND_COLLECTIVE,
    KIND_COPY,
    KIND_KERNEL,
    KIND_SELF,
    KIND_SET,
    Recording,
    collect,
    host_lead_ns,
)
from tests.builders import TraceBuilder, launched


def collected(built: TraceBuilder) -> Recording:
    return collect(built.reading().trace)


def test_kinds_of_device_items() -> None:
    built = TraceBuilder()
    built.kernel("gemm", 0, 5)
    built.copy("Memcpy HtoD (Pinned -> Device)", 10, 5, size=64)
    built.memset(20, 5, size=64)
    built.collective(30, 5, elements=16)
    built.kernel("void (anonymous namespace)::multimem_all_reduce_kernel<float>()", 40, 5)
    items = collected(built).items
    assert items.kind.tolist() == [KIND_KERNEL, KIND_COPY, KIND_SET, KIND_COLLECTIVE, KIND_COLLECTIVE]
    assert items.duration.tolist() == [5000] * 5
    assert items.bytes.tolist()[1:3] == [64, 64]


def test_blocks_are_the_grids_product() -> None:
    built = TraceBuilder()
    built.kernel("a", 0, 5, grid=(6, 5, 4))
    built.kernel("b", 10, 5, grid=None)  # replayed graphs, some runtimes
    assert collected(built).items.blocks.tolist() == [120, -1]


def test_order_is_that_of_the_launches_and_inside_a_graph_that_of_the_device() -> None:
    built = TraceBuilder()
    first, second = built.launch(1, 1), built.launch(3, 1, name="cudaGraphLaunch")
    built.kernel("of the graph, second", 30, 5, correlation=second)
    built.kernel("of the graph, first", 20, 5, correlation=second)
    built.kernel("launched first, run last", 40, 5, correlation=first, stream=8)
    items = collected(built).items
    assert items.order.tolist() == [1, 2, 0]  # rows are by start


def test_a_collective_described_on_its_op_alone() -> None:
    # Recordings before NCCL's metadata was copied to kernels: on the op, or on the nearest one around the launch.
    built = TraceBuilder()
    described = {"Collective name": "allreduce", "dtype": "Float", "In msg nelems": 10, "Out msg nelems": 10}
    built.op("record_param_comms", 0, 50, **described)
    built.op("nccl:all_reduce", 5, 20)
    built.kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL", 60, 5, correlation=built.launch(10, 2))
    recording = collected(built)
    assert recording.trace.metadata[int(recording.items.metadata[0])]["elements_in"] == 10


def test_the_hosts_lead_is_the_median_over_launched_work() -> None:
    built = TraceBuilder()
    for index, lead in enumerate((5, 9, 100)):
        at = 1000 * index
        built.kernel("k", at + 2 + lead, 5, correlation=built.launch(at, 2))
    built.kernel("lost", 5000, 5)
    assert host_lead_ns(collected(built)) == 9000


def test_no_launch_no_lead() -> None:
    built = TraceBuilder()
    built.kernel("k", 0, 5)
    assert host_lead_ns(collected(built)) is None


# ---- The CPU


def cpu() -> TraceBuilder:
    built = TraceBuilder(device=None)
    built.op("aten::linear", 0, 100)
    built.op("aten::addmm", 10, 80)
    built.op("aten::copy_", 20, 15)
    built.op("aten::relu", 200, 50, thread=2)
    return built


def test_on_a_cpu_an_item_is_an_ops_own_time() -> None:
    recording = collected(cpu())
    assert recording.is_cpu
    items = recording.items
    assert items.kind.tolist() == [KIND_SELF] * 4
    assert items.device.tolist() == [CPU_DEVICE] * 4
    assert items.duration.tolist() == [20_000, 65_000, 15_000, 50_000]
    assert host_lead_ns(recording) is None


def test_own_times_sum_to_what_was_busy() -> None:
    items = collected(cpu()).items
    assert int((items.spans.end - items.spans.start).sum()) == int(items.duration.sum()) == 150_000


def test_ops_of_two_threads_at_one_time_are_two_items() -> None:
    built = TraceBuilder(device=None)
    built.op("aten::mm", 0, 10)
    built.op("aten::mm", 0, 10, thread=2)
    assert collected(built).items.duration.tolist() == [10_000, 10_000]


def test_ops_before_the_first_mark_are_carried_over() -> None:
    built = cpu()
    built.step(0, 150, 200)
    assert collected(built).items.step.tolist() == [-1, -1, -1, 0]


def test_missing_device_activity_makes_no_cpu_recording() -> None:
    built = cpu()
    built.launch(1, 1)
    recording = collected(built)
    assert not recording.is_cpu
    assert len(recording.items.name) == 0


@pytest.mark.parametrize("device", [0, 3, 7])
def test_devices_keep_their_ids(device: int) -> None:
    built = TraceBuilder()
    launched(built, "aten::mm", None, 50, 10, device=device)
    assert collected(built).items.device.tolist() == [device]
