"""Attention against torch: visible pairs by what the real op lets through, FLOPs by the products written out."""

import pytest
import torch
from derivation import distinct_bytes, op_of, output_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.bias import causal_lower_right, causal_upper_left
from torch.utils.flop_counter import FlopCounterMode

from diagnose.costs import attention, attention_backward  # noqa: F401
from diagnose.costs.registry import price

SIZES = st.integers(1, 12)
CPU_FLASH = "aten::_scaled_dot_product_flash_attention_for_cpu"


def main(name, *args):
    found = price(op_of(name, *args))
    assert found.phases is not None, found.reason
    return next(phase.work for phase in found.phases if not phase.is_extra)


def tensor_flops(work):
    return sum(count for resource, count in work.flops if resource != "special")


def counted(function):
    with FlopCounterMode(display=False) as counter:
        result = function()
    return counter.get_total_flops(), result


def visible(queries, keys, *, causal):
    """Pairs that the real op gives weight: with the unit matrix as values, its output is the weights."""
    q, k = torch.randn(1, 1, queries, keys), torch.randn(1, 1, keys, keys)
    weights = torch.nn.functional.scaled_dot_product_attention(q, k, torch.eye(keys)[None, None], is_causal=causal)
    return int((weights > 0).sum())


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.integers(1, 3), st.integers(1, 2), st.booleans(), st.sampled_from([8, 16]))
def test_cpu_flash_forward(queries, keys, heads, batch, causal, width):
    q = torch.randn(batch, queries, heads, width).transpose(1, 2)
    k, v = torch.randn(2, batch, heads, keys, width)
    work = main(CPU_FLASH, q, k, v, 0.0, causal, None, None)
    pairs = batch * heads * visible(queries, keys, causal=causal)
    assert dict(work.flops)["special"] == pairs
    assert tensor_flops(work) == 2 * pairs * (width + width)
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in (q, k, v))
    result = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
    assert work.bytes_written == output_bytes(result)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_cpu_flash_writes_its_logsumexp(dtype):
    q = torch.randn(2, 3, 16, 8).to(dtype)
    result = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)
    assert main(CPU_FLASH, q, q, q, 0.0, False, None, None).bytes_written == output_bytes(result)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(1, 3), st.sampled_from(["full", "a row", "a batch"]))
def test_a_mask_is_read_as_it_lies(length, heads, kind):
    q = torch.randn(2, heads, length, 8)
    shape = {"full": (2, heads, length, length), "a row": (1, 1, 1, length), "a batch": (2, 1, length, length)}[kind]
    mask = torch.randn(*shape).expand(2, heads, length, length)
    without = main(CPU_FLASH, q, q, q, 0.0, False, None, None)
    with_mask = main(CPU_FLASH, q, q, q, 0.0, False, mask, None)
    assert with_mask.bytes_read - without.bytes_read == distinct_bytes(mask)


@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES, st.integers(1, 3), st.sampled_from([1, 2, 4]))
def test_forward_flops_are_the_two_products_of_the_plain_definition(queries, keys, key_heads, group):
    q = torch.randn(2, key_heads * group, queries, 8)
    k = torch.randn(2, key_heads, keys, 8)
    flops, _ = counted(
        lambda: torch.ops.aten._scaled_dot_product_attention_math(q, k, k, None, 0.0, False, None, enable_gqa=True)
    )
    assert tensor_flops(main("aten::_scaled_dot_product_flash_attention", q, k, k, 0.0, False, False, None)) == flops
    second = main(
        "aten::_flash_attention_forward",
        *(tensor.transpose(1, 2) for tensor in (q, k, k)),
        *(None, None, queries, keys, 0.0, False, False, None, None, None, None, None),
    )
    assert tensor_flops(second) == flops


@settings(max_examples=20, deadline=None)
@given(SIZES, SIZES, st.integers(1, 3), st.booleans())
def test_backward_is_the_plain_one_and_the_weights_again(queries, keys, heads, has_other_width):
    q = torch.randn(2, heads, queries, 8, requires_grad=True)
    k = torch.randn(2, heads, keys, 8, requires_grad=True)
    v = torch.randn(2, heads, keys, 4 if has_other_width else 8, requires_grad=True)
    again, weights = counted(lambda: q @ k.transpose(-1, -2))
    out = weights.softmax(-1) @ v
    backward, _ = counted(lambda: out.sum().backward())
    lse, seed = torch.zeros(2, heads, queries), torch.zeros((), dtype=torch.int64)
    grads = (True, True, True, False)
    work = main(
        "aten::_scaled_dot_product_efficient_attention_backward",
        *(torch.ones_like(out), q, k, v, None, out, lse, seed, seed, 0.0, grads, False, None),
    )
    assert tensor_flops(work) == again + backward
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in (out, q, k, v, out, lse))
    assert work.bytes_written == output_bytes((q.grad, k.grad, v.grad))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(1, 3), st.booleans())
def test_cpu_flash_backward(length, heads, causal):
    q = torch.randn(1, heads, length, 8)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q, 0.0, causal)
    args = (torch.ones_like(out), q, q, q, out, lse, 0.0, causal)
    result = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(*args)
    work = main(CPU_FLASH + "_backward", *args, None, None)
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in (out, q, q, q, out, lse))
    assert work.bytes_written == output_bytes(result)
    pairs = heads * visible(length, length, causal=causal)
    assert work.flops == (("special", pairs), ("tensor.float32", 10 * 8 * pairs))


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES)
def test_flash_s_causal_mask_is_torch_s_lower_right_one(queries, keys):
    lower_right = causal_lower_right(queries, keys)
    q = torch.randn(1, 1, queries, 8)
    k = torch.randn(1, 1, keys, 8)
    work = main("aten::_scaled_dot_product_flash_attention", q, k, k, 0.0, True, False, None)
    assert dict(work.flops).get("special", 0) == int(lower_right._materialize().sum())


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES, st.sampled_from([1, 2]))
def test_the_efficient_op_s_mask_types_are_torch_s_two_corners(queries, keys, kind):
    make = causal_upper_left if kind == 1 else causal_lower_right
    q, k = torch.randn(1, queries, 1, 8), torch.randn(1, keys, 1, 8)
    nothing = (None, None, None, None, None)
    work = main("aten::_efficient_attention_forward", q, k, k, *nothing, 0.0, kind, False, None, None, None)
    assert dict(work.flops).get("special", 0) == int(make(queries, keys)._materialize().sum())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.booleans())
def test_packed_sequences_never_count_less_than_their_parts(lengths, causal):
    total, longest = sum(lengths), max(lengths)
    x = torch.randn(total, 2, 8)
    ends = torch.tensor([0, *lengths]).cumsum(0).int()
    args = (ends, ends, longest, longest, 0.0, causal, False, None, None, None, None, None)
    work = main("aten::_flash_attention_forward", x, x, x, *args)
    exact = 2 * sum(visible(length, length, causal=causal) for length in lengths)
    assert dict(work.flops)["special"] >= exact
    assert work.is_bound == (len(set(lengths)) > 1)
    if not work.is_bound:
        assert dict(work.flops)["special"] == exact
    assert work.bytes_read == 3 * distinct_bytes(x)
