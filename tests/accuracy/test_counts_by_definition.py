"""FLOPs of ops against their definitions: run on numbers that count, or on torch's own smaller ops."""

import math
from collections import Counter

import pytest
import torch
from counted import Number, bigger, count, elementwise, root, special
from derivation import op_of
from dispatched import call_of, calls_of, work_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from diagnose import costs

costs.load()

A = torch.ops.aten
VECTOR, TENSOR = "vector.float32", "tensor.float32"


def flops_of(work):
    return dict(work.flops)


# Fourier: the radix-2 algorithm itself, on counting numbers. A complex product is 4 products and 2 sums.
def _transform(points):
    if len(points) == 1:
        return points
    even, odd = _transform(points[::2]), _transform(points[1::2])
    turned = [(a * 0.5 - b * 0.5, a * 0.5 + b * 0.5) for a, b in odd]
    high = [(a + c, b + d) for (a, b), (c, d) in zip(even, turned, strict=True)]
    low = [(a - c, b - d) for (a, b), (c, d) in zip(even, turned, strict=True)]
    return high + low


def _radix_two(size):
    tally: Counter = Counter()
    _transform([(Number(1.0, tally), Number(2.0, tally)) for _ in range(size)])
    return tally["flops"]


@pytest.mark.parametrize("size", [2, 8, 32])
def test_a_complex_transform_costs_what_the_radix_two_algorithm_does(size):
    work = call_of("_fft_c2c", lambda: torch.fft.fft(torch.ones(3, size, dtype=torch.complex64))).work()
    assert flops_of(work) == {VECTOR: 3 * _radix_two(size)}


def test_real_transforms_are_half_and_each_dimension_costs_its_own():
    whole = 4 * _radix_two(8)
    real = call_of("_fft_r2c", lambda: torch.fft.rfft(torch.ones(4, 8))).work()
    back = call_of("_fft_c2r", lambda: torch.fft.irfft(torch.ones(4, 5, dtype=torch.complex64), n=8)).work()
    assert flops_of(real) == flops_of(back) == {VECTOR: whole // 2}
    both = call_of("_fft_r2c", lambda: A._fft_r2c(torch.ones(4, 8), [0, 1], 0, True)).work()
    assert flops_of(both) == {VECTOR: whole // 2 + 5 * _radix_two(4)}  # five columns are left of the half spectrum


# Pooling, by pooling cubes of ones.
@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.integers(3, 7)] * 3), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_windows_of_three_dimensions(size, kernel, stride, ceil_mode):
    padding = kernel // 2
    ones = torch.ones(1, 1, *size)
    sums = functional.avg_pool3d(ones, kernel, stride, padding, ceil_mode, divisor_override=1)
    cubes = torch.rand(2, 3, *size)
    largest = call_of("max_pool3d_with_indices", lambda: A.max_pool3d_with_indices(
        cubes, [kernel] * 3, [stride] * 3, [padding] * 3, [1] * 3, ceil_mode)).work()  # fmt: skip
    assert flops_of(largest) == {VECTOR: 6 * int(sums.sum())}
    mean = call_of("avg_pool3d", lambda: A.avg_pool3d(cubes, [kernel] * 3, [stride] * 3, [padding] * 3, ceil_mode))
    assert flops_of(mean.work()) == {VECTOR: 6 * (int(sums.sum()) + sums.numel())}


# Distances, element by element.
def _city(a, b):
    total = 0.0
    for x, y in zip(a, b, strict=True):
        difference = x - y
        total = bigger(difference, 0) + total


def test_distances_between_all_pairs_of_rows():
    a, b = torch.rand(3, 4), torch.rand(5, 4)
    flops, _ = count(lambda x, y: [_city(x, y) for _ in range(15)], [1.0] * 4, [0.0] * 4)
    assert flops_of(work_of(op_of("aten::_cdist_forward", a, b, 1.0, None))) == {VECTOR: flops}
    flops, _ = count(lambda x, y: [_city(x, y) for _ in range(3)], [1.0] * 4, [0.0] * 4)
    assert flops_of(work_of(op_of("aten::_pdist_forward", a, 2.0))) == {VECTOR: flops}


