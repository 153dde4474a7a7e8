import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.analysis import analyse
from diagnose.costs import attention, attention_backward  # noqa: F401
from diagnose.costs.attention_shapes import BOTTOM_RIGHT, TOP_LEFT, Band, visible_pairs
from diagnose.costs.registry import KernelSignature, price, workers_of
from diagnose.costs.sharing import share
from diagnose.work import UNKNOWN, Op, TensorMeta
from tests.builders import TraceBuilder, launched

B, H, S, T, D = 2, 8, 96, 160, 64


def tensor(*shape, dtype="bfloat16", strides=None):
    return TensorMeta(shape, dtype, strides)


def main(op):
    found = price(op)
    assert found.phases is not None, found.reason
    return next(phase.work for phase in found.phases if not phase.is_extra)


def tensor_flops(op):
    return dict(main(op).flops)["tensor.bfloat16"]


def flash(q, k, v, *, causal=False, window=(None, None), cumulative=(None, None), longest=(0, 0)):
    return Op(
        "aten::_flash_attention_forward",
        (q, k, v, *cumulative, *longest, 0.0, causal, False, 0.125, *window, None, None),
    )


def sdpa_flash(queries=S, keys=T, heads=H, key_heads=H, causal=False):
    q, kv = tensor(B, heads, queries, D), tensor(B, key_heads, keys, D)
    return Op("aten::_scaled_dot_product_flash_attention", (q, kv, kv, 0.0, causal, False, None))


def test_flash_attention_counts_four_flops_a_pair_and_width():
    assert tensor_flops(sdpa_flash()) == 4 * B * H * S * T * D
    assert dict(main(sdpa_flash()).flops)["special"] == B * H * S * T


def test_the_inner_op_with_heads_third_costs_the_same():
    inner = flash(tensor(B, S, H, D), tensor(B, T, H, D), tensor(B, T, H, D))
    assert main(inner) == main(sdpa_flash())


