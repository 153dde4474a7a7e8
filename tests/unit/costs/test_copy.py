"""Copies as traces hold them."""

import pytest

from diagnose.costs import copy, optimizer  # noqa: F401  (registers the formulas)
from diagnose.costs.copy import with_list_dtype
from diagnose.costs.registry import price, workers_of
from diagnose.work import UNKNOWN, Op, TensorMeta, Work


def work(name, *inputs):
    (phase,) = price(Op(name, inputs)).phases
    return phase.work


def test_a_converting_copy_reads_one_dtype_and_writes_another():
    found = work("aten::copy_", TensorMeta((559,), "float32"), TensorMeta((559,), "int64"), False)
    assert found == Work((), 559 * 8, 559 * 4)


def test_a_0_dim_source_is_a_tensor():
    assert work("aten::copy_", TensorMeta((), "float32", ()), TensorMeta((), "float64", ()), False) == Work((), 8, 4)


def test_an_expanded_source_is_read_once():
    source = TensorMeta((32, 192), "float32", (0, 1))
    assert work("aten::copy_", TensorMeta((32, 192), "float32", (192, 1)), source, False).bytes_read == 192 * 4


def test_a_copy_below_a_clone_does_its_work():
    assert "aten::copy_" in workers_of("aten::clone")
    assert "aten::copy_" in workers_of("aten::_to_copy")


LISTED = (TensorMeta((4, 1, 768), None, (0, 768, 1)), TensorMeta((4, 196, 768), None, (150528, 1, 196)))


def test_the_lost_dtype_of_a_list_can_be_filled_in_later():
    """GIVEN a list as Kineto records it WHEN the element size is learnt THEN only the tensors that exist are read."""
    op = Op("aten::cat", (LISTED, 1))
    assert price(op).phases is None
    (phase,) = price(with_list_dtype(op, "bfloat16")).phases
    assert phase.work == Work((), 2 * (768 + 4 * 196 * 768), 2 * 4 * 197 * 768)


def test_filling_in_dtypes_changes_nothing_that_is_known():
    known = TensorMeta((4,), "float32")
    op = Op("aten::cat", ((known, TensorMeta((4,), None)), UNKNOWN, (1, 2), known, None))
    filled = with_list_dtype(op, "float64")
    assert filled.inputs == ((known, TensorMeta((4,), "float64")), UNKNOWN, (1, 2), known, None)
    assert with_list_dtype(Op("aten::cat", None), "float64") == Op("aten::cat", None)


@pytest.mark.parametrize("tensors", [(), UNKNOWN])
@pytest.mark.parametrize("name", ["aten::cat", "aten::stack", "aten::_foreach_add_", "aten::_fused_adamw_"])
def test_a_list_too_long_to_be_recorded_is_unknown_never_empty(name, tensors):
    assert price(Op(name, (tensors, tensors, 1))).phases is None


def test_empty_tensors_in_a_list_cost_nothing():
    found = work("aten::cat", (TensorMeta((0,), "float32"), TensorMeta((2, 4), "float32")), -2)
    assert found == Work((), 32, 32)


def test_resampling_by_factors_leaves_the_work_to_the_op_it_calls():
    x = TensorMeta((1, 3, 8, 8), "float32")
    assert work("aten::upsample_nearest2d", x, None, (2.0, 2.0)).bytes_written == 4 * 3 * 256
    assert "aten::upsample_nearest2d" in workers_of("aten::upsample_nearest2d")
