"""Ops of serving libraries, with shapes as real traces hold them and the work worked out by hand."""

import pytest

from diagnose import costs
from diagnose.costs.registry import _FORMULAS, KernelSignature, bound_by_inputs, is_free, price
from diagnose.costs.sharing import share
from diagnose.work import UNKNOWN, Op, TensorMeta

costs.load()

BF16, FP8, U8, F32, I32, I64 = "bfloat16", "float8_e4m3fn", "uint8", "float32", "int32", "int64"


def t(*shape, dtype=BF16, strides=None):
    return TensorMeta(shape, dtype, strides)


def priced(name, *inputs):
    found = price(Op(name, inputs))
    assert found.phases is not None, found.reason
    return found


def work(name, *inputs):
    """The whole work of an op with one phase, or with required phases added up."""
    required = [phase.work for phase in priced(name, *inputs).phases if not phase.is_extra]
    return sum(required[1:], required[0])


def facts(found):
    return dict(found.flops) if found.flops is not None else None, found.bytes_read, found.bytes_written


X = 888 * 2880
"""Elements of the activations in the B200 trace."""


def test_rms_norm_reads_input_and_weight_and_writes_the_output():
    found = work("_C::rms_norm", t(888, 2880), t(888, 2880), t(2880), 1e-05)
    assert facts(found) == ({"vector.float32": 4 * X}, 2 * X + 2 * 2880, 2 * X)
    assert not found.is_bound


def test_fused_add_rms_norm_works_in_place_on_input_and_residual():
    padded = t(888, 2880, strides=(3072, 1))
    found = work("_C::fused_add_rms_norm", padded, t(888, 2880), t(2880), 1e-05)
    assert facts(found) == ({"vector.float32": 5 * X}, 4 * X + 2 * 2880, 4 * X)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("vllm::rocm_aiter_rmsnorm2d_fwd_with_add", (t(32, 2880), t(32, 2880), t(2880), 1e-05)),
        ("aiter::rmsnorm2d_fwd_with_add_ck", (*[t(32, 2880)] * 4, t(2880), 1e-05)),
        ("sgl_kernel::fused_add_rmsnorm", (t(32, 2880), t(32, 2880), t(2880), 1e-05, True)),
    ],
)
def test_every_librarys_fused_norm_does_the_same(name, inputs):
    elements = 32 * 2880
    assert facts(work(name, *inputs)) == ({"vector.float32": 5 * elements}, 4 * elements + 5760, 4 * elements)


