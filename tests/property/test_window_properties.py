"""Closed forms of windows and triangles against loops that visit every element."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import costs
from diagnose.costs.adaptive_pooling import _pairs
from diagnose.costs.convolution_geometry import _reached
from diagnose.costs.pooling import _Window
from diagnose.costs.registry import price
from diagnose.costs.sharing import AUXILIARY, _fits
from diagnose.work import Op, TensorMeta

costs.load()
SIDE = st.integers(1, 14)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30))
def test_windows_of_adaptive_pooling_span_what_torch_says(size, outputs):
    """Window i of m begins at floor(i n / m) and ends at ceil((i + 1) n / m)."""
    spans = [range(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]
    assert _pairs(size, outputs) == sum(len(span) for span in spans)


@settings(max_examples=200, deadline=None)
@given(SIDE, SIDE, st.integers(1, 5), st.integers(0, 6), st.integers(1, 3), st.booleans())
def test_pairs_of_pooling_are_those_inside_the_picture(size, kernel, stride, padding, dilation, ceil_mode):
    window = _Window(size, kernel, stride, padding, dilation, ceil_mode)
    if window.outputs < 0:
        return
    places = [place * stride + tap * dilation - padding for place in range(window.outputs) for tap in range(kernel)]
    assert window.pairs == sum(0 <= place < size for place in places)


@settings(max_examples=200, deadline=None)
@given(SIDE, st.integers(1, 5), st.integers(1, 5), st.integers(0, 6), st.integers(1, 4))
def test_a_convolution_reads_what_some_window_covers(length, size, stride, padding, dilation):
    positions = (length + 2 * padding - dilation * (size - 1) - 1) // stride + 1
    covered = {p * stride + tap * dilation - padding for p in range(positions) for tap in range(size)}
    assert _reached(length, positions, (size, stride, padding, dilation)) == len(covered & set(range(length)))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(-14, 14))
def test_triangles_have_the_elements_on_their_side_of_the_diagonal(rows, columns, offset):
    for name, is_inside in (
        ("aten::tril_indices", lambda row, column: column - row <= offset),
        ("aten::triu_indices", lambda row, column: column - row >= offset),
    ):
        count = sum(is_inside(row, column) for row in range(rows) for column in range(columns))
        (phase,) = price(Op(name, (rows, columns, offset, None, None, None, None))).phases
        assert phase.work.bytes_written == 2 * 8 * count


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 12), st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_bags_of_embeddings_add_what_they_look_up(rows, indices, width, bags, is_weighted):
    """An addition an element looked up (a product too where it is weighted); at most as many rows as there are."""
    table, taken, ends = (TensorMeta(shape, dtype) for shape, dtype in (
        ((rows, width), "float32"), ((indices,), "int64"), ((bags,), "int64")))  # fmt: skip
    weights = TensorMeta((indices,), "float32") if is_weighted else None
    found = price(Op("aten::_embedding_bag", (table, taken, ends, False, 0, False, weights, False, -1)))
    work = found.phases[0].work
    flops = sum(1 + is_weighted for _ in range(indices) for _ in range(width))
    assert dict(work.flops) == {"vector.float32": flops}
    least = min(rows, indices) * width * 4 + indices * 8 + bags * 8 + indices * 4 * is_weighted
    assert work.bytes_read == least
    assert work.bytes_written >= bags * width * 4


PIECES = st.sampled_from(
    ["nchwToNhwc", "NCHWTONHWC", "splitKreduce", "split_k_reduce", "MEMSET", "Memset", "computeFooOffsets", "gemm",
     "void at::native::", "FillFunctor<int>", "fft2d_", "_kernel", "İ", "ſ", "SubTensorOpWithScalar", "winogradWgrad"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=5).map("".join))
def test_patterns_find_the_same_in_lower_case(name):
    """Names are searched in lower case, where ``re`` is ten times faster: what is found may not depend on it."""
    if name.isascii():
        assert _fits(AUXILIARY, name) == (AUXILIARY.search(name) is not None)
    mixed = re.compile(r"\bGemm\D|_K\d+", re.IGNORECASE)  # escapes in upper case mean something else than in lower case
    assert _fits(mixed, name) in (True, False)
    assert _fits(mixed, "x_gemm_") == (mixed.search("x_gemm_") is not None)
    assert _fits(mixed, "x GEMMs_k12") == (mixed.search("x GEMMs_k12") is not None)
