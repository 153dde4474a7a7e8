"""Families of ops on tensors of any size and layout, against what torch returns and what their definitions do.

Bytes are distinct storage offsets of real tensors, FLOPs those of the definition, run on numbers that count.
"""

import math
from bisect import bisect_left

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diagnose import costs
from diagnose.costs.registry import price
from diagnose.work import Op, TensorMeta
from tests.accuracy.counted import Number, bigger, count, elementwise, root, smaller, special
from tests.accuracy.derivation import distinct_bytes, op_of, output_bytes

costs.load()
ATEN = torch.ops.aten
few = settings(max_examples=20, deadline=None)
SIDE = st.integers(1, 6)


def work_of(op):
    """All of an op's phases together."""
    found = price(op)
    assert found.phases is not None, f"{op.name}: {found.reason}"
    total = found.phases[0].work
    for phase in found.phases[1:]:
        total = total + phase.work
    return total


def both(name, *args):
    """What we say that the op moves and computes, and what torch returns for it."""
    return work_of(op_of(f"aten::{name}", *args)), getattr(ATEN, name)(*args)


def compulsory(work):
    return work.bytes_read - work.extra_bytes, work.bytes_written


def operations(work):
    """(FLOPs, special)."""
    return work.total_flops, work.special_ops


@st.composite
def tensors(draw, low=1, high=4, dtypes=(torch.float32, torch.float64)):
    """Dense, transposed, with gaps, or with a dimension expanded."""
    shape, dtype = tuple(draw(st.lists(SIDE, min_size=low, max_size=high))), draw(st.sampled_from(dtypes))
    layout = draw(st.sampled_from(("dense", "transposed", "gaps", "expanded")))
    if layout == "transposed":
        return torch.rand(shape[::-1]).to(dtype).permute(*reversed(range(len(shape))))
    if layout == "gaps":
        return torch.rand(*shape[:-1], 2 * shape[-1]).to(dtype)[..., ::2]
    if layout == "expanded":
        return torch.rand(1, *shape[1:]).to(dtype).expand(shape)
    return torch.rand(shape).to(dtype)


def pictures(rank):
    """Dense [N, C, ...] with ``rank`` dimensions of space."""
    return st.tuples(st.integers(1, 2), st.integers(1, 3), *[SIDE] * rank).map(torch.rand)


# --- Quantised tensors.


def rounded(a):
    return a._done(round(a.value))


def _quantised(x):
    return smaller(bigger(rounded(x * 10.0 + 2), 0), 255)


def _there_and_back(x):
    return (_quantised(x) - 2) * 0.1


@few
@given(tensors(dtypes=(torch.float32,)), st.sampled_from([torch.quint8, torch.qint8]))
def test_to_and_from_quantised_tensors(x, dtype):
    work, held = both("quantize_per_tensor", x, 0.1, 2, dtype)
    assert compulsory(work) == (distinct_bytes(x), output_bytes(held))
    assert operations(work) == count(elementwise(_quantised), [0.5] * x.numel())
    work, back = both("dequantize", held)
    assert compulsory(work) == (output_bytes(held), output_bytes(back))
    assert operations(work) == count(elementwise(lambda q: (q - 2) * 0.1), [1.0] * x.numel())
    work, integers = both("int_repr", held)
    assert compulsory(work) == (output_bytes(held), output_bytes(integers))


@few
@given(tensors(dtypes=(torch.float32,)))
def test_pretended_quantisation_returns_a_mask_too(x):
    work, result = both("fake_quantize_per_tensor_affine_cachemask", x, 0.1, 2, 0, 255)
    assert compulsory(work) == (distinct_bytes(x), output_bytes(result))
    assert operations(work) == count(elementwise(_there_and_back), [0.5] * x.numel())
    scales, zeros = torch.ones(x.shape[0]), torch.zeros(x.shape[0], dtype=torch.int32)
    work, result = both("fake_quantize_per_channel_affine_cachemask", x, scales, zeros, 0, 0, 255)
    read = distinct_bytes(x) + distinct_bytes(scales) + distinct_bytes(zeros)
    assert compulsory(work) == (read, output_bytes(result))


