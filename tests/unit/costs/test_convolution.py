import pytest

from diagnose.costs import convolution  # noqa: F401
from diagnose.costs.registry import KernelSignature, price, workers_of
from diagnose.costs.sharing import share
from diagnose.work import UNKNOWN, Op, TensorMeta


def tensor(*shape, dtype="bfloat16", strides=None):
    return TensorMeta(shape, dtype, strides)


def main(op):
    found = price(op)
    assert found.phases is not None, found.reason
    return next(phase.work for phase in found.phases if not phase.is_extra)


def required(op):
    return [phase.work for phase in price(op).phases if not phase.is_extra]


def cudnn(x, w, padding, stride, dilation=(1, 1), groups=1):
    return Op("aten::cudnn_convolution", (x, w, padding, stride, dilation, groups, False, False, True))


VIT = cudnn(tensor(4, 3, 224, 224), tensor(768, 3, 16, 16), (0, 0), (16, 16))


def test_direct_flops_and_compulsory_bytes():
    work = main(VIT)
    assert work.flops == (("tensor.bfloat16", 2 * 4 * 768 * 14 * 14 * 3 * 16 * 16),)
    assert work.bytes_read == 2 * (4 * 3 * 224 * 224 + 768 * 3 * 16 * 16)
    assert work.bytes_written == 2 * 4 * 768 * 14 * 14


def test_groups_and_dilation():
    work = main(cudnn(tensor(2, 8, 20, 20), tensor(16, 2, 3, 3), (2, 2), (1, 1), (2, 2), 4))
    assert work.flops == (("tensor.bfloat16", 2 * 2 * 16 * 20 * 20 * 2 * 9),)


def test_rows_that_no_window_reaches_are_not_read():
    work = main(cudnn(tensor(1, 64, 56, 56), tensor(128, 64, 1, 1), (0, 0), (2, 2)))
    assert work.bytes_read == 2 * (64 * 28 * 28 + 128 * 64)


def test_transposed_convolution_counts_one_window_an_input_place():
    op = Op(
        "aten::cudnn_convolution_transpose",
        (tensor(1, 8, 10, 10), tensor(8, 4, 3, 3), (1, 1), (1, 1), (2, 2), (1, 1), 1, False, False, True),
    )
    work = main(op)
    assert work.flops == (("tensor.bfloat16", 2 * 100 * 8 * 4 * 9),)
    assert work.bytes_written == 2 * 4 * 20 * 20


def test_the_same_convolution_under_every_name():
    x, w, bias = tensor(2, 8, 20, 20), tensor(16, 8, 3, 3), tensor(16)
    stride, padding, dilation = (2, 2), (1, 1), (1, 1)
    no_bias = main(cudnn(x, w, padding, stride))
    lists = (stride, padding, dilation)
    same = {
        "aten::convolution": (x, w, bias, *lists, False, (0, 0), 1),
        "aten::_convolution": (x, w, bias, *lists, False, (0, 0), 1, False, False, True, True),
        "aten::conv2d": (x, w, bias, *lists, 1),
        "aten::miopen_convolution": (x, w, bias, padding, stride, dilation, 1, False, False),
        "aten::mkldnn_convolution": (x, w, bias, padding, stride, dilation, 1),
        "mkldnn::_convolution_pointwise": (x, w, bias, padding, stride, dilation, 1, "relu", (), ""),
        "aten::cudnn_convolution_relu": (x, w, bias, *lists, 1),
        "aten::thnn_conv2d": (x, w, (3, 3), bias, stride, padding),
        "aten::_slow_conv2d_forward": (x, w, (3, 3), bias, stride, padding),
        "aten::slow_conv_dilated2d": (x, w, (3, 3), bias, *lists),
    }
    for name, inputs in same.items():
        work = main(Op(name, inputs))
        assert work.flops == no_bias.flops, name
        assert work.bytes_read == no_bias.bytes_read + 2 * 16, name
        assert work.bytes_written == no_bias.bytes_written, name


def test_a_fused_addend_is_read():
    x, w, bias = tensor(2, 8, 20, 20), tensor(16, 8, 3, 3), tensor(16)
    z = tensor(2, 16, 20, 20)
    op = Op("aten::cudnn_convolution_add_relu", (x, w, z, 1.0, bias, (1, 1), (1, 1), (1, 1), 1))
    plain = main(cudnn(x, w, (1, 1), (1, 1)))
    assert main(op).bytes_read == plain.bytes_read + 2 * (16 + z.numel)
    into = Op("mkldnn::_convolution_pointwise_", (z, x, w, bias, (1, 1), (1, 1), (1, 1), 1, "add", 1.0, "", (), ""))
    assert main(into).bytes_read == plain.bytes_read + 2 * (16 + z.numel)


