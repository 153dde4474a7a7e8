"""Work of quantised, half-sparse and grouped products, whose weights are packed: by hand from their sizes."""

import pytest

from diagnose import costs
from diagnose.costs.registry import price
from diagnose.work import Op, TensorMeta

costs.load()
M, N, K = 3, 64, 128


def tensor(*shape, dtype="bfloat16", strides=None):
    return TensorMeta(shape, dtype, strides)


def work(name, *inputs):
    found = price(Op(f"aten::{name}", inputs))
    assert found.phases is not None, found.reason
    return found.phases[0].work


def dense(*shape, dtype="bfloat16"):
    return tensor(*shape, dtype=dtype, strides=(shape[-1], 1))


def test_four_bit_weights_are_half_a_byte_each():
    x = tensor(M, K)
    on_cpu = work("_weight_int4pack_mm_for_cpu", x, tensor(N, K // 2, dtype="uint8"), 32, tensor(K // 32, N, 2))
    assert dict(on_cpu.flops) == {"tensor.bfloat16": 2 * M * N * K}
    assert on_cpu.bytes_read == 2 * M * K + N * K // 2 + 2 * (K // 32) * N * 2
    assert on_cpu.bytes_written == 2 * M * N
    packed = work("_convert_weight_to_int4pack", tensor(N, K // 2, dtype="uint8"), 8)
    assert (packed.bytes_read, packed.bytes_written) == (N * K // 2, N * K // 2)
    packed = work("_convert_weight_to_int4pack_for_cpu", tensor(N, K, dtype="int32"), 8)
    assert (packed.bytes_read, packed.bytes_written) == (4 * N * K, N * K // 2)


def test_activations_quantised_on_the_way_run_on_bytes():
    found = work("_dyn_quant_matmul_4bit", tensor(M, K, dtype="float32"), tensor(9000, dtype="uint8"), 32, K, N)
    assert dict(found.flops) == {"tensor.int8": 2 * M * N * K, "vector.float32": 5 * M * K}
    assert (found.bytes_read, found.bytes_written) == (4 * M * K + 9000, 4 * M * N)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float4_e2m1fn_x2"])
def test_scaled_products_with_listed_scales(dtype):
    pairs = 2 if dtype.startswith("float4") else 1
    a, b, scale = tensor(M, K, dtype=dtype), tensor(K, N, dtype=dtype), (tensor(1, dtype="float32"),)
    found = work("_scaled_mm_v2", a, b, scale, (0,), (0,), scale, (0,), (0,), None, 15)
    assert dict(found.flops) == {f"tensor.{dtype[:6]}": 2 * M * N * K * pairs}
    assert (found.bytes_read, found.bytes_written) == (M * K + K * N + 8, 2 * M * N)


def test_half_sparse_weights_multiply_what_they_hold():
    x, held, meta = tensor(M, K), tensor(N, K // 2), tensor(N, K // 16, dtype="int16")
    found = work("_sparse_semi_structured_linear", x, held, meta, None, None, None)
    assert dict(found.flops) == {"tensor.bfloat16": M * N * K}
    assert found.bytes_written == 2 * M * N


def test_sparse_products_are_a_lower_bound_from_what_is_dense():
    sparse, right, addend = tensor(M, K), dense(K, N), dense(M, N)
    found = work("_sparse_addmm", addend, sparse, right, 1, 1)
    assert found.is_bound
    assert found.flops is None
    assert (found.bytes_read, found.bytes_written) == (2 * (K * N + M * N), 2 * M * N)


def test_groups_of_a_scaled_product():
    a, b = tensor(M, K, dtype="float8_e4m3fn"), tensor(5, K, N, dtype="float8_e4m3fn")
    scale, ends = (tensor(1, dtype="float32"),), tensor(5, dtype="int32")
    found = work("_scaled_grouped_mm_v2", a, b, scale, (0,), (0,), scale, (0,), (0,), ends, None, 15)
    assert dict(found.flops) == {"tensor.float8": 2 * M * N * K}
    assert found.is_bound
    assert found.bytes_written == 2 * M * N


def test_jagged_and_padded():
    values, offsets = tensor(7, 4, dtype="float32"), (tensor(4, dtype="int64"),)
    padded = work("_jagged_to_padded_dense_forward", values, offsets, (5,), 0.0)
    assert (padded.bytes_read, padded.bytes_written) == (4 * 28 + 8 * 4, 4 * 3 * 5 * 4)
    back = work("_padded_dense_to_jagged_forward", tensor(3, 5, 4, dtype="float32"), offsets, 7)
    assert (back.bytes_read, back.bytes_written, back.is_bound) == (4 * 28, 4 * 28, False)
    assert work("_padded_dense_to_jagged_forward", tensor(3, 5, 4, dtype="float32"), offsets, None).is_bound