@few
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3))
def test_products_with_weights_of_four_bits(rows, blocks, groups):
    k, n = 32 * groups, 16 * blocks
    packed = ATEN._convert_weight_to_int4pack_for_cpu(torch.zeros(n, k, dtype=torch.int32), 2)
    x, scales = torch.ones(rows, k, dtype=torch.bfloat16), torch.ones(groups, n, 2, dtype=torch.bfloat16)
    work, result = both("_weight_int4pack_mm_for_cpu", x, packed, 32, scales)
    assert work.bytes_read == sum(map(distinct_bytes, (x, packed, scales)))
    assert work.bytes_written == output_bytes(result)
    assert dict(work.flops) == {"tensor.bfloat16": sum(2 for _ in range(rows) for _ in range(n) for _ in range(k))}


@few
@given(SIDE, st.integers(1, 9), st.sampled_from([torch.float32, torch.float64]))
def test_weight_norm_by_its_definition(rows, columns, dtype):
    v, g = torch.rand(rows, columns, dtype=dtype), torch.rand(rows, 1, dtype=dtype)
    work, result = both("_weight_norm_interface", v, g, 0)
    assert compulsory(work) == (distinct_bytes(v) + distinct_bytes(g), output_bytes(result))

    def definition(values):
        length = 0.0
        for value in values:
            length = value * value + length
        return [value * 0.5 for value in values]  # g / |v| is one division a row, left out

    assert operations(work) == count(definition, [0.5] * v.numel())


# --- Sparse tensors.