# Losses: the definition of one element, without its reduction.
def _smooth(x, y):
    distance = root(x - y)  # an absolute value is one operation too
    bigger(distance, 1.0)
    return 0.5 * distance * distance


LOSSES = {"smooth_l1_loss": _smooth, "soft_margin_loss": lambda x, y: special(special(x * y) + 1)}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_their_definition(name):
    x = torch.rand(7)
    flops, specials = count(elementwise(LOSSES[name]), x.tolist(), x.tolist())
    expected = {VECTOR: flops, "special": specials}
    assert flops_of(work_of(op_of(f"aten::{name}", x, x, 0))) == {k: v for k, v in expected.items() if v}


# Cells of recurrent layers.
def _sigmoid(x):
    return 1 / (1 + special(-x))


def _lstm_cell(*columns):
    i, f, g, o, h_i, h_f, h_g, h_o, c = columns
    kept = _sigmoid(f + h_f) * c + _sigmoid(i + h_i) * special(g + h_g)
    return _sigmoid(o + h_o) * special(kept)


def _gru_cell(*columns):
    r, z, n, h_r, h_z, h_n, h = columns
    fresh = special(n + _sigmoid(r + h_r) * h_n)
    return fresh + _sigmoid(z + h_z) * (h - fresh)


@pytest.mark.parametrize(("name", "gates", "definition"), [("lstm", 4, _lstm_cell), ("gru", 3, _gru_cell)])
def test_a_fused_cell_by_its_definition(name, gates, definition):
    batch, hidden = 2, 5
    pre, state = torch.rand(batch, gates * hidden), torch.rand(batch, hidden)
    work = work_of(op_of(f"aten::_thnn_fused_{name}_cell", pre, pre, state, None, None))
    columns = [[0.5] * (batch * hidden)] * (2 * gates + 1)
    flops, specials = count(elementwise(definition), *columns)
    assert flops_of(work) == {VECTOR: flops, "special": specials}


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
@pytest.mark.parametrize(("layers", "both_ways"), [(1, False), (2, True)])
def test_a_librarys_layers_do_the_products_and_cells_of_torchs_own(name, layers, both_ways):
    inputs, hidden, time, batch = 6, 4, 3, 2
    network = getattr(torch.nn, name)(inputs, hidden, layers, bidirectional=both_ways)
    x = torch.rand(time, batch, inputs)
    with torch.backends.mkldnn.flags(enabled=False), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    directions = 2 if both_ways else 1
    state = torch.zeros(layers * directions, batch, hidden)
    mode = {"LSTM": 2, "GRU": 3}[name]
    weights = list(network.parameters())
    op = op_of("aten::_cudnn_rnn", x, weights, 4, None, state, state if mode == 2 else None, mode, hidden, 0, layers,
               False, 0.0, False, both_ways, [], None)  # fmt: skip
    work = work_of(op)
    cell, gates = {"LSTM": (_lstm_cell, 4), "GRU": (_gru_cell, 3)}[name]
    cells = time * batch * hidden * layers * directions
    flops, specials = count(elementwise(cell), *[[0.5] * cells] * (2 * gates + 1))
    assert flops_of(work) == {TENSOR: counter.get_total_flops(), VECTOR: flops, "special": specials}
    states = 2 if mode == 2 else 1
    assert work.bytes_read == 4 * (x.numel() + sum(w.numel() for w in weights) + states * state.numel())
    assert work.bytes_written == 4 * (time * batch * hidden * directions + states * state.numel())


def test_the_cpu_library_layer_does_what_cudnn_would():
    network = torch.nn.LSTM(6, 4)
    calls = calls_of(lambda: network(torch.rand(3, 2, 6)))
    found = [call for call in calls if call.op.name == "aten::mkldnn_rnn_layer"]
    if not found:
        pytest.skip("this build of torch has no oneDNN layer")
    assert flops_of(found[0].work())[TENSOR] == 2 * 3 * 2 * 4 * 4 * (6 + 4)


