"""Work of copies, gathers, scatters, reductions, norms and losses against real tensors and counted definitions."""

import pytest
import torch
from counted import bigger, count, root, special
from derivation import distinct_bytes, op_of, output_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import costs
from diagnose.costs.registry import price

costs.load()

ATEN = torch.ops.aten


def work_of(op):
    """The op's compulsory work: its phases together, what its algorithm reads again taken off."""
    priced = price(op)
    assert priced.phases is not None, priced.reason
    total = priced.phases[0].work
    for phase in priced.phases[1:]:
        total = total + phase.work
    return total


def moved(work):
    return work.bytes_read - work.extra_bytes, work.bytes_written


DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.bool]
LAYOUTS = st.sampled_from(["dense", "transposed", "expanded", "sliced"])


@st.composite
def tensors(draw, min_dims=1, dtypes=DTYPES):
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=min_dims, max_size=4)))
    dtype, layout = draw(st.sampled_from(dtypes)), draw(LAYOUTS)
    if layout == "transposed":
        return torch.ones(tuple(reversed(shape)), dtype=dtype).permute(*reversed(range(len(shape))))
    if layout == "expanded":
        return torch.ones((1, *shape[1:]), dtype=dtype).expand(shape)
    if layout == "sliced":
        return torch.ones((*shape[:-1], shape[-1] * 3), dtype=dtype)[..., ::3]
    return torch.ones(shape, dtype=dtype)


