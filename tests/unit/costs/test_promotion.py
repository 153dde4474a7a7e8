"""Result dtypes and shapes as torch has them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.costs.promotion import broadcast, dtype_argument, result_dtype
from diagnose.work import UNKNOWN, MissingFactError, Op, TensorMeta

DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
]  # fmt: skip


def named(dtype):
    return str(dtype).removeprefix("torch.")


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.sampled_from([(), (3,)]),
    st.sampled_from(DTYPES),
    st.sampled_from([(), (3,)]),
)
def test_two_tensors_promote_as_in_torch(first, first_shape, second, second_shape):
    if second_shape == () and named(second) in ("float64", "int64", "complex128"):
        return  # cannot be told from a Python number: the next test
    expected = torch.result_type(torch.ones(first_shape, dtype=first), torch.ones(second_shape, dtype=second))
    operands = [TensorMeta(first_shape, named(first)), TensorMeta(second_shape, named(second))]
    assert result_dtype(operands) == named(expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("number", "wrapped"), [(True, None), (2, "int64"), (2.5, "float64")])
def test_a_number_promotes_as_in_torch_passed_plainly_or_as_a_0_dim_tensor(dtype, number, wrapped):
    expected = named(torch.result_type(torch.ones(3, dtype=dtype), number))
    tensor = TensorMeta((3,), named(dtype))
    assert result_dtype([tensor, number]) == expected
    if wrapped is not None:
        assert result_dtype([tensor, TensorMeta((), wrapped)]) == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from([1, 1, 2, 3, 0]), max_size=3).map(tuple), min_size=1, max_size=3))
def test_shapes_broadcast_as_in_torch(shapes):
    try:
        expected = tuple(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        with pytest.raises(ValueError, match="do not broadcast"):
            broadcast(shapes)
        return
    assert broadcast(shapes) == expected


def test_a_dtype_is_passed_by_its_number():
    op = Op("aten::_to_copy", (TensorMeta((2,), "float32"), 15, None, 99, UNKNOWN))
    assert dtype_argument(op, 1) == "bfloat16"
    assert dtype_argument(op, 2) is None
    assert dtype_argument(op, 9) is None
    for index in (3, 4):
        with pytest.raises(MissingFactError):
            dtype_argument(op, index)
