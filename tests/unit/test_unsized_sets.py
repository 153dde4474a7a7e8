"""A memory set whose bytes were not recorded, as on ROCm, is priced by what its op must clear."""

from builders import TraceBuilder

from diagnose.analysis import analyse
from diagnose.trace.chrome import parse_trace

SHAPE = (8, 64, 14, 14)
ELEMENTS = 8 * 64 * 14 * 14


def rows_of(op, *inputs, main=None):
    trace = TraceBuilder()
    trace.op(op, 1, 20, inputs=inputs)
    trace.memset(30, 5, size=None, correlation=trace.launch(2))
    if main is not None:
        trace.kernel(main, 40, 10, correlation=trace.launch(6))
    document = analyse(parse_trace(trace.bytes(), "trace"))
    return {row.kernel: row for row in document.kernels}, document.coverage


def test_a_set_that_is_all_that_an_op_does_has_its_work():
    rows, coverage = rows_of("aten::zero_", (SHAPE, "float32"))
    assert rows["Memset (Device)"].bytes_written == 4 * ELEMENTS
    assert coverage.uncosted == []


def test_a_set_beside_the_op_s_kernel_stays_unknown_and_takes_nothing_from_it():
    rows, coverage = rows_of("aten::relu", (SHAPE, "float32"), main="vectorized_elementwise_kernel")
    assert rows["vectorized_elementwise_kernel"].bytes_written == 4 * ELEMENTS
    assert rows["Memset (Device)"].cost_source is None
    assert [row.reason for row in coverage.uncosted] == ["the recording does not say how many bytes"]
