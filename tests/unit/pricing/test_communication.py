"""Collectives without metadata in whole recordings: priced, placed and given a bandwidth by their ops' arguments."""

import pytest

from diagnose.analysis import analyse
from tests.builders import TraceBuilder, launched

MULTIMEM = "void (anonymous namespace)::multimem_all_reduce_kernel<c10::BFloat16, 16>(c10::BFloat16*, unsigned long)"


def recording(group_sizes=(8, 8, 1), rank=0):
    trace = TraceBuilder()
    trace.distributed(rank, 8)
    trace.top["distributedInfo"]["pg_config"] = [{"pg_name": str(i), "pg_size": n} for i, n in enumerate(group_sizes)]
    return trace


def only_row(trace):
    (row,) = analyse(trace.reading()).kernels
    return row


def test_a_symmetric_memory_all_reduce_has_bytes_and_a_bus_bandwidth():
    trace = recording()
    launched(trace, "symm_mem::multimem_all_reduce_", [((1000,), "bfloat16"), None, None], 100, 1, kernel=MULTIMEM)
    row = only_row(trace)
    assert (row.bytes_read, row.bytes_written, row.flops, row.cost_source) == (2000, 2000, None, "collective")
    assert row.bound == "communication"
    assert row.achieved_bytes_per_s == pytest.approx(2000 * 14 / 8 / 1e-6)


def test_without_known_ranks_there_are_bytes_but_no_bus_bandwidth():
    trace = recording(group_sizes=(8, 2))
    launched(trace, "symm_mem::multimem_all_reduce_", [((1000,), "bfloat16"), None, None], 100, 1, kernel=MULTIMEM)
    row = only_row(trace)
    assert (row.bytes_read, row.achieved_bytes_per_s) == (2000, None)


def test_the_op_around_says_what_the_inner_one_does_not():
    trace = recording()
    trace.op("vllm::all_reduce", 85, 12, inputs=[((500, 2), "bfloat16"), None])
    launched(trace, "mylib::launch", [7], 100, 1, kernel="void vllm::cross_device_reduce_2stage<half, 8>(RankData*)")
    assert only_row(trace).bytes_read == 2000


def test_the_profilers_op_below_does_not_hide_the_collective_around_it():
    trace = recording()
    sides = [((8000,), "bfloat16"), ((1000,), "bfloat16"), None]
    trace.op("c10d::_allgather_base_", 85, 14, inputs=sides)
    kernel = "ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)"
    launched(trace, "record_param_comms", [((1000,), "bfloat16"), None], 100, 1, kernel=kernel)
    row = only_row(trace)
    assert (row.bytes_read, row.bytes_written) == (2000, 16000)
    assert row.achieved_bytes_per_s == pytest.approx(16000 * 7 / 8 / 1e-6)


def test_recorded_metadata_is_not_replaced():
    trace = recording()
    trace.op("vllm::all_reduce", 85, 12, inputs=[((999,), "bfloat16"), None])
    trace.collective(100, 1, elements=1000, dtype="BFloat16", correlation=trace.launch(90, 3))
    assert only_row(trace).bytes_read == 2000


def test_a_collective_that_nobody_describes_stays_unknown_and_says_so():
    trace = recording()
    launched(trace, "mylib::reduce", [((1000,), "bfloat16")], 100, 1, kernel=MULTIMEM)
    row = only_row(trace)
    assert (row.bytes_read, row.bound) == (None, "communication")
    assert row.reasons == ["a collective whose size was not recorded"]


@pytest.mark.parametrize("pg_config", ["text", [1, {"pg_size": "many"}, {"pg_name": "0"}], {"a": 1}])
def test_strange_group_lists_cost_the_ranks_alone(pg_config):
    trace = recording()
    trace.top["distributedInfo"]["pg_config"] = pg_config
    reading = trace.reading
    launched(trace, "symm_mem::multimem_all_reduce_", [((1000,), "bfloat16"), None, None], 100, 1, kernel=MULTIMEM)
    assert (reading().trace.process_rank, reading().trace.group_sizes) == (0, ())
    assert only_row(trace).bytes_read == 2000