def undescribed(tensor):
    """A sparse tensor as a recording has it: no strides."""
    return TensorMeta(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def described(tensor):
    return TensorMeta(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tuple(tensor.stride()))


@few
@given(SIDE, SIDE, SIDE, st.floats(0.0, 1.0))
def test_a_sparse_product_moves_at_least_its_bound(rows, inner, columns, share):
    """Where each column of the sparse side holds something, so that each row of the dense one is looked at."""
    dense = (torch.rand(rows, inner) < share).float()
    dense[0] = 1.0
    held, right, addend = dense.to_sparse_coo(), torch.rand(inner, columns), torch.rand(rows, columns)
    op = Op("aten::_sparse_addmm", (described(addend), undescribed(held), described(right), 1, 1))
    work = work_of(op)
    assert work.is_bound
    assert work.flops is None  # how many are held is not recorded
    result = torch.sparse.addmm(addend, held, right)
    indices, values = held.coalesce().indices(), held.coalesce().values()
    moved = sum(map(distinct_bytes, (addend, right, indices, values)))
    assert work.bytes_read < moved
    assert work.bytes_written == output_bytes(result)


@few
@given(SIDE, SIDE, st.floats(0.0, 1.0))
def test_to_dense_and_back_moves_at_least_its_bound(rows, columns, share):
    dense = (torch.rand(rows, columns) < share).float()
    held = dense.to_sparse_coo()
    work = work_of(Op("aten::_to_dense", (undescribed(held), None, None)))
    assert work.is_bound
    assert compulsory(work) == (0, distinct_bytes(dense))
    work = work_of(Op("aten::_to_sparse", (described(dense),)))
    assert work.is_bound
    assert compulsory(work) == (distinct_bytes(dense), 0)


@few
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_half_sparse_weights_multiply_what_they_hold(blocks, groups, columns):
    """Two of every four elements are held: each is multiplied with, and added for, every column."""
    rows, k = 4 * blocks, 4 * groups
    mask = torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(rows, groups)
    weight, x = torch.zeros(rows, k // 2, dtype=torch.float16), torch.zeros(k, columns, dtype=torch.float16)
    notes = torch.zeros(rows, max(1, k // 16), dtype=torch.int16)
    work = work_of(op_of("aten::_sparse_semi_structured_mm", weight, notes, x))
    assert dict(work.flops) == {"tensor.float16": 2 * int(mask.count_nonzero()) * columns}
    assert compulsory(work) == (sum(map(distinct_bytes, (weight, notes, x))), rows * columns * 2)


@few
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), SIDE)
def test_segments_add_every_element_once(lengths, width):
    assume(sum(lengths))
    data, counts = torch.rand(sum(lengths), width), torch.tensor(lengths)
    result = torch.segment_reduce(data, "sum", lengths=counts)
    work = work_of(op_of("aten::segment_reduce", data, "sum", counts, None, None, 0, False, None))
    assert compulsory(work) == (distinct_bytes(data) + distinct_bytes(counts), output_bytes(result))
    # The first element of a segment is added to the initial value.
    assert work.total_flops == sum(1 for length in lengths for _ in range(length) for _ in range(width))


# --- Recurrent layers.


def _pairs_of_a_stack(time, sizes, gates, directions):
    """Multiply-adds, time by time, gate by gate."""
    batch, inputs, hidden, layers = sizes
    pairs = 0
    for layer in range(layers):
        width = inputs if layer == 0 else hidden * directions
        for _ in range(directions * time * batch):
            pairs += gates * hidden * (width + hidden)
    return pairs


@few
@given(st.integers(1, 4), st.tuples(SIDE, SIDE, SIDE, st.integers(1, 3)), st.booleans(), st.sampled_from((2, 3)))
def test_a_stack_of_recurrent_layers(time, sizes, both_ways, mode):
    batch, inputs, hidden, layers = sizes
    directions, gates = 1 + both_ways, {2: 4, 3: 3}[mode]
    module = {2: torch.nn.LSTM, 3: torch.nn.GRU}[mode]
    network = module(inputs, hidden, layers, bidirectional=both_ways)
    x, weights = torch.rand(time, batch, inputs), list(network.parameters())
    with torch.no_grad():
        result = network(x)  # the output and the last states
    state = torch.zeros(layers * directions, batch, hidden)
    cell = state if mode == 2 else None
    work = work_of(op_of("aten::_cudnn_rnn", x, weights, 4, None, state, cell, mode, hidden, 0, layers, False, 0.0,
                         False, both_ways, [], None))  # fmt: skip
    states = distinct_bytes(state) * (1 + (mode == 2))
    assert work.bytes_read == distinct_bytes(x) + sum(map(distinct_bytes, weights)) + states
    assert work.bytes_written == output_bytes(result)
    assert dict(work.flops)["tensor.float32"] == 2 * _pairs_of_a_stack(time, sizes, gates, directions)


@few
@given(SIDE, SIDE, st.booleans())
def test_a_fused_cell_reads_its_gates_and_keeps_them(batch, hidden, has_biases):
    gates, cell = torch.rand(batch, 4 * hidden), torch.rand(batch, hidden)
    biases = [torch.rand(4 * hidden)] * 2 if has_biases else [None, None]
    work = work_of(op_of("aten::_thnn_fused_lstm_cell", gates, gates, cell, *biases))
    read = 2 * distinct_bytes(gates) + distinct_bytes(cell) + sum(distinct_bytes(b) for b in biases if b is not None)
    assert compulsory(work) == (read, 2 * output_bytes(cell) + output_bytes(gates))

    def sigmoid(x):
        return 1 / (1 + special(-x))

    def definition(i, f, g, o, c):
        i, f, g, o = ((x + 0.1 + 0.2 + 0.3) if has_biases else (x + 0.1) for x in (i, f, g, o))
        kept = sigmoid(f) * c + sigmoid(i) * special(g)
        return sigmoid(o) * special(kept)

    assert operations(work) == count(elementwise(definition), *[[0.5] * cell.numel()] * 5)


# --- Padding.

WIDTHS = st.integers(-3, 4)


def elements_kept(pad, x):
    """Which elements of ``x`` come out again: numbered from 1, so that what is filled in is 0."""
    numbered = torch.arange(1.0, x.numel() + 1, dtype=torch.float64).reshape(x.shape)
    return len(set(pad(numbered).flatten().tolist()) - {0.0})


@few
@given(pictures(2), st.tuples(WIDTHS, WIDTHS, WIDTHS, WIDTHS))
def test_constant_padding_reads_what_it_keeps(x, widths):
    left, right, top, bottom = widths
    assume(x.shape[3] + min(left, 0) + min(right, 0) > 0 and x.shape[3] + left + right > 0)
    assume(x.shape[2] + min(top, 0) + min(bottom, 0) > 0 and x.shape[2] + top + bottom > 0)
    work, result = both("constant_pad_nd", x, list(widths), 0.0)
    kept = elements_kept(lambda t: ATEN.constant_pad_nd(t, list(widths), 0.0), x)
    assert compulsory(work) == (4 * kept, output_bytes(result))
    assert work.flops == ()


@pytest.mark.parametrize("kind", ["reflection", "replication"])
@few
@given(st.integers(1, 3), st.data())
def test_mirrored_padding_and_its_gradient(kind, rank, data):
    shape = [data.draw(st.integers(2, 5)) for _ in range(rank)]
    widths = [data.draw(st.integers(0, size - 1)) for size in reversed(shape) for _ in range(2)]
    x = torch.rand(2, 3, *shape)
    name = f"{kind}_pad{rank}d"
    work, result = both(name, x, widths)
    kept = elements_kept(lambda t: getattr(ATEN, name)(t, widths), x)
    assert compulsory(work) == (4 * kept, output_bytes(result))
    work, gradient = both(f"{name}_backward", result, x, widths)
    assert compulsory(work) == (distinct_bytes(result), output_bytes(gradient))
    # Each gradient is added to where its element came from: as many sums as there are ones to add up.
    ones = getattr(ATEN, f"{name}_backward")(torch.ones_like(result), x, widths)
    assert work.total_flops == int(ones.sum())


@few
@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 3))
def test_windows_are_added_back_to_where_they_overlap(size, window, step):
    assume(window <= size)
    x = torch.rand(3, size)
    windows = x.unfold(1, window, step).contiguous()
    work, result = both("unfold_backward", torch.ones_like(windows), [3, size], 1, window, step)
    assert compulsory(work) == (distinct_bytes(windows), output_bytes(result))
    assert work.total_flops == int(result.sum())