def test_causal_counts_the_visible_pairs_only():
    assert tensor_flops(sdpa_flash(S, S, causal=True)) == 4 * B * H * D * (S * (S + 1) // 2)


def test_flash_lets_the_last_query_see_every_key_and_the_others_the_first_query_only_the_first():
    bottom = tensor_flops(sdpa_flash(1, T, causal=True))
    assert bottom == 4 * B * H * T * D
    q, kv = tensor(B, H, 1, D), tensor(B, H, T, D)
    efficient = Op("aten::_scaled_dot_product_efficient_attention", (q, kv, kv, None, True, 0.0, True, None))
    assert tensor_flops(efficient) == 4 * B * H * D


def test_bytes_are_each_tensor_once_and_the_logsumexp():
    work = main(sdpa_flash())
    assert work.bytes_read == 2 * B * H * D * (S + 2 * T)
    assert work.bytes_written == 2 * B * H * S * D + 4 * B * H * S


def test_grouped_queries_do_the_flops_of_all_heads_and_read_few_keys():
    work = main(sdpa_flash(key_heads=2))
    assert dict(work.flops)["tensor.bfloat16"] == 4 * B * H * S * T * D
    assert work.bytes_read == 2 * B * D * (H * S + 2 * 2 * T)


def test_a_window_limits_the_keys_of_a_query():
    x = tensor(1, 100, 1, D)
    assert tensor_flops(flash(x, x, x, causal=True, window=(9, 0))) == 4 * D * (10 * 100 - 45)
    assert tensor_flops(flash(x, x, x, window=(-1, -1))) == 4 * D * 100 * 100


def test_packed_sequences_are_exact_if_all_are_of_the_longest_length_else_a_bound():
    x, ends = tensor(300, H, D), tensor(4, dtype="int32")
    even = main(flash(x, x, x, cumulative=(ends, ends), longest=(100, 100)))
    assert even.flops == (("special", 3 * H * 10**4), ("tensor.bfloat16", 4 * D * H * 3 * 10**4))
    assert not even.is_bound
    uneven = main(flash(x, x, x, cumulative=(ends, ends), longest=(150, 150)))
    assert uneven.is_bound
    assert dict(uneven.flops)["special"] == H * 300 * 150


def test_a_mask_is_read_as_it_lies():
    q = tensor(B, H, S, D)
    mask = tensor(B, H, S, S, strides=(0, 0, S, 1))
    with_mask = main(Op("aten::_scaled_dot_product_efficient_attention", (q, q, q, mask, False, 0.0, False, None)))
    without = main(Op("aten::_scaled_dot_product_efficient_attention", (q, q, q, None, False, 0.0, False, None)))
    assert with_mask.bytes_read == without.bytes_read + 2 * S * S
    assert without.bytes_written == 2 * B * H * S * D


def test_values_of_another_width():
    q, k, v = tensor(B, S, H, 32), tensor(B, T, H, 32), tensor(B, T, H, 16)
    op = Op(
        "aten::_efficient_attention_forward",
        (q, k, v, None, None, None, None, None, 0.0, 0, True, None, None, None),
    )
    assert tensor_flops(op) == 2 * (32 + 16) * B * H * S * T
    assert main(op).bytes_written == 2 * B * S * H * 16 + 4 * B * H * S


def test_every_forward_agrees_on_a_square_dense_batch():
    q, seconds = tensor(B, H, S, D), tensor(B, S, H, D)
    ops = [
        Op("aten::_scaled_dot_product_flash_attention", (q, q, q, 0.0, True, False, None)),
        Op("aten::_scaled_dot_product_flash_attention_for_cpu", (q, q, q, 0.0, True, None, None)),
        Op("aten::_scaled_dot_product_efficient_attention", (q, q, q, None, True, 0.0, True, None)),
        Op("aten::_scaled_dot_product_cudnn_attention", (q, q, q, None, True, 0.0, True, False, None)),
        Op("aten::_cudnn_attention_forward", (q, q, q, None, None, None, S, S, True, 0.0, True, False, None)),
        flash(seconds, seconds, seconds, causal=True),
        Op(
            "aten::_efficient_attention_forward",
            (seconds, seconds, seconds, None, None, None, None, None, 0.0, 1, True, None, None, None),
        ),
    ]
    assert len({main(op) for op in ops}) == 1
    assert (
        main(Op("aten::scaled_dot_product_attention", (q, q, q, None, 0.0, True, None, False))).flops
        == main(ops[0]).flops
    )


def test_every_backward_does_five_products_and_writes_three_gradients():
    q, lse = tensor(B, H, S, D), tensor(B, H, S, dtype="float32")
    s = tensor(B, S, H, D)
    seed = tensor(2, dtype="uint64")
    ops = [
        Op(
            "aten::_scaled_dot_product_flash_attention_backward",
            (q, q, q, q, q, lse, None, None, S, S, 0.0, False, seed, seed, None),
        ),
        Op("aten::_flash_attention_backward", (s, s, s, s, s, lse, None, None, S, S, 0.0, False, seed, seed, None)),
        Op("aten::_scaled_dot_product_flash_attention_for_cpu_backward", (q, q, q, q, q, lse, 0.0, False, None, None)),
        Op(
            "aten::_scaled_dot_product_efficient_attention_backward",
            (q, q, q, q, None, q, lse, seed, seed, 0.0, (True, True, True, False), False, None),
        ),
        Op(
            "aten::_efficient_attention_backward",
            (s, s, s, s, None, s, None, None, S, S, lse, 0.0, seed, seed, 0, False, None, None, None, False),
        ),
        Op(
            "aten::_scaled_dot_product_cudnn_attention_backward",
            (q, q, q, q, q, lse, seed, seed, None, None, None, S, S, 0.0, False, None),
        ),
        Op(
            "aten::_cudnn_attention_backward",
            (q, q, q, q, q, lse, seed, seed, None, None, None, S, S, 0.0, False, None),
        ),
    ]
    whole = 2 * B * H * S * D
    for op in ops:
        work = main(op)
        assert dict(work.flops) == {"tensor.bfloat16": 10 * B * H * S * S * D, "special": B * H * S * S}, op.name
        assert work.bytes_read == 5 * whole + 4 * B * H * S, op.name
        assert work.bytes_written == 3 * whole, op.name


def test_a_bias_gradient_is_written_if_asked_for():
    q, lse, bias = tensor(B, H, S, D), tensor(B, H, S, dtype="float32"), tensor(B, H, S, S)
    seed = tensor(dtype="int64")

    def backward(wants):
        mask = (True, True, True, wants)
        name = "aten::_scaled_dot_product_efficient_attention_backward"
        return main(Op(name, (q, q, q, q, bias, q, lse, seed, seed, 0.0, mask, False, None)))

    assert backward(True).bytes_written == backward(False).bytes_written + 2 * bias.numel


def test_flash_backward_gives_its_helpers_their_own_traffic():
    q, lse = tensor(B, H, S, D), tensor(B, H, S, dtype="float32")
    op = Op(
        "aten::_scaled_dot_product_flash_attention_backward",
        (q, q, q, q, q, lse, None, None, S, S, 0.0, True, None, None, None),
    )
    names = ["flash_bwd_dot_do_o_kernel", "flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel", "flash_bwd_convert_dq_kernel"]
    dot, loop, convert = share(price(op).phases, [KernelSignature(name, 8, 1) for name in names])
    assert loop == main(op)
    assert dot.extra_bytes == 2 * 2 * q.numel + 4 * B * H * S
    assert convert.extra_bytes == (4 + 2) * q.numel


def test_a_split_key_sequence_is_put_together_by_an_extra_kernel_of_unknown_size():
    names = ["pytorch_flash::flash_fwd_splitkv_kernel", "pytorch_flash::flash_fwd_splitkv_combine_kernel"]
    attend, combine = share(price(sdpa_flash(1, 4096)).phases, [KernelSignature(name, 8, 1) for name in names])
    assert attend == main(sdpa_flash(1, 4096))
    assert combine.is_bound
    assert combine.total_flops == 0


def test_an_unrecorded_causal_flag_is_unknown_not_false():
    found = price(
        Op("aten::_scaled_dot_product_flash_attention", (*sdpa_flash().inputs[:3], UNKNOWN, UNKNOWN, UNKNOWN))
    )
    assert found.phases is None
    assert found.reason


@pytest.mark.parametrize(
    "op",
    [
        sdpa_flash(heads=8, key_heads=3),
        Op("aten::scaled_dot_product_attention", (tensor(S, D), tensor(S, D), tensor(S, D), None, 0.0, False)),
        Op("aten::_scaled_dot_product_flash_attention", None),
    ],
)
def test_a_signature_that_contradicts_the_op_is_unknown_with_a_reason(op):
    assert price(op).phases is None
    assert price(op).reason


def test_wrappers_are_free_where_their_workers_were_recorded():
    assert workers_of("aten::_scaled_dot_product_flash_attention") == {"aten::_flash_attention_forward"}
    assert "aten::_scaled_dot_product_attention_math" in workers_of("aten::scaled_dot_product_attention")


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 12),
    st.integers(0, 12),
    st.one_of(st.none(), st.integers(0, 14)),
    st.one_of(st.none(), st.integers(0, 14)),
    st.sampled_from([TOP_LEFT, BOTTOM_RIGHT]),
)
def test_visible_pairs_are_those_of_the_mask_written_out(queries, keys, left, right, corner):
    shift = keys - queries if corner == BOTTOM_RIGHT else 0
    seen = sum(
        (left is None or j >= i + shift - left) and (right is None or j <= i + shift + right)
        for i in range(queries)
        for j in range(keys)
    )
    assert visible_pairs(queries, keys, Band(left, right, corner)) == seen