def test_same_padding_gives_an_output_like_the_input():
    op = Op("aten::conv2d", (tensor(1, 4, 9, 9), tensor(4, 4, 4, 3), None, (1, 1), "same", (1, 1), 1))
    assert main(op).bytes_written == 2 * 4 * 81
    op = Op("aten::conv2d", (tensor(1, 4, 9, 9), tensor(4, 4, 3, 3), None, (1, 1), "valid", (1, 1), 1))
    assert main(op).bytes_written == 2 * 4 * 49


def test_depthwise_kernels_of_torch_run_on_the_vector_unit():
    x, w = tensor(1, 32, 8, 8), tensor(32, 1, 3, 3)
    work = main(Op("aten::_conv_depthwise2d", (x, w, (3, 3), None, (1, 1), (1, 1), (1, 1))))
    assert work.flops == (("vector.float32", 2 * 32 * 64 * 9),)


def test_cudnn_layout_kernels_get_the_tensor_that_each_converts():
    names = [
        "void cudnn::nchwToNhwcKernel<1>",
        "void cudnn::nchwToNhwcKernel<2>",
        "fprop",
        "void cudnn::nhwcToNchwKernel",
    ]
    x, w, conv, y = share(price(VIT).phases, [KernelSignature(name, 8, 1) for name in names])
    assert x.extra_bytes == 2 * 2 * 4 * 3 * 224 * 224
    assert w.extra_bytes == 2 * 2 * 768 * 3 * 16 * 16
    assert y.extra_bytes == 2 * 2 * 4 * 768 * 14 * 14
    assert conv == main(VIT)
    assert x.flops == w.flops == y.flops == ()


def test_what_lies_channels_last_already_is_not_converted():
    x = tensor(1, 8, 16, 16, strides=(2048, 1, 128, 8))
    op = cudnn(x, tensor(8, 8, 3, 3), (1, 1), (1, 1))
    weight, conv = share(price(op).phases, [KernelSignature("nchwToNhwcKernel", 1, 1), KernelSignature("fprop", 1, 1)])
    assert weight.extra_bytes == 2 * 2 * 8 * 8 * 9
    assert conv.extra_bytes == 0


