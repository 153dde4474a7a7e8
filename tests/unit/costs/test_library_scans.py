"""Flex attention, Mamba's scans, paged attention and Transformer Engine, counted by hand on small shapes."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import costs
from diagnose.analysis import analyse
from diagnose.costs.custom_scan import chunk_pairs
from diagnose.costs.registry import KernelSignature, price
from diagnose.costs.sharing import share
from diagnose.work import Op, TensorMeta
from tests.builders import TraceBuilder

costs.load()


def t(*shape, dtype="bfloat16"):
    return TensorMeta(shape, dtype)


def work_of(name, *inputs, **others):
    found = price(Op(name, inputs, **others))
    assert found.phases is not None, found.reason
    return next(phase.work for phase in found.phases if not phase.is_extra)


TRITON = {"attributes": (("backend", "triton"),)}
SMALL = st.integers(1, 5)


def pairs_by_counting(batch, heads, queries, keys):
    return sum(1 for _ in itertools.product(range(batch), range(heads), range(queries), range(keys)))


def flex_inputs(sizes, *, blocks=1, backward=False):
    batch, groups, repeats, queries, keys, width, v_width = sizes
    heads = groups * repeats
    q, k, v = t(batch, heads, queries, width), t(batch, groups, keys, width), t(batch, groups, keys, v_width)
    lse, out = t(batch, heads, queries, dtype="float32"), t(batch, heads, queries, v_width)
    tables = (t(1, 1, blocks, dtype="int32"), t(1, 1, blocks, blocks, dtype="int32"))
    if backward:
        return (q, k, v, lse, lse, out, q, v, *tables, *tables, k), (q, k, v, lse, out)
    return (q, k, v, lse, lse, *tables, out), (q, k, v, lse, out)


@settings(max_examples=30, deadline=None)
@given(st.tuples(SMALL, SMALL, SMALL, SMALL, SMALL, SMALL, SMALL))
def test_flex_attention_is_attention_over_every_pair(sizes):
    inputs, (q, k, v, lse, out) = flex_inputs(sizes)
    work = work_of("triton_tem_fused_flex_attention_0", *inputs, **TRITON)
    batch, groups, repeats, queries, keys, width, v_width = sizes
    pairs = pairs_by_counting(batch, groups * repeats, queries, keys)
    assert dict(work.flops) == {"tensor.bfloat16": pairs * (2 * width + 2 * v_width), "special": pairs}
    assert work.bytes_read == 2 * (q.numel + k.numel + v.numel) + 2 * 4
    assert work.bytes_written == 4 * lse.numel + 2 * out.numel
    assert not work.is_bound


@settings(max_examples=30, deadline=None)
@given(st.tuples(SMALL, SMALL, SMALL, SMALL, SMALL, SMALL, SMALL))
def test_its_gradients_are_five_products(sizes):
    inputs, (q, k, v, _, _) = flex_inputs(sizes, backward=True)
    work = work_of("triton_tem_fused_flex_attention_backward_zeros_1", *inputs, **TRITON)
    batch, groups, repeats, queries, keys, width, v_width = sizes
    pairs = pairs_by_counting(batch, groups * repeats, queries, keys)
    # scores again, the weights' gradient and that of the values, of the queries and of the keys
    products = [width, v_width, v_width, width, width]
    assert dict(work.flops) == {"tensor.bfloat16": sum(2 * pairs * size for size in products), "special": pairs}
    assert work.bytes_written == 2 * (q.numel + k.numel + v.numel)


def test_a_block_mask_makes_flex_attention_an_upper_bound():
    inputs, _ = flex_inputs((1, 2, 1, 256, 256, 64, 64), blocks=2)
    assert work_of("triton_tem_fused__to_copy_flex_attention_3", *inputs, **TRITON).is_bound


def test_a_template_that_is_not_laid_out_so_is_counted_by_its_pointers():
    """Flex decoding has other buffers: its bytes are each pointer once, FLOPs unknown."""
    work = work_of("triton_tem_fused_flex_attention_0", t(4, 8), t(4, 8), t(4, 8), t(4, 8), **TRITON)
    assert (work.flops, work.bytes_read, work.bytes_written) == (None, 3 * 64, 64)


@given(st.integers(0, 40), st.integers(1, 9))
def test_pairs_of_chunks(length, chunk):
    places = range(length)
    assert chunk_pairs(length, chunk) == sum(j <= i and i // chunk == j // chunk for i in places for j in places)


@settings(max_examples=20, deadline=None)
@given(st.tuples(SMALL, st.integers(1, 9), SMALL, SMALL, SMALL, st.integers(1, 4)))
def test_the_chunked_scan_counts_its_products(sizes):
    batch, length, heads, width, states, chunk = sizes
    work = work_of(
        "mamba_ssm::ssm_chunk_scan_combined_fwd",
        t(batch, length, heads, width), t(batch, length, heads), t(heads, dtype="float32"),
        t(batch, length, 1, states), t(batch, length, 1, states), chunk, None, None,
    )  # fmt: skip
    flops = special = vector = 0
    for i, j in itertools.product(range(length), repeat=2):
        if j <= i and i // chunk == j // chunk:
            flops += 2 * states + heads * 2 * width  # a score a group, its use a head
            vector += 2 * heads  # decay and step of the pair
            special += heads
    flops += length * heads * (2 * states * width + 2 * states * width)  # into the state and out of it
    expected = {"tensor.bfloat16": batch * flops, "vector.float32": batch * vector, "special": batch * special}
    assert dict(work.flops) == expected
    assert work.bytes_written == 2 * batch * length * heads * width


@settings(max_examples=20, deadline=None)
@given(st.tuples(SMALL, SMALL, SMALL, SMALL), st.booleans(), st.booleans())
def test_the_selective_scan_counts_its_recurrence(sizes, passes_by, softplus):
    batch, channels, length, states = sizes
    u = t(batch, channels, length, dtype="float32")
    b = t(batch, states, length, dtype="float32")
    skip = t(channels, dtype="float32") if passes_by else None
    inputs = (u, u, t(channels, states, dtype="float32"), b, b, skip, None, None, softplus)
    work = work_of("SelectiveScanFn", *inputs)
    flops = special = 0
    for _ in range(batch * channels * length):
        flops += 1  # step times input
        for _ in range(states):
            flops, special = flops + 1, special + 1  # exp(step times decay)
            flops += 1 + 2 + 2  # times B; the state; the result
        flops, special = flops + 2 * passes_by + 3 * softplus, special + 2 * softplus
    assert dict(work.flops) == {"vector.float32": flops, "special": special}
    assert work.bytes_read == 4 * (2 * u.numel + channels * states + 2 * b.numel + channels * passes_by)


def test_the_causal_convolution_and_its_gradients():
    x, weight, bias = t(2, 6, 10), t(6, 4), t(6)
    forward = work_of("DaoAILab::_causal_conv1d_fwd_cpp", x, weight, bias, None, None, x, None, True)
    assert dict(forward.flops) == {"vector.float32": 120 * (2 * 4 + 1 + 3), "special": 120}
    assert (forward.bytes_read, forward.bytes_written) == (2 * (120 + 24 + 6), 240)
    wide = (t(6, 4, dtype="float32"), t(6, dtype="float32"))
    inputs = (x, weight, bias, x, None, None, None, x, *wide, None, True)
    backward = work_of("DaoAILab::_causal_conv1d_bwd_cpp", *inputs)
    assert dict(backward.flops) == {"vector.float32": 120 * (3 * 2 * 4 + 1 + 8), "special": 120}
    assert (backward.bytes_read, backward.bytes_written) == (2 * (240 + 24 + 6), 240 + 4 * 30)


def test_a_batch_of_decoding_reads_the_pages_listed():
    q, cache, pages = t(3, 8, 64), t(100, 16, 2, 64), t(7, dtype="int32")
    ends = t(4, dtype="int32")
    name = "flashinfer::batch_decode_with_kv_cache_dtype_q_bf16_dtype_kv_bf16_head_dim_64_run"
    buffer = t(1024, dtype="uint8")
    work = work_of(name, buffer, buffer, (1, 2), q, cache, cache, ends, pages, t(3, dtype="int32"), q, None)
    page = 16 * 2 * 64 * 2
    assert work.bytes_read == 2 * q.numel + 7 * 2 * page + 4 * (4 + 7 + 3)
    assert dict(work.flops) == {"tensor.bfloat16": 7 * 16 * 8 * 4 * 64, "special": 7 * 16 * 8}
    assert work.is_bound


def test_partial_attention_merged():
    x, lse = t(5, 4, 8), t(5, 4, dtype="float32")
    for name, inputs in (
        ("sgl_kernel::merge_state", (x, lse, x, lse, x, lse)),
        ("_C::merge_attn_states", (x, lse, x, lse, x, lse)),
    ):
        work = work_of(name, *inputs)
        assert dict(work.flops) == {"vector.float32": 3 * 160, "special": 3 * 20}
        assert (work.bytes_read, work.bytes_written) == (2 * (320 + 80), 320 + 80)


def test_transformer_engines_linear_wherever_its_arguments_stand():
    x, weight, bias = t(3, 5, 16), t(8, 16), t(8)
    works = [work_of("_Linear", *inputs) for inputs in ((weight, x, bias), (weight, None, x, bias), (x, weight))]
    assert len(set(works)) == 1
    assert dict(works[0].flops) == {"tensor.bfloat16": 2 * 15 * 8 * 16}
    assert (works[0].bytes_read, works[0].bytes_written) == (2 * (240 + 128), 2 * 120)
    assert dict(work_of("_Linear", t(8, 16, dtype="uint8"), x).flops) == {"tensor.float8": 2 * 15 * 8 * 16}


def test_transformer_engines_norm_has_a_kernel_of_its_own():
    op = Op("_LayerNormLinear", (t(6, 16), t(16), t(16), t(8, 16), None))
    names = ["void ln_fwd_tuned_kernel", "nvjet_tst_128x64"]
    norm, product = share(price(op).phases, [KernelSignature(name, 4, 10) for name in names])
    assert dict(norm.flops) == {"vector.float32": 8 * 96}
    assert (norm.bytes_read, norm.bytes_written) == (2 * (96 + 32), 2 * 96)
    assert dict(product.flops) == {"tensor.bfloat16": 2 * 6 * 8 * 16}


def test_xformers_attention_is_torchs_under_another_name():
    q, k = t(2, 7, 4, 8), t(2, 9, 4, 8)
    ours = work_of("xformers::efficient_attention_forward_cutlass", q, k, k, None, None, None, None, 0.0, True, 1,
                   None, None, None)  # fmt: skip
    torchs = work_of("aten::_efficient_attention_forward", q, k, k, None, None, None, None, None, 0.0, 1, True, None,
                     None, None)  # fmt: skip
    assert ours == torchs
    lse = t(2, 4, 7, dtype="float32")
    ours = work_of("xformers::efficient_attention_backward_cutlass", q, q, k, k, None, None, None, 7, 9, lse, q, 0.0,
                   1, 2, 1, None, 1, None)  # fmt: skip
    torchs = work_of("aten::_efficient_attention_backward", q, q, k, k, None, q, None, None, 7, 9, lse, 0.0, 1, 2, 1,
                     False, None, None, None)  # fmt: skip
    assert ours == torchs
    assert dict(ours.flops)["special"] == 2 * 4 * sum(min(i + 1, 9) for i in range(7))


@pytest.mark.parametrize("is_new", [False, True])
def test_four_bit_quantisation_in_both_orders_of_its_arguments(is_new):
    x, scale = t(32, 64), t(1, dtype="float32")
    out, blocks = t(32, 32, dtype="uint8"), t(128, 1, dtype="uint8")
    work = work_of("_C::scaled_fp4_quant", *((x, scale, True) if is_new else (out, x, blocks, scale)))
    assert dict(work.flops) == {"vector.float32": 5 * 2048}
    assert work.bytes_read == 2 * 2048 + 4
    assert work.bytes_written == 1024 + 128


def test_products_of_packed_weights():
    x = t(4, 256)
    machete = work_of("_C::machete_mm", x, t(32, 128, dtype="int32"), 1, None, t(2, 128))
    assert dict(machete.flops) == {"tensor.bfloat16": 2 * 4 * 256 * 128}
    assert (machete.bytes_read, machete.bytes_written) == (2048 + 4 * 32 * 128 + 512, 2 * 512)
    spark = work_of("_C::allspark_w8a16_gemm", x, t(256, 128, dtype="uint8"), t(1, 128), None, 128, -1)
    assert dict(spark.flops) == dict(machete.flops)
    widened = work_of("_C::awq_dequantize", t(256, 16, dtype="int32"), t(2, 128), t(2, 16, dtype="int32"), 0, 0, 0)
    assert dict(widened.flops) == {"vector.float32": 2 * 256 * 128}
    assert widened.bytes_written == 2 * 256 * 128


@pytest.mark.parametrize("name", ["_Linear", "_LayerNormLinear", "SelectiveScanFn", "MambaChunkScanCombinedFn"])
def test_a_users_function_of_such_a_name_leaves_its_work_to_the_ops_it_calls(name):
    trace = TraceBuilder(None)
    shapes = [((64, 32), "float32"), ((16, 32), "float32")]
    trace.op(name, 0, 100, inputs=shapes)
    for at, below in ((10, "aten::mm"), (50, "aten::mul")):
        trace.op(below, at, 30, inputs=[((64, 32), "float32"), ((32, 16), "float32")])
    rows = {row.op: row for row in analyse(trace.reading()).kernels}
    assert (rows[name].flops, rows[name].cost_source) == (0, "free")
    assert rows["aten::mm"].flops == 2 * 64 * 32 * 16