# Linear algebra: the textbook's loops; they agree with the leading term but for what is of lower order.
def _cholesky_flops(n):
    return sum(1 + (n - j - 1) + sum(2 * (n - i) for i in range(j + 1, n)) for j in range(n))


def _lu_flops(m, n):
    return sum((m - k - 1) + 2 * (m - k - 1) * (n - k - 1) for k in range(min(m, n)))


def _triangular_flops(n, k):
    return k * sum(2 * i + 1 for i in range(n))


@pytest.mark.parametrize(
    ("name", "arguments", "loops"),
    [
        ("linalg_cholesky_ex", (torch.eye(60), False, False), _cholesky_flops(60)),
        ("linalg_lu_factor_ex", (torch.eye(60), True, False), _lu_flops(60, 60)),
        ("linalg_lu_factor_ex", (torch.ones(90, 60), True, False), _lu_flops(90, 60)),
        ("linalg_solve_triangular", (torch.eye(60), torch.ones(60, 7), True, True, False), _triangular_flops(60, 7)),
        ("linalg_inv_ex", (torch.eye(60), False), _lu_flops(60, 60) + sum(2 * (60 - j) ** 2 for j in range(60)) * 2),
    ],
    ids=["cholesky", "lu", "tall-lu", "triangular", "inverse"],
)
def test_factorisations_have_the_textbooks_leading_term(name, arguments, loops):
    work = work_of(op_of(f"aten::{name}", *arguments))
    assert math.isclose(flops_of(work)[TENSOR], loops, rel_tol=0.05)


def test_a_linear_solve_is_its_factorisation_and_two_triangles():
    a, b = torch.eye(12), torch.ones(12, 5)
    lu = flops_of(work_of(op_of("aten::linalg_lu_factor_ex", a, True, False)))[TENSOR]
    halves = 2 * flops_of(work_of(op_of("aten::linalg_solve_triangular", a, b, True, True, False)))[TENSOR]
    assert flops_of(work_of(op_of("aten::_linalg_solve_ex", a, b, True, False)))[TENSOR] == lu + halves


def test_what_iterates_is_a_bound():
    for op in (op_of("aten::_linalg_svd", torch.rand(4, 3), False, True), op_of("aten::linalg_eig", torch.rand(3, 3))):
        assert work_of(op).is_bound


# Searching and counting.
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9))
def test_a_search_compares_as_often_as_halving_takes(edges, values):
    work = work_of(op_of("aten::bucketize", torch.rand(values), torch.arange(float(edges)), False, False))
    steps, left = 0, edges
    while left:
        steps, left = steps + 1, left // 2
    assert flops_of(work) == {VECTOR: values * steps}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(-10, 10))
def test_triangles_hold_as_many_indices_as_torchs(rows, columns, offset):
    for name in ("tril_indices", "triu_indices"):
        result = getattr(torch, name)(rows, columns, offset)
        work = work_of(op_of(f"aten::{name}", rows, columns, offset, torch.int64, None, None, False))
        assert work.bytes_written == result.numel() * 8


# Antialiased resampling: the weights that torch's own filter has, by resampling one bright point at a time.
@pytest.mark.parametrize(("name", "size"), [("bilinear", (3, 4)), ("bicubic", (4, 2)), ("bilinear", (9, 12))])
def test_antialiased_taps_cover_what_one_output_depends_on(name, size):
    height, width = 6, 8
    operator = getattr(A, f"_upsample_{name}2d_aa")
    points = torch.eye(height * width).reshape(height * width, 1, height, width)
    weights = operator(points, list(size), False)
    reached = (weights != 0).float().sum(0).max().item()  # inputs under the widest filter of an output element
    work = work_of(op_of(f"aten::_upsample_{name}2d_aa", torch.rand(1, 1, height, width), list(size), False))
    reach = {"bilinear": 1, "bicubic": 2}[name]
    taps = [min(2 * reach * max(1, math.ceil(n / m)), n) for n, m in zip((height, width), size, strict=True)]
    assert reached <= taps[0] * taps[1]
    across, down = height * size[1] * taps[1], size[0] * size[1] * taps[0]
    assert flops_of(work) == {VECTOR: 2 * (across + down)}
