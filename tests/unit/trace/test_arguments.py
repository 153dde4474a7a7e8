"""Recorded arguments become values once a distinct call; what was not recorded is UNKNOWN, never a guess."""

from __future__ import annotations

import json

import pytest

from diagnose.trace.arguments import Arguments, LazyOps
from diagnose.trace.extras import Extras, ListTensor
from diagnose.work import UNKNOWN, Op, TensorMeta, Value
from tests.builders import TraceBuilder


def call(dims: object, types: object, strides: object = None, concrete: object = None, **others: object) -> Arguments:
    texts = [b"" if value is None else json.dumps(value).encode() for value in (dims, types, strides, concrete)]
    return Arguments("aten::op", *texts, **{"lists": None, "overload": None, **others})  # type: ignore[arg-type]


def op_of(found: Arguments, extras: Extras | None = None) -> Op:
    return LazyOps((found,), extras)[0]


def test_a_linear_layer() -> None:
    found = call(
        [[64], [8, 32], [32, 64], [], []],
        ["c10::BFloat16", "c10::BFloat16", "c10::BFloat16", "Scalar", "Scalar"],
        [[1], [32, 1], [1, 32], [], []],
        ["", "", "", "1", "1"],
    )
    assert op_of(found).inputs == (
        TensorMeta((64,), "bfloat16", (1,)),
        TensorMeta((8, 32), "bfloat16", (32, 1)),
        TensorMeta((32, 64), "bfloat16", (1, 32)),
        1,
        1,
    )


@pytest.mark.parametrize(
    ("spelling", "dtype"),
    [
        ("float", "float32"), ("double", "float64"), ("int", "int32"), ("long int", "int64"), ("long", "int64"),
        ("short int", "int16"), ("signed char", "int8"), ("unsigned char", "uint8"), ("bool", "bool"),
        ("c10::Half", "float16"), ("c10::BFloat16", "bfloat16"), ("c10::Float8_e4m3fn", "float8_e4m3fn"),
        ("c10::Float8_e5m2", "float8_e5m2"), ("c10::complex<float>", "complex64"),
    ],
)  # fmt: skip
def test_every_spelling_of_a_dtype(spelling: str, dtype: str) -> None:
    assert op_of(call([[2]], [spelling])).inputs == (TensorMeta((2,), dtype, None),)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("Scalar", "1", 1),
        ("Scalar", "-1", -1),
        ("Scalar", "0.125", 0.125),
        ("Scalar", "1e-05", 1e-05),
        ("Scalar", "True", True),
        ("Scalar", "False", False),
        ("Scalar", "", UNKNOWN),
        ("ScalarList", "[1, 2]", (1, 2)),
        ("ScalarList", "[]", ()),
        ("ScalarList", "", UNKNOWN),
        ("", "", None),
        ("", "none", "none"),
        ("Generator", "", UNKNOWN),
        ("", "False", False),
    ],
)
def test_scalars_and_lists(kind: str, text: str, value: Value) -> None:
    (found,) = op_of(call([[]], [kind], [[]], [text])).inputs or ()
    assert found == value
    assert type(found) is type(value)


def test_what_older_recordings_lack() -> None:
    assert op_of(call(None, None)).inputs is None  # no shapes at all
    assert op_of(call([[2, 3]], ["float"])).inputs == (TensorMeta((2, 3), "float32", None),)  # no strides
    assert op_of(call([[]], ["Scalar"])).inputs == (UNKNOWN,)  # no concrete inputs


def test_a_tensor_list_has_shapes_but_no_dtype() -> None:
    found = call([[[2, 3], [4]]], ["TensorList"], [[[3, 1], [1]]])
    assert op_of(found).inputs == ((TensorMeta((2, 3), None, (3, 1)), TensorMeta((4,), None, (1,))),)
    assert op_of(call([[]], ["TensorList"])).inputs == (UNKNOWN,)  # empty, or longer than 30: nobody can tell


def test_our_own_recording_gives_the_list_back() -> None:
    extras = Extras(tensor_lists=((ListTensor((5,), "float32"), ListTensor((6, 1), "int64", (1, 1))),))
    found = call([[]], ["TensorList"], lists=((0, 0),), overload="Tensor")
    op = op_of(found, extras)
    assert op.inputs == ((TensorMeta((5,), "float32", None), TensorMeta((6, 1), "int64", (1, 1))),)
    assert op.overload == "Tensor"
    assert op_of(call([[]], ["TensorList"], lists=((0, 7),)), extras).inputs == (UNKNOWN,)


@pytest.mark.parametrize("dims", [[[2, "three"]], [[-1, 2]], ["text"], [None], [], {"0": 1}, 7])
@pytest.mark.parametrize("types", [["float"], ["TensorList"]])
def test_shapes_that_are_none(dims: object, types: list[str]) -> None:
    assert op_of(call(dims, types)).inputs == (UNKNOWN,)


@pytest.mark.parametrize("strides", [[[1]], [["a", 1]], "text", None, [], [None]])
def test_strides_that_do_not_fit_are_left_out(strides: object) -> None:
    assert op_of(call([[2, 3]], ["float"], strides)).inputs == (TensorMeta((2, 3), "float32", None),)


def test_equal_calls_are_made_once() -> None:
    ops = LazyOps((call([[2]], ["float"]), call([[3]], ["float"])), None)
    assert ops[0] is ops[0]
    assert [op.inputs for op in ops] == [(TensorMeta((2,), "float32", None),), (TensorMeta((3,), "float32", None),)]
    assert ops[0:1] == [ops[0]]


def test_whether_shapes_were_recorded() -> None:
    assert LazyOps((call(None, None), call([[2]], ["float"])), None).has_shapes
    assert not LazyOps((call(None, None), call([], [])), None).has_shapes


def test_overload_names_are_no_part_of_the_ops_names():
    """torch's profiler writes ``aten::add.Tensor`` if asked for overload names; formulas know ``aten::add``."""
    trace = TraceBuilder()
    trace.op("aten::add.Tensor", 0, 5, inputs=[((4, 4), "float32"), ((4, 4), "float32"), 1])
    trace.op("aten::mm", 10, 5, inputs=[((4, 4), "float32"), ((4, 4), "float32")])
    trace.op("torch::autograd::AccumulateGrad", 20, 5)
    found = trace.reading().trace
    assert [(op.name, op.overload) for op in found.signatures] == [
        ("aten::add", "Tensor"),
        ("aten::mm", None),
        ("torch::autograd::AccumulateGrad", None),
    ]
    assert found.strings[found.ops.name[0]] == "aten::add"