def test_exponentials_are_shown_beside_the_flops_of_attention():
    """A row's FLOPs are 4 B H S T D, as torch's counter has them; the exponential of each pair stands apart."""
    batch, heads, queries, keys, width = 2, 4, 128, 256, 64
    q, k = ((batch, heads, queries, width), "bfloat16"), ((batch, heads, keys, width), "bfloat16")
    trace = TraceBuilder()
    launched(trace, "aten::_scaled_dot_product_flash_attention", [q, k, k, 0.0, False, False], 20, 40)
    (row,) = analyse(trace.reading()).kernels
    assert row.flops == 4 * batch * heads * queries * keys * width
    assert row.special_ops == batch * heads * queries * keys
    assert row.arithmetic_intensity == row.flops / (row.bytes_read + row.bytes_written)


def test_a_special_function_alone_has_no_flops():
    trace = TraceBuilder()
    launched(trace, "aten::exp", [((4096, 4096), "float32")], 20, 40)
    launched(trace, "aten::relu", [((4096, 4096), "float32")], 120, 40)
    rows = {row.op: row for row in analyse(trace.reading()).kernels}
    assert (rows["aten::exp"].flops, rows["aten::exp"].special_ops) == (0, 4096**2)
    assert (rows["aten::relu"].flops, rows["aten::relu"].special_ops) == (4096**2, 0)
    assert rows["aten::exp"].bound == "memory"