# --- Resampling.


@pytest.mark.parametrize("name", ["upsample_nearest2d", "_upsample_nearest_exact2d"])
@few
@given(pictures(2), SIDE, SIDE)
def test_the_nearest_element_is_all_that_is_read(name, x, height, width):
    work, result = both(name, x, [height, width], None, None)
    numbered = torch.arange(float(x.numel())).reshape(x.shape)
    used = len(getattr(ATEN, name)(numbered, [height, width], None, None).unique())
    assert work.bytes_read >= 4 * used
    if (height <= x.shape[2]) == (width <= x.shape[3]):  # one way in both dimensions; else an upper bound
        assert work.bytes_read == 4 * used
    assert work.bytes_written == output_bytes(result)
    assert operations(work) == (0, 0)


def _line(values):
    """One dimension less: two taps blended, or four."""
    return values[0] * 0.5 + values[1] * 0.5 if len(values) == 2 else sum_of([v * 0.25 for v in values])


def sum_of(values):
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def blended(taps, rank):
    """One output element, the last dimension first."""
    if rank == 1:
        return _line(taps)
    size = round(len(taps) ** (1 / rank))
    rest = len(taps) // size
    return _line([blended(taps[i * rest : (i + 1) * rest], rank - 1) for i in range(size)])


MODES = [("upsample_linear1d", 1, 2), ("upsample_bilinear2d", 2, 2), ("upsample_trilinear3d", 3, 2),
         ("upsample_bicubic2d", 2, 4)]  # fmt: skip


@pytest.mark.parametrize(("name", "rank", "width"), MODES)
@few
@given(st.data())
def test_larger_pictures_blend_their_taps(name, rank, width, data):
    x = data.draw(pictures(rank))
    sizes = [size * data.draw(st.integers(1, 3)) for size in x.shape[2:]]
    work, result = both(name, x, sizes, False, *[None] * rank)
    assert compulsory(work) == (distinct_bytes(x), output_bytes(result))
    flops, _ = count(lambda taps: blended(taps, rank), [0.5] * width**rank)
    assert work.total_flops == flops * result.numel()
    work, gradient = both(f"{name}_backward", result, sizes, list(x.shape), False, *[None] * rank)
    assert compulsory(work) == (distinct_bytes(result), output_bytes(gradient))
    assert work.total_flops == (flops + 1) * result.numel()


@few
@given(pictures(2), SIDE, SIDE)
def test_samples_at_named_places_touch_no_more_than_is_said(x, height, width):
    grid = torch.rand(x.shape[0], height, width, 2) * 2 - 1
    work, result = both("grid_sampler_2d", x, grid, 0, 0, False)
    seen = x.clone().requires_grad_()
    ATEN.grid_sampler_2d(seen, grid, 0, 0, False).sum().backward()
    touched = 4 * int((seen.grad != 0).sum())
    assert touched + distinct_bytes(grid) <= work.bytes_read <= distinct_bytes(x) + distinct_bytes(grid)
    assert work.bytes_written == output_bytes(result)
    # Four weights and three operations a dimension to place a sample; a product and a sum a tap.
    places = x.shape[0] * height * width
    assert work.total_flops == places * (2 * 3 + 4) + 2 * 4 * result.numel()


