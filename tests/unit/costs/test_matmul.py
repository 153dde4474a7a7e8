import pytest

from diagnose.costs import matmul
from diagnose.costs.registry import KernelSignature, is_free, price, workers_of
from diagnose.costs.sharing import share
from diagnose.work import UNKNOWN, Op, TensorMeta


def tensor(*shape, dtype="bfloat16", strides=None):
    return TensorMeta(shape, dtype, strides)


def main(op):
    found = price(op)
    assert found.phases is not None, found.reason
    return next(phase.work for phase in found.phases if not phase.is_extra)


def test_mm_counts_a_multiply_add_as_two_and_each_matrix_once():
    work = main(Op("aten::mm", (tensor(64, 32), tensor(32, 16))))
    assert work.flops == (("tensor.bfloat16", 2 * 64 * 32 * 16),)
    assert (work.bytes_read, work.bytes_written) == (2 * (64 * 32 + 32 * 16), 2 * 64 * 16)


def test_a_bias_is_read_as_it_lies_and_its_addition_is_no_flop():
    work = main(Op("aten::addmm", (tensor(16), tensor(64, 32), tensor(32, 16), 1, 1)))
    assert work.flops == (("tensor.bfloat16", 2 * 64 * 32 * 16),)
    assert work.bytes_read == 2 * (16 + 64 * 32 + 32 * 16)
    expanded = tensor(64, 16, strides=(0, 1))
    assert main(Op("aten::addmm", (expanded, tensor(64, 32), tensor(32, 16), 1, 1))) == work


@pytest.mark.parametrize(("beta", "is_read"), [(0, False), (0.0, False), (1, True), (0.5, True), (UNKNOWN, True)])
def test_addmm_reads_self_unless_beta_is_zero(beta, is_read):
    work = main(Op("aten::addmm_", (tensor(64, 16), tensor(64, 32), tensor(32, 16), beta, 1)))
    assert work.bytes_read == 2 * (64 * 32 + 32 * 16 + is_read * 64 * 16)


def test_an_expanded_batch_is_read_once():
    shared = tensor(8, 4, 4, strides=(0, 4, 1))
    work = main(Op("aten::bmm", (shared, tensor(8, 4, 4))))
    assert work.flops == (("tensor.bfloat16", 2 * 8 * 64),)
    assert work.bytes_read == 2 * (16 + 8 * 16)


def test_an_out_tensor_is_written_and_not_read():
    inputs = (tensor(64, 32), tensor(32, 16))
    assert main(Op("aten::mm", (*inputs, tensor(64, 16)))) == main(Op("aten::mm", inputs))
    wide = main(Op("aten::mm", (*inputs, tensor(64, 16, dtype="float32"))))
    assert wide.bytes_written == 4 * 64 * 16
    addends = (tensor(16), *inputs, 1, 1)
    assert main(Op("aten::addmm", (*addends, tensor(64, 16)))) == main(Op("aten::addmm", addends))


def test_a_wider_result_asked_for_by_dtype_is_written_wider():
    assert main(Op("aten::mm", (tensor(64, 32), tensor(32, 16), 6))).bytes_written == 4 * 64 * 16
    op = Op("aten::addmm", (tensor(16), tensor(64, 32), tensor(32, 16), 6, 0, 1))
    assert main(op).bytes_written == 4 * 64 * 16
    assert main(op).bytes_read == 2 * (64 * 32 + 32 * 16)


@pytest.mark.parametrize(
    ("dtype", "resource", "factor"),
    [
        ("float32", "tensor.float32", 1),
        ("float64", "tensor.float64", 1),
        ("float16", "tensor.float16", 1),
        ("int8", "tensor.int8", 1),
        ("float8_e4m3fn", "tensor.float8", 1),
        ("complex64", "tensor.float32", 4),
        ("complex128", "tensor.float64", 4),
        ("int64", "vector.int64", 1),
    ],
)
def test_the_unit_is_that_of_the_inputs(dtype, resource, factor):
    work = main(Op("aten::mm", (tensor(4, 3, dtype=dtype), tensor(3, 2, dtype=dtype))))
    assert work.flops == ((resource, 2 * 4 * 3 * 2 * factor),)


def test_int_mm_writes_int32():
    op = Op("aten::_int_mm", (tensor(32, 16, dtype="int8"), tensor(16, 8, dtype="int8")))
    assert main(op).bytes_written == 4 * 32 * 8


def test_scaled_mm_reads_its_scales_and_writes_the_dtype_asked_for():
    a, b = tensor(64, 32, dtype="float8_e4m3fn"), tensor(32, 16, dtype="float8_e4m3fn")
    scale = tensor(dtype="float32")
    work = main(Op("aten::_scaled_mm", (a, b, scale, scale, None, None, 15, True)))
    assert work.flops == (("tensor.float8", 2 * 64 * 32 * 16),)
    assert (work.bytes_read, work.bytes_written) == (64 * 32 + 32 * 16 + 8, 2 * 64 * 16)


