"""Fused ops of serving libraries against their definitions: FLOPs counted number by number, bytes offset by offset."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diagnose import costs
from diagnose.costs.registry import price
from tests.accuracy.counted import Number, bigger, smaller, special
from tests.accuracy.derivation import distinct_bytes, op_of

costs.load()

DTYPES = st.sampled_from([torch.bfloat16, torch.float16, torch.float32])
SIZES = st.integers(1, 6)


def work_of(name, *args):
    found = price(op_of(name, *args))
    assert found.phases is not None, found.reason
    (phase,) = [phase for phase in found.phases if not phase.is_extra]
    return phase.work


def padded(rows, columns, dtype, padding):
    """A view of the first columns of a wider tensor, as slices of a fused projection are."""
    return torch.zeros(rows, columns + padding, dtype=dtype)[:, :columns]


def counts(work):
    flops = dict(work.flops)
    transcendental = flops.pop("special", 0)
    return sum(flops.values()), transcendental


def numbers(count, tally):
    return [Number(0.5 + 0.1 * place, tally) for place in range(count)]


def rms_norm(row, weights, tally):
    """One row; what is done once a row (mean, root, division) is left out, as everywhere."""
    total = Number(0.0, tally)
    for x in row:
        total = total + x * x
    inverse = (total.value / len(row) + 1e-5) ** -0.5
    return [x * inverse * w for x, w in zip(row, weights, strict=True)]


@given(rows=SIZES, columns=SIZES, padding=st.integers(0, 3), dtype=DTYPES)
def test_fused_add_rms_norm(rows, columns, padding, dtype):
    x, residual = padded(rows, columns, dtype, padding), torch.zeros(rows, columns, dtype=dtype)
    weight = torch.ones(columns, dtype=dtype)
    work = work_of("_C::fused_add_rms_norm", x, residual, weight, 1e-5)
    tally = Counter()
    for _ in range(rows):
        added = [a + b for a, b in zip(numbers(columns, tally), numbers(columns, tally), strict=True)]
        rms_norm(added, numbers(columns, tally), tally)
    assert counts(work) == (tally["flops"], tally["special"])
    assert work.bytes_read == distinct_bytes(x) + distinct_bytes(residual) + distinct_bytes(weight)
    assert work.bytes_written == distinct_bytes(x) + distinct_bytes(residual)


@given(tokens=SIZES, heads=SIZES, key_heads=SIZES, half=st.integers(1, 4), rest=st.integers(0, 2), dtype=DTYPES)
def test_rotary_embedding(tokens, heads, key_heads, half, rest, dtype):
    head = 2 * half + 2 * rest
    query, key = padded(tokens, heads * head, dtype, 3), padded(tokens, key_heads * head, dtype, 5)
    table = torch.zeros(64, 2 * half, dtype=dtype)
    positions = torch.arange(tokens)
    work = work_of("_C::rotary_embedding", positions, query, key, head, table, True)
    tally = Counter()
    touched = 0
    for tensor in (query, key):
        for _ in range(tokens * (tensor.shape[1] // head) * half):
            x, y, cosine, sine = numbers(4, tally)
            _rotated = x * cosine - y * sine, y * cosine + x * sine
            touched += 2 * tensor.element_size()
    assert counts(work) == (tally["flops"], 0)
    looked_up = distinct_bytes(table[positions])
    assert work.bytes_read == distinct_bytes(positions) + looked_up + touched
    assert work.bytes_written == touched


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("silu_and_mul", lambda x: x / (1 + special(-x))),
        ("fatrelu_and_mul", lambda x: bigger(x, 0.1)),
    ],
)
@given(rows=SIZES, columns=SIZES, dtype=DTYPES)
def test_gated_activations(name, activation, rows, columns, dtype):
    out, x = torch.zeros(rows, columns, dtype=dtype), torch.zeros(rows, 2 * columns, dtype=dtype)
    work = work_of(f"_C::{name}", out, x, 0.1)
    tally = Counter()
    for _ in range(rows * columns):
        gate, up = numbers(2, tally)
        activation(gate) * up
    assert counts(work) == (tally["flops"], tally["special"])
    assert (work.bytes_read, work.bytes_written) == (distinct_bytes(x), distinct_bytes(out))


@given(rows=SIZES, columns=SIZES, padding=st.integers(0, 3), dtype=DTYPES)
def test_static_quantisation(rows, columns, padding, dtype):
    x, out = padded(rows, columns, dtype, padding), torch.zeros(rows, columns, dtype=torch.float8_e4m3fn)
    scale = torch.ones((), dtype=torch.float32)
    work = work_of("_C::static_scaled_fp8_quant", out, x, scale)
    tally = Counter()
    for number in numbers(rows * columns, tally):
        smaller(bigger(number * 0.5, -448.0), 448.0)
    assert counts(work) == (tally["flops"], 0)
    assert work.bytes_read == distinct_bytes(x) + distinct_bytes(scale)
    assert work.bytes_written == distinct_bytes(out)


@given(m=SIZES, n=SIZES, k=SIZES, has_bias=st.booleans())
def test_scaled_products(m, n, k, has_bias):
    a, b = torch.zeros(m, k).to(torch.float8_e4m3fn), torch.zeros(n, k).to(torch.float8_e4m3fn)
    out, bias = torch.zeros(m, n, dtype=torch.bfloat16), torch.zeros(n, dtype=torch.bfloat16) if has_bias else None
    scales = (torch.ones(m, 1), torch.ones(1, n))
    work = work_of("_C::cutlass_scaled_mm", out, a, b.t(), *scales, bias)
    multiply_adds = sum(1 for _ in range(m) for _ in range(n) for _ in range(k))
    assert dict(work.flops) == {"tensor.float8": 2 * multiply_adds}
    given_tensors = [a, b, *scales] + ([bias] if bias is not None else [])
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in given_tensors)
    assert work.bytes_written == distinct_bytes(out)
