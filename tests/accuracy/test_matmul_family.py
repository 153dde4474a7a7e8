"""Matrix products against torch: what it counts, what it returns, and what real tensors have in storage."""

import pytest
import torch
from derivation import distinct_bytes, op_of, output_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from diagnose.costs import matmul  # noqa: F401
from diagnose.costs.registry import price

SIZES = st.integers(1, 9)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])
LAYOUTS = st.sampled_from(["dense", "transposed", "sliced", "row expanded", "all expanded"])


def made(shape, dtype, layout="dense"):
    *batch, rows, columns = shape
    if layout == "transposed":
        return torch.randn(*batch, columns, rows).to(dtype).transpose(-1, -2)
    if layout == "sliced":
        return torch.randn(*batch, rows, columns + 3).to(dtype)[..., 1 : columns + 1]
    if layout == "row expanded":
        return torch.randn(*batch, 1, columns).to(dtype).expand(*shape)
    if layout == "all expanded":
        return torch.randn(()).to(dtype).expand(*shape)
    return torch.randn(*shape).to(dtype)


def main(name, *args):
    found = price(op_of(name, *args))
    assert found.phases is not None, found.reason
    return next(phase.work for phase in found.phases if not phase.is_extra)


def counted(function, *args, **kwargs):
    with FlopCounterMode(display=False) as counter:
        result = function(*args, **kwargs)
    return counter.get_total_flops(), result


def agree(name, function, args, read, **kwargs):
    flops, result = counted(function, *args, **kwargs)
    work = main(name, *args, *kwargs.values())
    assert work.total_flops == flops
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in read)
    assert work.bytes_written == output_bytes(result)


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES, SIZES, DTYPES, LAYOUTS, LAYOUTS)
def test_mm(m, k, n, dtype, left, right):
    a, b = made((m, k), dtype, left), made((k, n), dtype, right)
    agree("aten::mm", torch.mm, (a, b), (a, b))


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(1, 4), SIZES, SIZES, SIZES), DTYPES, LAYOUTS, st.booleans())
def test_bmm(sizes, dtype, left, shares_batch):
    batch, m, k, n = sizes
    a = made((batch, m, k), dtype, left)
    b = made((1, k, n), dtype).expand(batch, k, n) if shares_batch else made((batch, k, n), dtype)
    agree("aten::bmm", torch.bmm, (a, b), (a, b))


@settings(max_examples=30, deadline=None)
@given(st.tuples(SIZES, SIZES, SIZES), DTYPES, LAYOUTS, st.sampled_from([0, 1, 0.5]), st.booleans())
def test_addmm(sizes, dtype, layout, beta, is_bias):
    m, k, n = sizes
    a, b = made((m, k), dtype), made((k, n), dtype)
    addend = made((1, n), dtype)[0] if is_bias else made((m, n), dtype, layout)
    read = (a, b) if beta == 0 else (addend, a, b)
    agree("aten::addmm", torch.addmm, (addend, a, b), read, beta=beta, alpha=1)


def test_a_self_with_beta_zero_is_not_read():
    poison = torch.full((3, 4), float("nan"))
    assert not torch.addmm(poison, torch.ones(3, 2), torch.ones(2, 4), beta=0).isnan().any()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), SIZES, SIZES, SIZES, DTYPES)
def test_baddbmm(batch, m, k, n, dtype):
    addend, a, b = made((1, n), dtype)[0], made((batch, m, k), dtype), made((batch, k, n), dtype)
    agree("aten::baddbmm", torch.baddbmm, (addend, a, b), (addend, a, b), beta=1, alpha=1)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), SIZES, SIZES, SIZES)
def test_addbmm(batch, m, k, n):
    addend = torch.randn(m, n)
    a, b = torch.randn(batch, m, k), torch.randn(batch, k, n)
    flops, result = counted(lambda: sum(torch.mm(x, y) for x, y in zip(a, b, strict=True)))
    work = main("aten::addbmm", addend, a, b, 1, 1)
    assert work.total_flops == flops
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in (addend, a, b))
    assert work.bytes_written == output_bytes(result)


@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES, LAYOUTS)
def test_mv_and_addmv(m, k, layout):
    a, x, y = made((m, k), torch.float32, layout), torch.randn(k), torch.randn(m)
    flops, _ = counted(torch.mm, a, x[:, None])
    for name, args, result in (
        ("aten::mv", (a, x), torch.mv(a, x)),
        ("aten::addmv", (y, a, x, 1, 1), torch.addmv(y, a, x)),
    ):
        work = main(name, *args)
        assert work.total_flops == flops
        assert work.bytes_read == sum(distinct_bytes(t) for t in args if isinstance(t, torch.Tensor))
        assert work.bytes_written == output_bytes(result)


@settings(max_examples=20, deadline=None)
@given(SIZES, st.integers(1, 3))
def test_dot(k, step):
    x, y = torch.randn(k * step)[::step], torch.randn(1).expand(k)
    work = main("aten::dot", x, y)
    flops, _ = counted(torch.mm, x[None], y[:, None])
    assert work.total_flops == flops
    assert work.bytes_read == distinct_bytes(x) + distinct_bytes(y)
    assert work.bytes_written == output_bytes(torch.dot(x, y))