def test_four_bit_operands_hold_two_numbers_an_element():
    a, b = tensor(64, 16, dtype="float4_e2m1fn_x2"), tensor(16, 8, dtype="float4_e2m1fn_x2")
    scales = tensor(64, 2, dtype="float8_e4m3fn"), tensor(8, 2, dtype="float8_e4m3fn")
    work = main(Op("aten::_scaled_mm", (a, b, *scales, None, None, 15, False)))
    assert work.flops == (("tensor.float4", 2 * 64 * 32 * 8),)


def test_matmul_broadcasts_batches_and_takes_vectors():
    assert main(Op("aten::matmul", (tensor(5, 1, 4, 3), tensor(2, 3, 6)))).total_flops == 2 * 5 * 2 * 4 * 3 * 6
    assert main(Op("aten::matmul", (tensor(4, 3), tensor(3)))).total_flops == 2 * 4 * 3
    assert main(Op("aten::matmul", (tensor(3), tensor(3)))).bytes_written == 2


def test_linear_counts_every_row_of_its_input():
    work = main(Op("aten::linear", (tensor(2, 5, 8), tensor(16, 8), tensor(16))))
    assert work.flops == (("tensor.bfloat16", 2 * 10 * 8 * 16),)
    assert work.bytes_written == 2 * 10 * 16


def test_fused_linear_of_onednn_reads_the_second_operand_of_its_binary_form():
    x, w, other = tensor(5, 8), tensor(16, 8), tensor(5, 16)
    unary = main(Op("mkldnn::_linear_pointwise", (x, w, tensor(16), "gelu", (), "none")))
    binary = main(Op("mkldnn::_linear_pointwise", (x, other, w, tensor(16), "add")))
    assert binary.flops == unary.flops == (("tensor.bfloat16", 2 * 5 * 8 * 16),)
    assert binary.bytes_read == unary.bytes_read + 2 * 5 * 16


def test_outer_products_are_pointwise_arithmetic():
    assert main(Op("aten::outer", (tensor(4), tensor(5)))).flops == (("vector.float32", 20),)
    assert main(Op("aten::addr", (tensor(4, 5), tensor(4), tensor(5), 1, 1))).flops == (("vector.float32", 40),)


def test_grouped_mm_is_a_bound_because_the_groups_ends_are_not_recorded():
    offs = tensor(4, dtype="int32")
    work = main(Op("aten::_grouped_mm", (tensor(100, 32), tensor(4, 32, 16), offs, None, None)))
    assert work.flops == (("tensor.bfloat16", 2 * 100 * 32 * 16),)
    assert work.is_bound
    inside_k = main(Op("aten::_grouped_mm", (tensor(64, 100), tensor(100, 16), offs, None, None)))
    assert inside_k.total_flops == 2 * 64 * 100 * 16
    assert inside_k.bytes_written == 2 * 4 * 64 * 16


@pytest.mark.parametrize(
    "op",
    [
        Op("aten::mm", None),
        Op("aten::mm", ()),
        Op("aten::mm", (tensor(2, 3), tensor(4, 5))),
        Op("aten::mm", (tensor(2, 3, 4), tensor(4, 5))),
        Op("aten::mm", (TensorMeta((2, 3), None), TensorMeta((3, 2), None))),
        Op("aten::matmul", (tensor(2, 3), tensor(4))),
        Op("aten::linear", (tensor(), tensor(4, 3))),
    ],
)
def test_a_signature_that_contradicts_the_op_is_unknown_with_a_reason(op):
    found = price(op)
    assert found.phases is None
    assert found.reason


def test_wrappers_are_free_where_their_workers_were_recorded():
    assert is_free("aten::einsum")
    assert "aten::addmm" in workers_of("aten::linear")
    assert {"aten::mm", "aten::bmm"} <= workers_of("aten::matmul")
    assert "aten::addmv_" in workers_of("aten::mv")


def test_a_split_k_reduction_is_extra_and_only_a_bound():
    phases = price(Op("aten::mm", (tensor(64, 32), tensor(32, 16)))).phases
    gemm, reduction = share(
        phases,
        [KernelSignature("cutlass gemm", 8, 1), KernelSignature("void cublasLt::splitKreduce_kernel<32>", 8, 1)],
    )
    assert gemm.total_flops == 2 * 64 * 32 * 16
    assert not gemm.is_bound
    assert reduction.is_bound
    assert reduction.extra_bytes == reduction.bytes_accessed == 3 * 2 * 64 * 16


def test_a_bias_added_by_its_own_kernel_moves_the_result_again():
    phases = price(Op("aten::addmm", (tensor(16), tensor(64, 32), tensor(32, 16), 1, 1))).phases
    gemm, epilogue = share(
        phases,
        [KernelSignature("ampere_sgemm_32x32_tn", 8, 1), KernelSignature("void epilogue::impl::globalKernel<x>", 8, 1)],
    )
    assert gemm.extra_bytes == 0
    assert epilogue.extra_bytes == 2 * (16 + 2 * 64 * 16)


def test_every_formula_of_the_family_says_shapes_flops_and_bytes():
    for name in ("mm", "bmm", "addmm", "addbmm", "mv", "addmv", "dot", "outer", "matmul", "linear", "scaled_mm"):
        for word in ("Shapes:", "FLOPs:", "Bytes:"):
            assert word in getattr(matmul, name).__doc__