# Copies: name, what follows the tensor. The op only moves.
COPIES = [
    ("clone", ()), ("repeat", ([2, 1, 3],)), ("roll", ([1], [0])), ("flip", ([0],)),
    ("constant_pad_nd", ([1, 2], 0.0)), ("constant_pad_nd", ([0, 0, 3, 1], 0.0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rest"), COPIES)
@settings(max_examples=15, deadline=None)
@given(tensors(min_dims=2))
def test_copies_read_what_exists_and_write_what_they_return(name, rest, tensor):
    if name == "repeat":
        rest = ([2, *[1] * (tensor.dim() - 2), 3],)
    work = work_of(op_of(f"aten::{name}", tensor, *rest))
    assert moved(work) == (distinct_bytes(tensor), output_bytes(getattr(ATEN, name)(tensor, *rest)))
    assert work.flops == ()


def test_padding_by_less_than_nothing_reads_only_what_is_kept():
    x = torch.rand(4, 6)
    work = work_of(op_of("aten::constant_pad_nd", x, [-1, -2], 0.0))
    assert moved(work) == (distinct_bytes(x[:, 1:4]), output_bytes(ATEN.constant_pad_nd(x, [-1, -2], 0.0)))


@settings(max_examples=30, deadline=None)
@given(tensors(), st.sampled_from(DTYPES))
def test_copy_reads_the_source_and_writes_the_target(source, dtype):
    target = torch.empty((2, *source.shape), dtype=dtype)
    assert moved(work_of(op_of("aten::copy_", target, source, False))) == (
        distinct_bytes(source),
        distinct_bytes(target.copy_(source)),
    )


@settings(max_examples=20, deadline=None)
@given(tensors(), st.sampled_from(DTYPES))
def test_a_cast_writes_the_new_dtype(x, dtype):
    work = work_of(op_of("aten::_to_copy", x, dtype))
    assert moved(work) == (distinct_bytes(x), output_bytes(ATEN._to_copy(x, dtype=dtype)))


@settings(max_examples=20, deadline=None)
@given(tensors(dtypes=[torch.float32]), st.sampled_from([torch.float32, torch.bfloat16, torch.int64]))
def test_cat_and_stack_read_all_and_write_all(x, dtype):
    other = torch.ones(x.shape, dtype=dtype)
    for name in ("cat", "stack"):
        work = work_of(op_of(f"aten::{name}", [x, other], 0))
        result = getattr(torch, name)([x, other], 0) if name == "cat" else torch.stack([x, other.to(x.dtype)])
        assert moved(work) == (distinct_bytes(x) + distinct_bytes(other), output_bytes(result))


UPSAMPLES = [("upsample_nearest2d", [8, 12]), ("upsample_nearest2d", [2, 3]), ("upsample_bicubic2d", [8, 8])]


@pytest.mark.parametrize(("name", "size"), UPSAMPLES)
def test_resampling_reads_no_more_than_it_needs(name, size):
    x = torch.rand(2, 3, 4, 6)
    rest = (size, None, None) if "nearest" in name else (size, False, None, None)
    result = getattr(ATEN, name)(x, *rest)
    expected = min(distinct_bytes(x), output_bytes(result)) if "nearest" in name else distinct_bytes(x)
    assert moved(work_of(op_of(f"aten::{name}", x, *rest))) == (expected, output_bytes(result))


def test_bilinear_weights_four_taps():
    x = torch.rand(1, 1, 3, 3)
    result = ATEN.upsample_bilinear2d(x, [6, 6], False, None, None)
    work = work_of(op_of("aten::upsample_bilinear2d", x, [6, 6], False, None, None))

    def blend(taps):
        for _ in range(36):
            a, b, c, d = taps[:4]
            0.5 * (0.5 * a + 0.5 * b) + 0.5 * (0.5 * c + 0.5 * d)

    assert dict(work.flops)["vector.float32"] == count(blend, [1.0] * 4)[0]
    assert work.bytes_written == output_bytes(result)


def test_columns_of_an_image_and_back():
    x = torch.rand(2, 3, 6, 7)
    columns = ATEN.im2col(x, [3, 3], [1, 1], [1, 1], [2, 2])
    work = work_of(op_of("aten::im2col", x, [3, 3], [1, 1], [1, 1], [2, 2]))
    assert moved(work) == (distinct_bytes(x), output_bytes(columns))
    back = work_of(op_of("aten::col2im", columns, [6, 7], [3, 3], [1, 1], [1, 1], [2, 2]))
    result = ATEN.col2im(columns, [6, 7], [3, 3], [1, 1], [1, 1], [2, 2])
    assert moved(back) == (distinct_bytes(columns), output_bytes(result))


# Gathers: distinct rows looked up, counted by what the indices really name (all different here).
@pytest.mark.parametrize("indices", [3, 7, 20])
def test_an_embedding_is_charged_for_no_more_rows_than_there_are_or_were_asked_for(indices):
    table, wanted = torch.rand(10, 4), torch.arange(indices) % 10
    touched = distinct_bytes(table[: len(set(wanted.tolist()))])
    for op, result in (
        (op_of("aten::embedding", table, wanted), ATEN.embedding(table, wanted)),
        (op_of("aten::index_select", table, 0, wanted), ATEN.index_select(table, 0, wanted)),
        (op_of("aten::index", table, [wanted]), ATEN.index(table, [wanted])),
    ):
        assert moved(work_of(op)) == (touched + distinct_bytes(wanted), output_bytes(result))


def test_index_select_along_another_dimension_of_an_expanded_tensor():
    x, wanted = torch.rand(5, 1, 4).expand(5, 3, 4), torch.tensor([0, 2])
    work = work_of(op_of("aten::index_select", x, 2, wanted))
    touched = len({5 * 0 + row * 4 + int(column) for row in range(5) for column in wanted}) * x.element_size()
    assert moved(work) == (touched + distinct_bytes(wanted), output_bytes(x.index_select(2, wanted)))


def test_index_by_several_tensors_broadcasts_them():
    x = torch.rand(4, 5, 6)
    rows, columns = torch.tensor([[0], [1]]), torch.tensor([0, 1, 2])
    for indices in ([rows, columns], [None, rows, columns], [rows, None, columns]):
        work = work_of(op_of("aten::index", x, indices))
        written = output_bytes(ATEN.index(x, indices))
        assert moved(work) == (written + distinct_bytes(rows) + distinct_bytes(columns), written)


def test_gather_and_take_with_expanded_indices():
    x, wanted = torch.rand(20, 6), torch.arange(4)[:, None].expand(4, 6)
    gather = work_of(op_of("aten::gather", x, 0, wanted, False))
    assert moved(gather) == (
        output_bytes(x.gather(0, wanted)) + distinct_bytes(wanted),
        output_bytes(x.gather(0, wanted)),
    )
    take = work_of(op_of("aten::take", x, wanted))
    assert take.bytes_written == output_bytes(x.take(wanted))


def test_scatters_touch_only_what_is_indexed():
    x, source = torch.zeros(8, 6), torch.rand(3, 6)
    wanted = torch.tensor([1, 4, 6])[:, None].expand(3, 6)
    touched = int((x.scatter(0, wanted, 1.0) != 0).sum()) * 4
    scatter = work_of(op_of("aten::scatter_", x, 0, wanted, source))
    assert moved(scatter) == (distinct_bytes(wanted) + distinct_bytes(source), touched)
    added = work_of(op_of("aten::scatter_add_", x, 0, wanted, source))
    assert moved(added) == (distinct_bytes(wanted) + distinct_bytes(source) + touched, touched)
    assert dict(added.flops) == {"vector.float32": source.numel()}
    rows = torch.tensor([1, 4, 6])
    index_add = work_of(op_of("aten::index_add_", x, 0, rows, source))
    assert moved(index_add) == (distinct_bytes(rows) + distinct_bytes(source) + touched, touched)
    put = work_of(op_of("aten::_index_put_impl_", x, [rows], source, False))
    assert moved(put) == (distinct_bytes(rows) + distinct_bytes(source), touched)


def test_an_embeddings_gradient_writes_the_rows_that_were_looked_up():
    gradient, wanted = torch.rand(7, 4), torch.tensor([0, 3, 5, 6, 8, 1, 2])
    result = ATEN.embedding_dense_backward(gradient, wanted, 50, -1, False)
    work = work_of(op_of("aten::embedding_dense_backward", gradient, wanted, 50, -1, False))
    assert moved(work) == (distinct_bytes(gradient) + distinct_bytes(wanted), int((result != 0).sum()) * 4)


# Reductions: name, arguments after the tensor, the definition over one row.
def _sum(row):
    total = 0.0
    for x in row:
        total = x + total


def _largest(row):
    best = row[0]
    for x in row:
        best = bigger(x, best)


def _squares(row):
    total = 0.0
    for x in row:
        total = x * x + total


def _logsumexp(row):
    best, total = row[0], 0.0
    for x in row:
        best = bigger(x, best)
    for x in row:
        total = special(x - best) + total


def _variance(row):
    total, spread = 0.0, 0.0
    for x in row:
        total = x + total
    for x in row:
        d = x - 0.5
        spread = d * d + spread


REDUCTIONS = [
    ("sum", ([-1], True), _sum), ("sum", ([0, 1], False), _sum), ("mean", ([-1], False), _sum),
    ("amax", ([-1], False), _largest), ("amin", ([0], True), _largest), ("max", (1, False), _largest),
    ("min", (0, True), _largest), ("argmax", (1, False), _largest), ("argmin", (), _largest),
    ("linalg_vector_norm", (2, [1], True), _squares), ("logsumexp", ([1], False), _logsumexp),
    ("var", ([1], 1, True), _variance), ("var_mean", ([1], 1, False), _variance), ("std", ([0], 1, False), _variance),
    ("prod", (1, False), _sum), ("cumsum", (1,), _sum), ("max", (), _largest), ("sum", (), _sum),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rest", "definition"), REDUCTIONS)
def test_reductions_count_every_input_element_once(name, rest, definition):
    x = torch.rand(4, 6)
    operator = {"var": ATEN.var.correction, "std": ATEN.std.correction, "var_mean": ATEN.var_mean.correction}.get(name)
    if operator is None:
        result = getattr(ATEN, name)(x, *rest)
    else:
        result = operator(x, rest[0], correction=rest[1], keepdim=rest[2])
    work = work_of(op_of(f"aten::{name}", x, *rest))
    flops, specials = count(definition, x.reshape(-1).tolist())
    assert dict(work.flops) == {k: v for k, v in {"vector.float32": flops, "special": specials}.items() if v}
    assert moved(work) == (distinct_bytes(x), output_bytes(result))


@settings(max_examples=40, deadline=None)
@given(tensors(), st.sampled_from(["sum", "prod", "any", "all", "amax", "argmax"]), st.integers(0, 3), st.booleans())
def test_reductions_of_any_layout_and_dtype_write_torchs_result(x, name, dim, keepdim):
    dim %= x.dim()
    if x.dtype == torch.bool and name == "argmax":
        return  # torch has none
    rest = ([dim] if name in ("sum", "amax") else dim, keepdim)
    work = work_of(op_of(f"aten::{name}", x, *rest))
    assert moved(work) == (distinct_bytes(x), output_bytes(getattr(ATEN, name)(x, *rest)))


def test_sum_in_another_dtype():
    x = torch.rand(4, 6)
    assert work_of(op_of("aten::sum", x, [1], False, torch.float64)).bytes_written == 4 * 8
    assert work_of(op_of("aten::sum", x, torch.float64)).bytes_written == 8


def test_sorting_is_a_bound_without_flops():
    x = torch.rand(4, 6)
    topk = price(op_of("aten::topk", x, 2, -1, True, True)).phases[0].work
    assert topk.is_bound
    assert topk.flops is None
    assert moved(topk) == (distinct_bytes(x), output_bytes(ATEN.topk(x, 2)))
    assert moved(work_of(op_of("aten::sort", x, 1, False))) == (distinct_bytes(x), output_bytes(ATEN.sort(x, 1)))


POOLINGS = [
    ([3, 3], [2, 2], [1, 1], False), ([2, 2], [2, 2], [0, 0], True), ([3, 3], [2, 2], [1, 1], True),
    ([5, 4], [3, 2], [2, 1], True), ([1, 1], [3, 3], [0, 0], False), ([1, 1], [3, 3], [0, 0], True),
]  # fmt: skip


def _padded_pairs(size, kernel, stride, padding, ceil_mode):
    """Pairs of output and real input along both dimensions, by pooling a picture of ones."""
    ones = torch.ones(1, 1, *size)
    sums = torch.nn.functional.avg_pool2d(ones, kernel, stride, padding, ceil_mode, divisor_override=1)
    return int(sums.sum())


@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil_mode"), POOLINGS)
@settings(max_examples=6, deadline=None)
@given(st.integers(5, 11), st.integers(5, 11))
def test_pooling_compares_the_elements_of_each_window(kernel, stride, padding, ceil_mode, height, width):
    x = torch.rand(2, 3, height, width)
    pairs = 6 * _padded_pairs((height, width), kernel, stride, padding, ceil_mode)
    values, indices = ATEN.max_pool2d_with_indices(x, kernel, stride, padding, [1, 1], ceil_mode)
    work = work_of(op_of("aten::max_pool2d_with_indices", x, kernel, stride, padding, [1, 1], ceil_mode))
    assert moved(work) == (distinct_bytes(x), output_bytes([values, indices]))
    assert dict(work.flops) == {"vector.float32": pairs}
    average = work_of(op_of("aten::avg_pool2d", x, kernel, stride, padding, ceil_mode, True, None))
    assert moved(average) == (distinct_bytes(x), output_bytes(values))
    assert dict(average.flops) == {"vector.float32": pairs + values.numel()}
    gradient = work_of(
        op_of("aten::max_pool2d_with_indices_backward", values, x, kernel, stride, padding, [1, 1], ceil_mode, indices)
    )
    assert moved(gradient) == (distinct_bytes(values) + distinct_bytes(indices), distinct_bytes(x))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_adaptive_pooling_windows_overlap_where_they_must(height, width, outputs):
    x = torch.rand(2, 3, height, width)
    result = ATEN._adaptive_avg_pool2d(x, [outputs, outputs])
    work = work_of(op_of("aten::_adaptive_avg_pool2d", x, [outputs, outputs]))
    windows = [
        sum(i * size // outputs <= at < -(-(i + 1) * size // outputs) for i in range(outputs) for at in range(size))
        for size in (height, width)
    ]
    assert moved(work) == (distinct_bytes(x), output_bytes(result))
    assert dict(work.flops) == {"vector.float32": 6 * windows[0] * windows[1] + result.numel()}


# Softmax and norms ---------------------------------------------------------------------------------------------------


def _softmax_row(row):
    best, total, raised = row[0], 0.0, []
    for x in row:
        best = bigger(x, best)
    for x in row:
        raised.append(special(x - best))
        total = raised[-1] + total
    for e in raised:
        e / total


def _softmax_gradient(gradients, row):
    total = 0.0
    for g, y in zip(gradients, row, strict=True):
        total = g * y + total
    for g, y in zip(gradients, row, strict=True):
        (g - total) * y


def _log_softmax_gradient(gradients, row):
    total = 0.0
    for g in gradients:
        total = g + total
    for g, y in zip(gradients, row, strict=True):
        g - special(y) * total


@settings(max_examples=20, deadline=None)
@given(tensors(min_dims=2, dtypes=[torch.float32, torch.bfloat16]))
def test_softmax_and_its_gradient(x):
    for name in ("_softmax", "_log_softmax"):
        work = work_of(op_of(f"aten::{name}", x, -1, False))
        y = getattr(ATEN, name)(x, -1, False)
        flops, specials = count(_softmax_row, x.reshape(-1).tolist())
        assert dict(work.flops) == {"vector.float32": flops, "special": specials}
        assert moved(work) == (distinct_bytes(x), output_bytes(y))
        gradient = work_of(op_of(f"aten::{name}_backward_data", y, y, -1, x.dtype))
        definition = _log_softmax_gradient if "log" in name else _softmax_gradient
        expected = count(definition, y.reshape(-1).tolist(), y.reshape(-1).tolist())
        assert sum(dict(gradient.flops).values()) == sum(expected)
        assert moved(gradient) == (2 * distinct_bytes(y), output_bytes(y))


def _norm_row(row, *affine):
    total, spread = 0.0, 0.0
    for x in row:
        total = x + total
    for x in row:
        d = x - 0.5
        spread = d * d + spread
    for place, x in enumerate(row):
        y = (x - 0.5) * 2.0
        for kind, parameter in enumerate(affine):
            y = y + parameter[place] if kind else y * parameter[place]


@pytest.mark.parametrize("parameters", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layer_norm(parameters, dtype):
    x, weight, bias = (torch.rand(size, dtype=dtype) for size in ((3, 4, 8), 8, 8))
    affine = [weight if parameters > 0 else None, bias if parameters > 1 else None]
    result = ATEN.native_layer_norm(x, [8], *affine, 1e-5)
    work = work_of(op_of("aten::native_layer_norm", x, [8], *affine, 1e-5))
    row = [0.5] * x.numel()
    flops, _ = count(_norm_row, row, *[row] * parameters)
    assert [count for _, count in work.flops] == [flops]
    assert moved(work) == (sum(distinct_bytes(t) for t in (x, *affine) if t is not None), output_bytes(result))

    gradient = torch.rand_like(x)
    rest = (x, [8], result[1], result[2], *affine, [True, parameters > 0, parameters > 1])
    gradients = ATEN.native_layer_norm_backward(gradient, *rest)
    backward = work_of(op_of("aten::native_layer_norm_backward", gradient, *rest))
    read = [gradient, x, result[1], result[2], *([weight] if parameters else [])]
    assert moved(backward) == (sum(map(distinct_bytes, read)), output_bytes([g for g in gradients if g is not None]))


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_and_its_gradient(training):
    x = torch.rand(4, 3, 5, 6)
    weight, bias, mean, variance = (torch.rand(3) for _ in range(4))
    rest = (weight, bias, mean, variance, training, 0.1, 1e-5)
    y, saved_mean, saved_rstd = ATEN.native_batch_norm(x, *rest)
    work = work_of(op_of("aten::native_batch_norm", x, *rest))
    parameters = [weight, bias, mean, variance]
    moving = output_bytes([mean, variance]) if training else 0  # the running statistics are updated in place
    assert moved(work) == (
        sum(map(distinct_bytes, (x, *parameters))),
        output_bytes([y, saved_mean, saved_rstd]) + moving,
    )
    statistics = [saved_mean, saved_rstd] if training else [mean, variance]
    gradient_rest = (x, weight, mean, variance, saved_mean, saved_rstd, training, 1e-5, [True, True, True])
    gradients = ATEN.native_batch_norm_backward(y, *gradient_rest)
    backward = work_of(op_of("aten::native_batch_norm_backward", y, *gradient_rest))
    assert moved(backward) == (sum(map(distinct_bytes, (y, x, weight, *statistics))), output_bytes(gradients))


def test_batch_norm_reads_its_input_again_only_where_a_second_kernel_does():
    x = torch.rand(4, 3, 5, 6)
    rest = (torch.rand(3), torch.rand(3), torch.rand(3), torch.rand(3), True, 0.1, 1e-5)
    assert work_of(op_of("aten::native_batch_norm", x, *rest)).extra_bytes == distinct_bytes(x)
    assert work_of(op_of("aten::cudnn_batch_norm", x, *rest)).extra_bytes == 0


def test_group_norm():
    x, weight, bias = torch.rand(2, 6, 5), torch.rand(6), torch.rand(6)
    rest = (weight, bias, 2, 6, 5, 3, 1e-5)
    work = work_of(op_of("aten::native_group_norm", x, *rest))
    assert moved(work) == (
        sum(map(distinct_bytes, (x, weight, bias))),
        output_bytes(ATEN.native_group_norm(x, *rest)),
    )


def test_rms_norm():
    x, weight = torch.rand(3, 8), torch.rand(8)
    y = torch.nn.functional.rms_norm(x, [8], weight)
    work = work_of(op_of("aten::_fused_rms_norm", x, [8], weight, 1e-5))

    def definition(row, scale):
        total = 0.0
        for a in row:
            total = a * a + total
        for a, w in zip(row, scale, strict=True):
            a * 2.0 * w

    assert [n for _, n in work.flops] == [count(definition, [0.5] * 24, [0.5] * 24)[0]]
    assert moved(work) == (distinct_bytes(x) + distinct_bytes(weight), output_bytes(y) + 3 * 4)


# Losses and optimizers ------------------------------------------------------------------------------------------------


def test_nll_loss_looks_up_one_element_a_target():
    x, target = torch.rand(5, 100), torch.tensor([3, 1, 99, 0, 7])
    work = work_of(op_of("aten::nll_loss_forward", x, target, None, 1, -100))
    picked = distinct_bytes(x.gather(1, target[:, None]))
    assert moved(work) == (
        picked + distinct_bytes(target),
        output_bytes(ATEN.nll_loss_forward(x, target, None, 1, -100)),
    )


@pytest.mark.parametrize("how", [0, 1, 2])
def test_mse_loss_and_its_gradient(how):
    x, target = torch.rand(5, 6), torch.rand(5, 6)
    result = ATEN.mse_loss(x, target, how)
    work = work_of(op_of("aten::mse_loss", x, target, how))
    assert moved(work) == (distinct_bytes(x) + distinct_bytes(target), output_bytes(result))
    backward = work_of(op_of("aten::mse_loss_backward", result, x, target, how))
    assert moved(backward) == (
        sum(map(distinct_bytes, (result, x, target))),
        output_bytes(ATEN.mse_loss_backward(result, x, target, how)),
    )


def _adamw(parameters, gradients, first, second):
    for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
        p = p * 0.99  # noqa: PLW2901  (weight decay)
        m = m * 0.9 + 0.1 * g  # noqa: PLW2901
        v = v * 0.99 + (g * 0.01) * g  # noqa: PLW2901
        p - 0.001 * m / (root(v) / 0.5 + 1e-8)


def test_a_fused_adamw_step():
    shapes = [(3, 4), (5,), (2, 2)]
    lists = [[torch.rand(shape) for shape in shapes] for _ in range(4)]
    steps = [torch.ones(()) for _ in shapes]
    rest = (0.001, 0.9, 0.999, 0.01, 1e-8, False, False, None, None)
    before = [[tensor.clone() for tensor in tensors] for tensors in lists]
    torch._fused_adamw_(*lists, [], steps, lr=0.001, beta1=0.9, beta2=0.999, weight_decay=0.01, eps=1e-8,
                        amsgrad=False, maximize=False)  # fmt: skip
    changed = [now for tensors, old in zip(lists, before, strict=True) for now, was in zip(tensors, old, strict=True)
               if not torch.equal(now, was)]  # fmt: skip
    work = work_of(op_of("aten::_fused_adamw_", *lists, [], steps, *rest))
    flat = [0.5] * sum(tensor.numel() for tensor in lists[0])
    assert dict(work.flops) == {"vector.float32": count(_adamw, flat, flat, flat, flat)[0]}
    every = [tensor for tensors in (*lists, steps) for tensor in tensors]
    assert moved(work) == (sum(map(distinct_bytes, every)), sum(map(distinct_bytes, changed)))


@pytest.mark.parametrize(("name", "lists", "rest"), [
    ("add_", 2, (1,)), ("mul_", 1, (0.5,)), ("addcmul_", 3, (0.5,)), ("sqrt", 1, ()), ("copy_", 2, ()),
    ("zero_", 1, ()), ("lerp_", 2, (0.3,)), ("norm", 1, (2,)),
])  # fmt: skip
def test_foreach_ops_move_each_list_once(name, lists, rest):
    arguments = [[torch.rand(3, 4), torch.rand(5)] for _ in range(lists)]
    scalars = {"add_": {"alpha": 1}, "addcmul_": {"value": 0.5}}.get(name)
    operator = getattr(torch, f"_foreach_{name}")
    result = operator(*arguments, **scalars) if scalars else operator(*arguments, *rest)
    work = work_of(op_of(f"aten::_foreach_{name}", *arguments, *rest))
    overwrites = name in ("copy_", "zero_")
    read = arguments[1:] if overwrites else arguments
    written = arguments[0] if name.endswith("_") else result
    assert moved(work) == (
        sum(distinct_bytes(tensor) for tensors in read for tensor in tensors),
        output_bytes(list(written)),
    )