@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES)
def test_outer_and_addr(m, n):
    x, y, z = torch.randn(m), torch.randn(n), torch.randn(m, n)
    multiplications = sum(1 for _ in x for _ in y)
    assert main("aten::outer", x, y).total_flops == multiplications
    work = main("aten::addr", z, x, y, 1, 1)
    assert work.total_flops == 2 * multiplications
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in (x, y, z))
    assert work.bytes_written == output_bytes(torch.addr(z, x, y))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(
        [
            ((4, 3), (3, 5)),
            ((2, 4, 3), (3, 5)),
            ((2, 1, 4, 3), (6, 3, 5)),
            ((3,), (3,)),
            ((4, 3), (3,)),
            ((3,), (2, 3, 5)),
        ]
    ),
    DTYPES,
)
def test_matmul(shapes, dtype):
    a, b = (torch.randn(*shape).to(dtype) for shape in shapes)
    result = torch.matmul(a, b)
    work = main("aten::matmul", a, b)
    k = a.shape[-1]
    assert work.total_flops == 2 * k * max(result.numel(), 1)
    assert work.bytes_read == distinct_bytes(a) + distinct_bytes(b)
    assert work.bytes_written == output_bytes(result)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=3), SIZES, SIZES, DTYPES, st.booleans())
def test_linear(batch, k, n, dtype, has_bias):
    x, w = torch.randn(*batch, k).to(dtype), torch.randn(n, k).to(dtype)
    bias = torch.randn(n).to(dtype) if has_bias else None
    result = torch.nn.functional.linear(x, w, bias)
    work = main("aten::linear", x, w, bias)
    flops, _ = counted(torch.mm, x.reshape(-1, k), w.t())
    assert work.total_flops == flops
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in (x, w, bias) if tensor is not None)
    assert work.bytes_written == output_bytes(result)


@settings(max_examples=10, deadline=None)
@given(st.integers(17, 40), st.integers(1, 4), st.integers(1, 4))
def test_int_mm(m, k, n):
    a = torch.ones(m, 8 * k, dtype=torch.int8)
    b = torch.ones(8 * k, 8 * n, dtype=torch.int8)
    result = torch._int_mm(a, b)
    work = main("aten::_int_mm", a, b)
    assert work.total_flops == 2 * int(result.sum())  # of ones, the result counts its own multiply-adds
    assert work.bytes_read == distinct_bytes(a) + distinct_bytes(b)
    assert work.bytes_written == output_bytes(result)


@pytest.mark.parametrize("out_dtype", [torch.bfloat16, torch.float32])
def test_scaled_mm(out_dtype):
    a = torch.ones(16, 32).to(torch.float8_e4m3fn)
    b = torch.ones(48, 32).to(torch.float8_e4m3fn).t()
    one = torch.tensor(1.0)
    flops, result = counted(torch._scaled_mm, a, b, one, one, out_dtype=out_dtype)
    work = main("aten::_scaled_mm", a, b, one, one, None, None, out_dtype, False)
    assert work.total_flops == flops
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in (a, b, one, one))
    assert work.bytes_written == output_bytes(result)


@pytest.mark.parametrize(
    ("left", "right", "ends"),
    [
        ((32, 16), (2, 16, 24), (8, 32)),
        ((2, 32, 16), (16, 24), (8, 24)),
        ((32, 16), (16, 24), (8, 16)),
        ((2, 32, 16), (2, 16, 24), None),
    ],
)
def test_grouped_mm(left, right, ends):
    a = torch.ones(*left).bfloat16()
    b = torch.ones(*right).bfloat16().transpose(-1, -2).contiguous().transpose(-1, -2)
    offs = None if ends is None else torch.tensor(ends, dtype=torch.int32)
    result = torch._grouped_mm(a, b, offs=offs)
    work = main("aten::_grouped_mm", a, b, offs, None, None)
    assert work.total_flops == 2 * int(result.float().sum())  # of ones, the result counts its own multiply-adds
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in (a, b, offs) if tensor is not None)
    assert work.bytes_written == output_bytes(result)


def test_complex_products_are_four_real_ones():
    a, b = torch.randn(4, 3, dtype=torch.complex64), torch.randn(3, 5, dtype=torch.complex64)
    real, _ = counted(lambda: [torch.mm(x, y) for x in (a.real, a.imag) for y in (b.real, b.imag)])
    assert main("aten::mm", a, b).total_flops == real


@settings(max_examples=10, deadline=None)
@given(SIZES, SIZES, SIZES)
def test_onednn_linear(m, k, n):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    x, w, bias = torch.randn(m, k), torch.randn(n, k), torch.randn(n)
    result = torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], None)
    work = main("mkldnn::_linear_pointwise", x, w, bias, "none", (), None)
    assert work.total_flops == counted(torch.addmm, bias, x, w.t())[0]
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in (x, w, bias))
    assert work.bytes_written == output_bytes(result)