# --- Orderings, scans and searches.

NUMBERS = (torch.float32, torch.float64, torch.int32, torch.int64)


@pytest.mark.parametrize("name", ["sort", "topk", "kthvalue", "median", "nanmedian", "mode"])
@few
@given(tensors(dtypes=NUMBERS), st.data())
def test_orderings_write_values_and_indices(name, x, data):
    dim = data.draw(st.integers(-x.dim(), x.dim() - 1))
    k = data.draw(st.integers(1, x.shape[dim]))
    rest = {"sort": (dim, False), "topk": (k, dim), "kthvalue": (k, dim, False)}.get(name, (dim, False))
    work, result = both(name, x, *rest)
    assert compulsory(work) == (distinct_bytes(x), output_bytes(result))
    assert work.is_bound
    assert work.flops is None


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "_logcumsumexp"])
@few
@given(tensors(dtypes=(*NUMBERS, torch.bool)), st.data())
def test_scans_write_what_torch_returns(name, x, data):
    assume(x.is_floating_point() or name != "_logcumsumexp")
    dim = data.draw(st.integers(0, x.dim() - 1))
    work, result = both(name, x, dim)
    assert compulsory(work) == (distinct_bytes(x), output_bytes(result))
    each = (3, 2) if name == "_logcumsumexp" else (1, 0)
    assert operations(work) == tuple(operation * x.numel() for operation in each)


@few
@given(tensors(dtypes=NUMBERS), st.data())
def test_running_extremes_keep_values_and_indices(x, data):
    dim = data.draw(st.integers(0, x.dim() - 1))
    result = torch.cummax(x, dim)
    work = work_of(op_of("aten::cummax", x, dim))
    assert compulsory(work) == (distinct_bytes(x), output_bytes(tuple(result)))
    assert work.total_flops == sum(1 for _ in range(x.numel()))


class Edge(float):
    """A number that notes how often it was compared with."""

    compared = 0

    def __lt__(self, other):
        Edge.compared += 1
        return float(self) < float(other)


@few
@given(tensors(low=1, high=2), st.integers(1, 40))
def test_no_search_compares_more_often_than_halving_does(x, edges):
    boundaries = torch.linspace(0, 1, edges, dtype=x.dtype)
    work, result = both("bucketize", x, boundaries)
    assert work.bytes_written == output_bytes(result)
    assert distinct_bytes(x) <= work.bytes_read <= distinct_bytes(x) + distinct_bytes(boundaries)
    listed, most = [Edge(edge) for edge in boundaries.tolist()], 0
    for place in range(-1, edges + 1):
        Edge.compared = 0
        bisect_left(listed, (place + 0.5) / max(edges - 1, 1))
        most = max(most, Edge.compared)
    assert work.total_flops == most * x.numel()


@few
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.booleans())
def test_what_data_decides_is_a_lower_bound(values, inverse):
    x = torch.tensor(values)
    work, result = both("_unique2", x, True, inverse, False)
    assert work.is_bound
    assert work.bytes_read == distinct_bytes(x)
    assert work.bytes_written <= output_bytes(result)
    work, bins = both("bincount", x, None, 4)
    assert work.is_bound
    assert work.bytes_read == distinct_bytes(x)
    assert work.bytes_written <= output_bytes(bins)


# --- Fourier transforms.


def _transform(points):
    if len(points) == 1:
        return points
    even, odd = _transform(points[::2]), _transform(points[1::2])
    turned = [(a * 0.5 - b * 0.5, a * 0.5 + b * 0.5) for a, b in odd]
    high = [(a + c, b + d) for (a, b), (c, d) in zip(even, turned, strict=True)]
    return high + [(a - c, b - d) for (a, b), (c, d) in zip(even, turned, strict=True)]


def _radix_two(size):
    """FLOPs of one complex transform: a product is four products and two sums."""
    tally = {"flops": 0}
    _transform([(Number(1.0, tally), Number(2.0, tally)) for _ in range(size)])
    return tally["flops"]


