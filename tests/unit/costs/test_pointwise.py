"""Elementwise ops as traces hold them."""

import pytest

from diagnose.costs import filling, pointwise  # noqa: F401  (registers the formulas)
from diagnose.costs.registry import price, workers_of
from diagnose.work import UNKNOWN, Op, TensorMeta, Work


def work(name, *inputs):
    (phase,) = price(Op(name, inputs)).phases
    return phase.work


def bf16(*shape):
    return TensorMeta(shape, "bfloat16")


def test_a_half_precision_add_computes_in_float32():
    found = work("aten::add", bf16(4, 8), bf16(4, 8), 1)
    assert found == Work((("vector.float32", 32),), 128, 64)


def test_an_alpha_other_than_one_is_one_more_operation():
    assert work("aten::add", bf16(8), bf16(8), 0.5).flops == (("vector.float32", 16),)
    assert work("aten::addcmul_", bf16(8), bf16(8), bf16(8), 1).flops == (("vector.float32", 16),)
    assert work("aten::addcmul_", bf16(8), bf16(8), bf16(8), 0.1).flops == (("vector.float32", 24),)


def test_an_expanded_operand_is_read_once():
    bias = TensorMeta((1000, 8), "float32", (0, 1))
    assert work("aten::mul", TensorMeta((1000, 8), "float32"), bias).bytes_read == 32_000 + 32


def test_a_number_recorded_as_a_0_dim_double_neither_promotes_nor_moves():
    found = work("aten::mul", TensorMeta((1, 559, 64), "float32", (35776, 64, 1)), TensorMeta((), "float64", ()))
    assert (found.bytes_read, found.bytes_written) == (4 * 559 * 64, 4 * 559 * 64)
    assert found.flops == (("vector.float32", 559 * 64),)


def test_division_of_whole_numbers_is_floating_unless_rounded():
    whole = TensorMeta((10,), "int64")
    assert work("aten::div", whole, whole).bytes_written == 40
    assert work("aten::div", whole, whole, "floor").bytes_written == 80


def test_a_comparison_writes_bool_and_computes_in_its_operands_dtype():
    found = work("aten::eq", TensorMeta((1, 141), "int64"), 1)
    assert found == Work((("vector.int64", 141),), 8 * 141, 141)


def test_in_place_writes_its_own_dtype_whatever_is_added():
    found = work("aten::add_", bf16(8), TensorMeta((8,), "float32"), 1)
    assert (found.bytes_read, found.bytes_written) == (16 + 32, 16)


def test_masked_fill_keeps_the_dtype_of_what_it_fills():
    mask = TensorMeta((4, 1), "bool")
    assert work("aten::masked_fill", bf16(4, 8), mask, float("-inf")) == Work((), 64 + 4, 64)
    assert work("aten::masked_fill", TensorMeta((4, 8), "int16"), mask, 2.0).bytes_written == 64
    assert work("aten::masked_fill_", bf16(4, 8), mask, 0) == Work((), 64 + 4, 64)


def test_where_takes_numbers_for_either_side():
    found = work("aten::where", TensorMeta((16, 16), "bool", (16, 1)), 0.0, TensorMeta((), "float32", ()))
    assert (found.bytes_read, found.bytes_written) == (256 + 4, 1024)


def test_a_gelu_by_tanh_is_told_by_its_argument():
    assert dict(work("aten::gelu", bf16(10), "none").flops) == {"vector.float32": 40, "special": 10}
    assert dict(work("aten::gelu", bf16(10), "tanh").flops) == {"vector.float32": 80, "special": 10}


def test_an_unusual_power_is_a_logarithm_and_an_exponential():
    assert dict(work("aten::pow", bf16(10), 2.2).flops) == {"vector.float32": 10, "special": 20}
    assert dict(work("aten::pow", bf16(10), 2).flops) == {"vector.float32": 10}


def test_complex_arithmetic_has_bytes_but_no_known_flops():
    found = work("aten::mul", TensorMeta((4,), "complex64"), TensorMeta((4,), "complex64"))
    assert found == Work(None, 64, 32)


def test_elu_backward_finds_its_input_behind_its_numbers():
    assert work("aten::elu_backward", bf16(8), 1, 1, 1, False, bf16(8)).bytes_read == 32


def test_random_numbers_are_written_and_not_read():
    assert work("aten::bernoulli_", TensorMeta((8,), "float32"), 0.9, None) == Work((), 0, 32)
    assert work("aten::bernoulli_", TensorMeta((8,), "float32"), TensorMeta((8,), "float32"), None).bytes_read == 32
    assert dict(work("aten::normal_", TensorMeta((8,), "float32"), 0.0, 1.0, None).flops) == {"special": 16}


def test_only_the_arange_that_is_given_its_output_writes():
    assert work("aten::arange", 0, 559, 1, TensorMeta((0,), "int64")).bytes_written == 559 * 8
    assert price(Op("aten::arange", (16, None, None, None, False))).phases is None
    assert "aten::arange" in workers_of("aten::arange")


@pytest.mark.parametrize(
    "inputs",
    [None, (), (UNKNOWN, UNKNOWN), (TensorMeta((4,), None), 1), (TensorMeta((3,), "int8"), TensorMeta((4,), "int8"))],
)
@pytest.mark.parametrize("name", ["aten::mul", "aten::gelu", "aten::add_", "aten::where", "aten::fill_", "aten::glu"])
def test_what_was_not_recorded_is_unknown_with_a_reason(name, inputs):
    if name in ("aten::gelu", "aten::fill_", "aten::glu") and inputs and isinstance(inputs[1], TensorMeta):
        return  # these take one operand: the second is none of theirs
    priced = price(Op(name, inputs))
    assert priced.phases is None
    assert priced.reason


def test_an_op_that_calls_itself_leaves_the_work_to_the_inner_one():
    assert "aten::logical_and" in workers_of("aten::logical_and")
    assert {"aten::clamp_min", "aten::clamp_min_"} <= workers_of("aten::relu")
