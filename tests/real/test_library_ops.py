"""Serving and recommender recordings, full of ops that torch does not have."""

from diagnose.reading import read
from diagnose.trace.chrome import read_trace


def shares(document):
    coverage = document.coverage
    return [part / coverage.kernel_ns for part in (coverage.linked_ns, coverage.costed_ns, coverage.bounded_ns)]


def without_collectives_and_bounds(document):
    """The share of the rest that has exact work."""
    coverage = document.coverage
    collectives = coverage.by_source.get("collective", 0)
    return (coverage.costed_ns - collectives) / (coverage.kernel_ns - coverage.bounded_ns - collectives)


def test_a_moe_step_is_costed_or_bounded_and_says_what_is_missing(trace_path):
    document = read(trace_path("b200_vllm_moe_tp8_rank0")).document
    linked, costed, bounded = shares(document)
    assert (linked >= 0.99, costed >= 0.40, costed + bounded >= 0.995) == (True, True, True)
    assert without_collectives_and_bounds(document) >= 0.99
    bounds = [row for row in document.kernels if "bounded" in row.flags]
    assert {row.op for row in bounds} >= {"vllm::moe_forward", "vllm::unified_attention_with_output"}
    assert all("not recorded" in " ".join(row.reasons) for row in bounds)
    assert not any("under-used" in row.flags or row.gap_ns for row in bounds)


def test_its_all_reduces_without_nccl_have_a_bus_bandwidth(trace_path):
    rows = read(trace_path("b200_vllm_moe_tp8_rank0")).document.kernels
    found = [row for row in rows if "multimem_all_reduce" in row.kernel]
    assert sum(row.calls for row in found) == 73
    assert all(row.bound == "communication" and row.bytes_read and row.efficiency for row in found)
    # NVLink 5 carries 900 GB/s one way
    assert all(100e9 < row.achieved_bytes_per_s < 900e9 for row in found)


def test_a_replayed_decode_step_with_its_capture(trace_path):
    capture = read_trace(trace_path("mi300x_vllm_decode_graph_capture")).trace
    document = read(trace_path("mi300x_vllm_decode_graph_replay"), capture=capture).document
    linked, costed, bounded = shares(document)
    assert (linked >= 0.99, costed >= 0.25, costed + bounded >= 0.995) == (True, True, True)


def test_the_capture_itself_is_known_whole(trace_path):
    _, costed, bounded = shares(read(trace_path("mi300x_vllm_decode_graph_capture")).document)
    assert costed + bounded == 1


def test_older_collectives_are_described_by_their_ops(trace_path):
    rows = read(trace_path("a100_ranks_sampled_rank0")).document.kernels
    collectives = [row for row in rows if row.kernel.startswith("ncclKernel")]
    described = [row for row in collectives if row.bytes_read is not None]
    unsaid = {row.op for row in collectives} - {row.op for row in described}
    assert sum(row.time_ns for row in described) > 0.7 * sum(row.time_ns for row in collectives), unsaid
    (gather,) = [row for row in collectives if row.op == "c10d::_allgather_base_"]
    assert (gather.bytes_read, gather.bytes_written) == (16777216, 1073741824)