POWERS = st.integers(0, 4).map(lambda power: 2**power)


@few
@given(st.lists(POWERS, min_size=1, max_size=3), st.data())
def test_complex_transforms_of_any_dimensions(shape, data):
    dims = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    x = torch.complex(torch.rand(shape), torch.rand(shape))
    work, result = both("_fft_c2c", x, dims, 0, True)
    assert compulsory(work) == (distinct_bytes(x), output_bytes(result))
    assert work.total_flops == sum(x.numel() // shape[dim] * _radix_two(shape[dim]) for dim in dims)


@few
@given(st.integers(1, 4), POWERS, st.integers(1, 4).map(lambda power: 2**power), st.booleans())
def test_real_transforms_and_back(batch, rows, columns, one_side):
    """The last dimension at half the price; the other over what is left of the spectrum."""
    x = torch.rand(batch, rows, columns, dtype=torch.float64)
    work, result = both("_fft_r2c", x, [1, 2], 0, one_side)
    assert compulsory(work) == (distinct_bytes(x), output_bytes(result))
    left = columns // 2 + 1
    flops = batch * rows * _radix_two(columns) // 2 + batch * left * _radix_two(rows)
    assert work.total_flops == flops
    half = torch.complex(*torch.rand(2, batch, rows, left, dtype=torch.float64))
    work, back = both("_fft_c2r", half, [1, 2], 0, columns)
    assert compulsory(work) == (distinct_bytes(half), output_bytes(back))
    assert work.total_flops == flops


@few
@given(st.integers(1, 200))
def test_a_transform_of_any_length_costs_between_its_neighbouring_powers(size):
    x = torch.complex(torch.rand(size), torch.rand(size))
    work, _ = both("_fft_c2c", x, [0], 0, True)
    below, above = 2 ** math.floor(math.log2(size)), 2 ** math.ceil(math.log2(size))
    assert _radix_two(below) <= work.total_flops <= _radix_two(above)


# --- Random numbers.


@few
@given(tensors(low=2), st.booleans())
def test_normal_numbers_about_broadcast_means(mean, per_column):
    deviation = torch.rand(mean.shape[-1:] if per_column else mean.shape, dtype=mean.dtype)
    result = torch.normal(mean, deviation)
    work = work_of(op_of("aten::normal", mean, deviation, None))
    assert compulsory(work) == (distinct_bytes(mean) + distinct_bytes(deviation), output_bytes(result))

    def definition(uniform, other, centre, width):
        drawn = root(special(uniform)) * special(other)  # Box and Muller: a radius and an angle
        return drawn, drawn * width + centre

    # Only what scales and shifts is arithmetic; drawing is two special functions.
    flops, specials = count(elementwise(definition), *[[0.5] * result.numel()] * 4)
    assert operations(work) == (flops - 2 * result.numel(), specials)


@pytest.mark.parametrize("name", ["poisson", "_standard_gamma"])
@few
@given(tensors())
def test_numbers_drawn_until_accepted_have_no_known_count(name, x):
    work, result = both(name, x)
    assert compulsory(work) == (distinct_bytes(x), output_bytes(result))
    assert work.flops is None


@few
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_draws_with_replacement(rows, choices, samples):
    x = torch.rand(rows, choices) + 0.1
    work, result = both("multinomial", x, samples, True)
    assert compulsory(work) == (distinct_bytes(x), output_bytes(result))
    assert work.is_bound


@few
@given(st.integers(0, 50), st.sampled_from([torch.int64, torch.int32]))
def test_a_permutation_is_written_once(length, dtype):
    result = torch.randperm(length, dtype=dtype)
    work = work_of(op_of("aten::randperm", length, dtype, None, None, None))
    assert compulsory(work) == (0, output_bytes(result))
    assert work.is_bound


@few
@given(tensors(), st.floats(0.1, 0.9))
def test_dropout_and_its_mask(x, share):
    work = work_of(op_of("aten::_fused_dropout", x, share, None))
    mask = torch.ones(x.shape, dtype=torch.uint8)
    assert compulsory(work) == (distinct_bytes(x), output_bytes(x) + output_bytes(mask))

    def definition(drawn, value):
        return value * bigger(drawn, share) * 2.0  # compared, masked, scaled

    assert operations(work) == count(elementwise(definition), [0.5] * x.numel(), [0.5] * x.numel())