def backward(mask, transposed=False):
    x, w, dy = tensor(2, 8, 20, 20), tensor(16, 8, 3, 3), tensor(2, 16, 20, 20)
    if transposed:
        w, dy = tensor(8, 16, 3, 3), tensor(2, 16, 20, 20)
    return Op(
        "aten::convolution_backward",
        (dy, x, w, (16,), (1, 1), (1, 1), (1, 1), transposed, (0, 0), 1, mask),
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_each_gradient_costs_as_many_flops_as_the_convolution(transposed):
    once = 2 * 2 * 16 * 400 * 8 * 9
    assert [work.total_flops for work in required(backward((True, True, False), transposed))] == [once, once]
    assert [work.total_flops for work in required(backward((False, True, False), transposed))] == [once]
    assert [work.total_flops for work in required(backward((True, False, True), transposed))] == [once]


def test_the_second_gradient_reads_the_output_gradient_again_as_extra():
    grad_input, grad_weight = required(backward((True, True, True)))
    dy, x, w = 2 * 2 * 16 * 400, 2 * 2 * 8 * 400, 2 * 16 * 8 * 9
    assert (grad_input.bytes_read, grad_input.bytes_written, grad_input.extra_bytes) == (dy + w, x, 0)
    assert (grad_weight.bytes_read, grad_weight.bytes_written, grad_weight.extra_bytes) == (dy + x, w + 2 * 16, dy)
    (alone,) = required(backward((False, True, False)))
    assert alone.extra_bytes == 0


def test_a_bias_gradient_alone_is_a_sum():
    (work,) = required(backward((False, False, True)))
    assert work.flops == (("vector.float32", 2 * 16 * 400),)
    assert work.bytes_accessed == 2 * (2 * 16 * 400 + 16)


def test_backward_on_an_amd_gpu_gives_each_transposition_its_tensor():
    names = [
        "SubTensorOpWithScalar1d", "batched_transpose_32x32_half", "batched_transpose_16x32_half",
        "igemm_bwd_gtcx3_nhwc_bf16", "SubTensorOpWithCastTensor1d", "batched_transpose_32x32_half",
        "SubTensorOpWithScalar1d", "batched_transpose_32x32_half", "batched_transpose_32x32_half",
        "igemm_wrw_gtcx3_nhwc_bf16", "SubTensorOpWithCastTensor1d", "batched_transpose_32x16_half",
    ]  # fmt: skip
    works = share(price(backward((True, True, False))).phases, [KernelSignature(name, 8, 1) for name in names])
    dy, x, w = 2 * 2 * 16 * 400, 2 * 2 * 8 * 400, 2 * 16 * 8 * 9
    extra = [work.extra_bytes for work in works]
    assert extra == [2 * x, 2 * dy, 2 * w, 0, 3 * x, 2 * x, 2 * w, 2 * x, 2 * dy, dy, 3 * w, 2 * w]
    flops = [work.total_flops for work in works]
    assert flops[3] == flops[9] == 2 * 2 * 16 * 400 * 8 * 9
    assert sum(flops) == flops[3] + flops[9]


def test_backward_on_an_nvidia_gpu_converts_the_weight_before_the_output_gradient():
    names = [
        "nchwToNhwcKernel", "nchwToNhwcKernel", "sm80_xmma_dgrad_implicit_gemm", "nhwcToNchwKernel",
        "nchwToNhwcKernel", "nchwToNhwcKernel", "cutlass_tensorop_wgrad_optimized", "ReduceSplitK", "nhwcToNchwKernel",
    ]  # fmt: skip
    works = share(price(backward((True, True, False))).phases, [KernelSignature(name, 8, 1) for name in names])
    dy, x, w = 2 * 2 * 16 * 400, 2 * 2 * 8 * 400, 2 * 16 * 8 * 9
    assert [work.extra_bytes for work in works] == [2 * w, 2 * dy, 0, 2 * x, 2 * x, 2 * dy, dy, 3 * w, 2 * w]
    assert works[7].is_bound


def test_winograd_products_take_the_two_gradients_in_order():
    names = [
        "winogradForwardData4x4", "winogradForwardFilter4x4", "volta_sgemm_64x64_nt", "winogradForwardOutput4x4",
        "winogradWgradData4x4", "winogradWgradDelta4x4", "volta_sgemm_64x64_nt", "winogradWgradOutput4x4",
    ]  # fmt: skip
    works = share(price(backward((True, True, False))).phases, [KernelSignature(name, 8, 1) for name in names])
    grad_input, grad_weight = required(backward((True, True, False)))
    assert works == (None, None, grad_input, None, None, None, grad_weight, None)


def test_unbatched_input_is_a_batch_of_one():
    lists = ((1,), (1,), (1,), 1)
    one = main(Op("aten::conv1d", (tensor(8, 30), tensor(4, 8, 3), None, *lists)))
    assert one == main(Op("aten::conv1d", (tensor(1, 8, 30), tensor(4, 8, 3), None, *lists)))


def test_three_dimensional_convolution():
    x, w = tensor(1, 2, 6, 6, 6, dtype="float32"), tensor(4, 2, 3, 3, 3, dtype="float32")
    work = main(Op("aten::slow_conv3d_forward", (x, w, (3, 3, 3), None, (1, 1, 1), (0, 0, 0))))
    assert work.flops == (("tensor.float32", 2 * 4 * 64 * 2 * 27),)


@pytest.mark.parametrize(
    "op",
    [
        Op("aten::conv2d", None),
        cudnn(tensor(1, 3, 8, 8), tensor(4, 5, 3, 3), (0, 0), (1, 1)),
        cudnn(tensor(1, 3, 8, 8), tensor(4, 3, 3, 3), UNKNOWN, UNKNOWN),
        cudnn(tensor(1, 3, 8, 8), tensor(4, 3, 3, 3), (0, 0), (0, 0)),
        cudnn(tensor(1, 3, 8, 8), tensor(4, 3), (0, 0), (1, 1)),
        Op("aten::convolution_backward", (tensor(1, 4, 9, 9), *backward((True, True, True)).inputs[1:])),
    ],
)
def test_a_signature_that_contradicts_the_op_is_unknown_with_a_reason(op):
    found = price(op)
    assert found.phases is None
    assert found.reason


def test_wrappers_are_free_where_their_workers_were_recorded():
    assert {"aten::_convolution", "aten::cudnn_convolution", "aten::mkldnn_convolution"} <= workers_of(
        "aten::convolution"
    )
    assert workers_of("aten::thnn_conv2d") == {"aten::_slow_conv2d_forward"}
    assert "aten::_convolution_mode" in workers_of("aten::conv1d")