def test_rotary_embedding_touches_the_rotated_part_of_query_and_key():
    positions, table = t(888, dtype=I64), t(131072, 64)
    query, key = t(888, 512, strides=(640, 1)), t(888, 64, strides=(640, 1))
    rotated = 888 * (512 + 64)
    whole = facts(work("_C::rotary_embedding", positions, query, key, 64, table, True))
    assert whole == ({"vector.float32": 3 * rotated}, 888 * 8 + 888 * 64 * 2 + 2 * rotated, 2 * rotated)
    half = facts(work("_C::rotary_embedding", positions, query, key, 64, t(131072, 32), True))
    assert half == ({"vector.float32": 3 * rotated // 2}, 888 * 8 + 888 * 32 * 2 + rotated, rotated)
    alone = work("_C::rotary_embedding", positions, query, None, 64, table, True)
    assert alone.bytes_written == 2 * 888 * 512


def test_a_short_table_is_not_read_more_than_once():
    found = work("_C::rotary_embedding", t(888, dtype=I64), t(888, 64), None, 64, t(16, 64), True)
    assert found.bytes_read == 888 * 8 + 16 * 64 * 2 + 2 * 888 * 64


def test_static_quantisation_halves_the_bytes():
    found = work("_C::static_scaled_fp8_quant", t(888, 512, dtype=FP8), t(888, 512), t(dtype=F32))
    assert facts(found) == ({"vector.float32": 3 * 888 * 512}, 2 * 888 * 512 + 4, 888 * 512)


def test_a_scale_for_a_whole_tensor_needs_a_second_pass():
    found = work("_C::dynamic_scaled_fp8_quant", t(64, 512, dtype=FP8), t(64, 512), t(1, dtype=F32))
    once = 2 * 64 * 512
    assert facts(found) == ({"vector.float32": 5 * 64 * 512}, 2 * once, 64 * 512 + 4)
    assert found.extra_bytes == once


def test_gated_activation():
    found = work("_C::silu_and_mul", t(4, 100), t(4, 200))
    assert facts(found) == ({"special": 400, "vector.float32": 1600}, 1600, 800)


def test_the_cache_is_not_read_where_keys_are_put_into_it():
    cache = t(4213816, 16, 1, 64, dtype=U8, strides=(2048, 64, 1024, 1))
    key, value = t(888, 1, 64, strides=(640, 64, 1)), t(888, 1, 64)
    scale = t(dtype=F32)
    slots = t(888, dtype=I64)
    found = work("_C_cache_ops::reshape_and_cache_flash", key, value, cache, cache, slots, None, scale, scale)
    count = 2 * 888 * 64
    assert facts(found) == ({"vector.float32": 3 * count}, 2 * count + 888 * 8 + 8, count)
    same = t(224304, 32, 8, 64)
    found = work("_C_cache_ops::reshape_and_cache_flash", key, value, same, same, slots, None, scale, scale)
    assert facts(found) == ({}, 2 * count + 888 * 8 + 8, 2 * count)


# ---- Matrix products


def test_unquantized_gemm_is_a_linear_layer():
    found = work("vllm::rocm_unquantized_gemm", t(32, 2880), t(5120, 2880), t(5120))
    assert facts(found) == (
        {"tensor.bfloat16": 2 * 32 * 5120 * 2880}, 2 * (32 * 2880 + 5120 * 2880 + 5120), 2 * 32 * 5120,
    )  # fmt: skip


def test_scaled_mm_writes_the_dtype_of_its_output():
    out, a, b = t(16, 256), t(16, 512, dtype=FP8), t(512, 256, dtype=FP8)
    found = work("_C::cutlass_scaled_mm", out, a, b, t(16, 1, dtype=F32), t(1, 256, dtype=F32), t(256))
    flops = {"tensor.float8": 2 * 16 * 256 * 512}
    assert facts(found) == (flops, 16 * 512 + 512 * 256 + 4 * 16 + 4 * 256 + 2 * 256, 2 * 16 * 256)
    rocm = work("vllm::rocm_aiter_gemm_w8a8", a, t(256, 512, dtype=FP8), t(16, 1, dtype=F32), t(1, 256, dtype=F32),
                 t(256), 15)  # fmt: skip
    assert facts(rocm) == facts(found)
    sglang = work("sgl_kernel::fp8_scaled_mm", a, b, t(16, 1, dtype=F32), t(1, 256, dtype=F32), 15, t(256))
    assert facts(sglang) == facts(found)


def test_four_bit_floats_share_a_byte():
    found = work("_C::cutlass_scaled_fp4_mm", t(16, 256), t(16, 64, dtype=U8), t(256, 64, dtype=U8),
                 t(128, 8, dtype=U8), t(256, 8, dtype=U8), t(1, dtype=F32))  # fmt: skip
    assert dict(found.flops) == {"tensor.float4": 2 * 16 * 256 * 128}


def test_marlin_finds_its_sizes_in_either_order_of_arguments():
    x, packed, scales = t(16, 128), t(8, 512, dtype=I32), t(1, 256)
    for inputs in (
        (x, None, packed, None, scales, None, None, None, None, t(16, dtype=I32), 0, 16, 256, 128, True),
        (x, None, packed, scales, None, None, None, None, t(16, dtype=I32), 0, 16, 256, 128, True, False),
    ):
        assert dict(work("_C::gptq_marlin_gemm", *inputs).flops) == {"tensor.bfloat16": 2 * 16 * 256 * 128}
    assert price(Op("_C::gptq_marlin_gemm", (x, None, packed, scales))).phases is None


def test_transformer_engine_multiplies_in_column_order():
    weight, x, out, gradient = t(512, 128), t(64, 128), t(64, 512), t(64, 512)
    flops = {"tensor.bfloat16": 2 * 64 * 512 * 128}

    def gemm(a, turn_a, b, turn_b, result):
        inputs = (a, None, 0, 0, turn_a, b, None, 0, 0, turn_b, result)
        return dict(work("tex_ts::te_gemm_ts", *inputs).flops)

    assert gemm(weight, True, x, False, out) == flops
    assert gemm(weight, False, gradient, False, x) == flops
    assert gemm(x, False, gradient, True, weight) == flops


def test_sizes_that_do_not_multiply_are_an_unknown():
    found = price(Op("_C::cutlass_scaled_mm", (t(16, 256), t(16, 512, dtype=FP8), t(500, 256, dtype=FP8), None)))
    assert found.phases is None
    assert "unexpected" in found.reason


# ---- Attention


@pytest.mark.parametrize(
    ("name", "inputs", "aten"),
    [
        (
            "flash_attn::_flash_attn_forward",
            (t(2, 8, 4, 16), t(2, 10, 2, 16), t(2, 10, 2, 16), 0.0, 0.1, True, -1, -1, 0.0, None, False),
            (t(2, 8, 4, 16), t(2, 10, 2, 16), t(2, 10, 2, 16), None, None, None, None, 0.0, True, False, 0.1, -1, -1),
        ),
        (
            "flash_attn::_flash_attn_varlen_forward",
            (t(16, 4, 16), t(20, 2, 16), t(20, 2, 16), t(3, dtype=I32), t(3, dtype=I32), 8, 10, 0.0, 0.1, True, -1, -1,
             0.0, None, False, None, None, None),
            (t(16, 4, 16), t(20, 2, 16), t(20, 2, 16), t(3, dtype=I32), t(3, dtype=I32), 8, 10, 0.0, True, False, 0.1,
             -1, -1),
        ),
        (
            "xformers_flash::flash_fwd",
            (t(2, 8, 4, 16), t(2, 8, 4, 16), t(2, 8, 4, 16), None, None, None, 8, 8, 0.0, 0.1, True, 3, -1, False,
             None),
            (t(2, 8, 4, 16), t(2, 8, 4, 16), t(2, 8, 4, 16), None, None, None, None, 0.0, True, False, 0.1, 3, -1),
        ),
        (
            "FlashAttnFunc",
            (t(2, 8, 4, 16), t(2, 8, 4, 16), t(2, 8, 4, 16), 0.0, 0.1, False, (-1, -1)),
            (t(2, 8, 4, 16), t(2, 8, 4, 16), t(2, 8, 4, 16), None, None, None, None, 0.0, False, False, 0.1, -1, -1),
        ),
    ],
)  # fmt: skip
def test_flash_attention_under_another_name_is_torchs_own(name, inputs, aten):
    assert priced(name, *inputs).phases == priced("aten::_flash_attention_forward", *aten).phases


def test_flash_attention_counts_four_flops_a_visible_pair_and_dimension():
    q = t(2, 8, 4, 16)
    found = work("flash_attn::_flash_attn_forward", q, q, q, 0.0, 0.1, True, -1, -1, 0.0, None, False)
    pairs = 2 * 4 * (8 * 9 // 2)
    assert dict(found.flops) == {"tensor.bfloat16": 4 * 16 * pairs, "special": pairs}


def test_flash_attention_backward_counts_ten():
    q, lse = t(2, 8, 4, 16), t(2, 4, 8, dtype=F32)
    inputs = (q, q, q, q, q, lse, q, q, q, 0.0, 0.1, False, -1, -1, 0.0, None, False, None)
    found = work("flash_attn::_flash_attn_backward", *inputs)
    pairs = 2 * 4 * 8 * 8
    assert dict(found.flops) == {"tensor.bfloat16": 10 * 16 * pairs, "special": pairs}
    moved = (True, q, q, q, q, q, lse, None, None, 8, 8, 0.0, 0.1, False, -1, -1, None)
    assert priced("xformers_flash::flash_bwd", *moved) == priced("flash_attn::_flash_attn_backward", *inputs)


def test_a_paged_cache_is_not_read_whole():
    cache = t(10000, 16, 2, 16)
    inputs = (t(16, 4, 16), cache, cache, None, t(3, dtype=I32), t(3, dtype=I32), t(2, dtype=I32), None,
              t(2, 64, dtype=I32), None, 1, 1024, 0.0, 0.1, False, True, -1, -1)  # fmt: skip
    found = priced("_vllm_fa2_C::varlen_fwd", *inputs)
    assert facts(found.phases[0].work) == (None, 2 * 16 * 4 * 16, 2 * 16 * 4 * 16)
    assert found.phases[0].work.is_bound
    assert "cached" in found.reason


def test_unified_attention_is_a_lower_bound_that_names_what_is_missing():
    found = priced(
        "vllm::unified_attention_with_output",
        t(888, 8, 64, dtype=FP8), t(888, 1, 64, strides=(640, 64, 1)), t(888, 1, 64), t(888, 8, 64), None, None, None,
    )  # fmt: skip
    assert facts(found.phases[0].work) == (None, 888 * 512 + 2 * 2 * 888 * 64, 2 * 888 * 512)
    assert found.phases[0].work.is_bound
    assert "length of the cached sequences" in found.reason


# ---- Experts


def kernels(*names):
    return [KernelSignature(name, 100, 1000) for name in names]


def test_experts_without_weights_are_a_lower_bound_kernel_by_kernel():
    found = priced("vllm::moe_forward", t(888, 3072), t(888, 128), None)
    assert all(phase.work.is_bound and phase.work.flops is None for phase in found.phases)
    assert "weights" in found.reason
    launched = kernels(
        "void moe::dev::routing::routingIndicesHistogramKernel<int>(int)",
        "void tensorrt_llm::kernels::quantize_with_block_size<2>(int)",
        "bmm_MxE4m3_MxE2m1MxE4m3_Fp32_swiGlu_sm100f",
        "bmm_Bfloat16_MxE2m1MxE4m3_Fp32_sm100f",
        "void moe::dev::finalize::finalizeKernelVecLoad<int>(int)",
    )
    routing, quantise, first, second, finalise = share(found.phases, launched)
    hidden = 2 * 888 * 3072
    assert (routing.bytes_read, routing.bytes_written) == (2 * 888 * 128, 0)
    assert (quantise.bytes_read, quantise.bytes_written) == (hidden - 888 * 3072 // 2, 0)
    assert (first.bytes_read, first.bytes_written) == (888 * 3072 // 2, 0)
    assert (second.bytes_read, second.bytes_written) == (0, hidden)
    assert (finalise.bytes_read, finalise.bytes_written) == (hidden, hidden)


def test_experts_without_kernels_of_their_own_for_the_rest_write_the_result_once():
    found = priced("vllm::moe_forward", t(32, 3072), t(32, 32), None, None)
    first, second = share(found.phases, kernels("_matmul_ogs_NNT_bf16xmxfp4_swiglu", "_matmul_ogs_NNT_bf16xmxfp4"))
    assert first.bytes_written + second.bytes_written == 2 * 32 * 3072
    assert first.bytes_read + second.bytes_read == 2 * 32 * 3072 + 2 * 32 * 32
    assert (first.extra_bytes, second.extra_bytes) == (0, 0)


def test_experts_with_weights_have_known_flops_and_read_no_more_experts_than_rows():
    x, w1, w2 = t(4, 256), t(64, 2 * 128, 256), t(64, 256, 128)
    ids = t(4, 2, dtype=I32)
    found = work("vllm::inplace_fused_experts", x, w1, w2, t(4, 2, dtype=F32), ids)
    assert dict(found.flops) == {"tensor.bfloat16": 2 * 8 * 256 * (256 + 128)}
    assert found.bytes_read == 2 * (4 * 256 + 8 * (256 * 256 + 256 * 128)) + 4 * 8 + 4 * 8
    assert found.is_bound


def test_routing_of_triton_kernels():
    found = work("TopK", t(32, 32), 4, True, 1, True, None, None)
    assert facts(found) == ({"special": 128, "vector.float32": 1024 + 4 * 128}, 2048, 2 * 128 + 2 * 128 + 4 * 32)
    phases = priced("SortTokens", t(32, 4), t(32, 4, dtype="int16"), 32).phases
    launched = kernels("_sum_bitmatrix_rows", "_combined_routing_memset", "_combined_routing_compute")
    count, fill, compute = share(phases, launched)
    assert facts(count) == ({"vector.int32": 128}, 4 * 32, 4 * 32)
    assert (facts(fill), fill.extra_bytes) == (({}, 0, 1024), 1024)
    assert facts(compute) == ({}, 256 + 256 + 128, 256 + 1024)


def test_a_users_function_of_the_same_name_is_not_taken_for_it():
    assert price(Op("TopK", (t(32, 32, 8), 4, True, 1))).phases is None
    assert price(Op("SortTokens", (t(32, 4), t(32, 4, dtype=I64), 32))).phases is None


def test_topk_and_sum():
    found = work("_moe_C::topk_softmax", t(4, 2, dtype=F32), t(4, 2, dtype=I32), t(4, 2, dtype=I32), t(4, 64))
    assert facts(found) == ({"special": 256, "vector.float32": 5 * 256}, 512, 3 * 32)
    found = work("_moe_C::moe_sum", t(4, 2, 256), t(4, 256))
    assert facts(found) == ({"vector.float32": 2048}, 4096, 2048)


# ---- Recommenders


def test_a_lookup_without_widths_reads_its_indices_at_least():
    tables = (t(0, dtype=F32), t(7722480160, dtype="float16"), None, None, None, t(9, dtype=I64), None)
    ends = (None, None, None, t(30055769, dtype=I64), t(2359297, dtype=I64), UNKNOWN, None)
    name = "fbgemm::split_embedding_codegen_lookup_rowwise_adagrad_function"
    found = priced(name, *tables, UNKNOWN, *ends)
    assert facts(found.phases[0].work) == (None, 8 * (30055769 + 2359297), 0)
    assert "width" in found.reason
    known = work(name, *tables, 1440, *ends)
    looked_up = 30055769 * 160
    assert facts(known) == (
        {"vector.float32": looked_up}, 8 * (30055769 + 2359297) + 2 * looked_up, 262144 * 1440 * 4,
    )  # fmt: skip


def test_permuted_features_are_exact_where_each_is_taken_once():
    inputs = (t(1280, dtype=I32), t(1280, 2048, dtype=I32), t(1000, dtype=I32), None, UNKNOWN)
    lengths, _, data = priced("fbgemm::permute_2D_sparse_data", *inputs).phases
    assert (lengths.work.bytes_read, lengths.work.bytes_written) == (4 * 1280 + 4 * 1280 * 2048, 4 * 1280 * 2048)
    assert (data.work.bytes_read, data.work.bytes_written, data.work.is_bound) == (4000 + 4 * 1280, 4000, False)
    fewer = (t(700, dtype=I32), *inputs[1:])
    assert priced("fbgemm::permute_2D_sparse_data", *fewer).phases[2].work.is_bound


def test_rowwise_quantisation_there_and_back():
    there = work("fbgemm::FloatToFP8RowwiseQuantized", t(100, 256, dtype=F32), UNKNOWN)
    once = 4 * 100 * 256
    assert facts(there) == ({"vector.float32": 5 * 25600}, 2 * once + 800, 800 + 25600)
    assert there.extra_bytes == once + 800
    back = work("fbgemm::FP8RowwiseQuantizedToFloat", t(100, 264, dtype=U8), UNKNOWN)
    assert facts(back) == ({"vector.float32": 25600}, 26400, once)


# ---- Everything else


def test_the_reducers_names_for_parts_of_itself_do_nothing():
    assert is_free("torch::distributed::reducer::mul_out")
    assert is_free("torch.distributed.ddp.reducer::copy_bucket_to_grad")


def test_an_unknown_op_is_bounded_by_its_recorded_tensors():
    op = Op("mylib::mystery", (t(8, 1, 16), t(8, 4, 16, strides=(16, 0, 1)), (t(3, dtype=F32), t(2, dtype=None)), 7))
    found = bound_by_inputs(op, "no formula for this op")
    (phase,) = found.phases
    assert facts(phase.work) == (None, 2 * 128 + 2 * 128 + 12, 0)
    assert (phase.work.is_bound, phase.work.source) == (True, "inputs")
    assert found.reason.startswith("no formula for this op: a lower bound")


@pytest.mark.parametrize("inputs", [None, (), (UNKNOWN, 3, "text"), (t(4, dtype=None),), (t(0),)])
def test_nothing_recorded_is_no_bound(inputs):
    found = bound_by_inputs(Op("mylib::mystery", inputs), "no formula for this op")
    assert (found.phases, found.reason) == (None, "no formula for this op")


CUSTOM = [name for name, formula in _FORMULAS.items() if formula.__module__.startswith("diagnose.costs.custom")]


@pytest.mark.parametrize("name", CUSTOM)
@pytest.mark.parametrize("inputs", [None, (), (t(4),), (UNKNOWN,) * 30, (t(),) * 30, (t(2, 3),) * 5 + (1,) * 25])
def test_no_argument_list_makes_a_formula_crash(name, inputs):
    found = price(Op(name, inputs))
    assert found.phases is None or all(phase.work.bytes_accessed is None or phase.work.bytes_accessed >= 0
                                       for phase in found.phases)  # fmt: skip
