"""Kernels within an op: arithmetic to the main ones, their own traffic to those that help."""

import pytest

from diagnose import costs
from diagnose.costs.registry import KernelSignature, price
from diagnose.costs.sharing import share
from diagnose.work import Op, TensorMeta

costs.load()


def tensor(*shape, dtype="bfloat16"):
    return TensorMeta(shape, dtype)


def shared(op, names, blocks=8):
    found = price(op)
    assert found.phases is not None, found.reason
    return share(found.phases, [KernelSignature(name, blocks, 100) for name in names])


CK_FORWARD = [
    "batched_transpose_32x32_half",
    "batched_transpose_16x32_half",
    "batched_transpose_32x32_half",
    "Memset (Device)",
    "kernel_grouped_conv_fwd_multiple_abd_xdl_cshuffle",
    "batched_transpose_32x32_half",
]


def test_miopens_convolution_clears_the_buffer_of_its_result():
    x, w = tensor(10, 64, 56, 56), tensor(64, 64, 3, 3)
    op = Op("aten::miopen_convolution", (x, w, None, (1, 1), (1, 1), (1, 1), 1, False, False))
    works = shared(op, CK_FORWARD)
    size = 2 * 10 * 64 * 56 * 56
    cleared = works[3]
    assert (cleared.bytes_read, cleared.bytes_written, cleared.extra_bytes) == (0, size, size)
    assert cleared.flops == ()
    assert works[4].total_flops == 2 * 10 * 64 * 56 * 56 * 64 * 9


def test_in_the_gradients_it_is_the_one_before_the_weights_kernel_that_clears_theirs():
    x, w = tensor(10, 64, 8, 8), tensor(32, 64, 3, 3)
    dy = tensor(10, 32, 8, 8)
    op = Op(
        "aten::convolution_backward", (dy, x, w, (0,), (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (True, True, False))
    )
    names = ["igemm_bwd_gtcx3_nhwc", "Memset (Device)", "kernel_batched_gemm_xdlops_bwd_weight"]
    data, cleared, weight = shared(op, names)
    assert cleared.bytes_written == 2 * 32 * 64 * 9
    assert data.total_flops == weight.total_flops == 2 * 10 * 32 * 64 * 64 * 9


def test_a_second_clearing_that_nobody_described_is_unknown():
    op = Op("aten::miopen_convolution", (tensor(1, 8, 4, 4), tensor(8, 8, 3, 3), None, (1, 1), (1, 1), (1, 1), 1))
    works = shared(op, ["Memset (Device)", "Memset (Device)", "conv_fwd"])
    assert [work is None for work in works] == [False, True, False]


def test_flash_backward_has_three_kernels_and_one_does_the_products():
    q = tensor(2, 4, 64, 32)
    lse = tensor(2, 4, 64, dtype="float32")
    op = Op("aten::_scaled_dot_product_flash_attention_backward",
            (q, q, q, q, q, lse, None, None, 64, 64, 0.0, False))  # fmt: skip
    names = ["flash_bwd_dot_do_o_kernel", "flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel", "flash_bwd_convert_dq_kernel"]
    dot, main, convert = shared(op, names)
    assert dot.flops == convert.flops == ()
    assert dict(main.flops)["tensor.bfloat16"] == 10 * 2 * 4 * 64 * 64 * 32
    assert main.extra_bytes == 0
    assert dot.extra_bytes == dot.bytes_accessed > 0


@pytest.mark.parametrize("kernels", [1, 2, 37])
def test_the_equal_kernels_of_a_foreach_op_share_it_without_loss(kernels):
    lists = tuple(tensor(1000 + n, dtype="float32") for n in range(90))
    op = Op("aten::_foreach_add_", (lists, lists, -0.1))
    works = shared(op, ["multi_tensor_apply_kernel<TensorListMetadata<2>>"] * kernels, blocks=7)
    elements = sum(item.numel for item in lists)
    assert sum(work.total_flops for work in works) == 2 * elements
    assert sum(work.bytes_read for work in works) == 2 * 4 * elements
    assert max(work.bytes_written for work in works) - min(work.bytes_written for work in works) <= 1


def test_the_slices_of_a_cut_product_are_added_by_a_kernel_with_bytes_of_its_own():
    op = Op("aten::mm", (tensor(64, 4096), tensor(4096, 64)))
    product, added = shared(op, ["ampere_bf16_s16816gemm_bf16_64x64_splitK", "cublasLt::splitKreduce_kernel"])
    assert product.total_flops == 2 * 64 * 64 * 4096
    assert added.flops == ()
    assert added.is_bound
    assert added.bytes_accessed == 3 * 2 * 64 * 64
