"""torch's shape functions as a fallback: right where they answer, silent where they may not be asked."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import costs
from diagnose.costs.meta import meta_outputs, meta_price
from diagnose.costs.registry import price
from diagnose.work import UNKNOWN, MissingFactError, Op, TensorMeta, Work

torch = pytest.importorskip("torch")
costs.load()


def f32(*shape, strides=None):
    return TensorMeta(shape, "float32", strides)


def dense(*shape, dtype="float32"):
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= max(size, 1)
    return TensorMeta(shape, dtype, tuple(strides))


@pytest.mark.parametrize(
    ("op", "read", "written"),
    [
        # [8, 3] and [5, 3] floats in, a distance for each of the 40 pairs out.
        (Op("aten::_cdist_forward", (f32(8, 3), f32(5, 3), 2.0, None)), 4 * (24 + 15), 4 * 40),
        # An inverse and one int32 that says whether it is one.
        (Op("aten::linalg_inv_ex", (f32(8, 8), False)), 4 * 64, 4 * 64 + 4),
        # In place: both ways.
        (Op("aten::lerp_", (f32(6), f32(6), 0.5)), 4 * 12, 4 * 6),
        # Expanded: 8 elements are there, 64 come out.
        (Op("aten::tril", (TensorMeta((8, 8), "float32", (0, 1)), 0)), 4 * 8, 4 * 64),
        # A list.
        (Op("aten::cat", ((f32(2), f32(3)), 0)), 20, 20),
        # sum(dtype=float64) by c10's number 7.
        (Op("aten::sum", (f32(8, 8), (1,), False, 7)), 256, 64),
        # A Python number in a tensor's place does not promote and is not read.
        (Op("aten::mul", (TensorMeta((8,), "bfloat16"), TensorMeta((), "float64"))), 16 + 8, 16),
    ],
)
def test_bytes_in_and_out(op, read, written):
    (phase,) = meta_price(op).phases
    assert phase.work == Work(None, read, written, source="meta")


def test_a_view_moves_nothing():
    (phase,) = meta_price(Op("aten::view", (f32(8, 8), (64,)))).phases
    assert phase.work == Work((), 0, 0, source="meta")


@pytest.mark.parametrize(
    "op",
    [
        Op("aten::from_file", ("/etc/passwd", False, 10)),  # takes text
        Op("aten::__class__", (f32(2),)),
        Op("aten::__init__.__globals__", (f32(2),)),
        Op("aten::system", (f32(2),)),
        Op("os::system", (f32(2),)),
        Op("mylib::fused_norm", (f32(2),)),
        Op("prim::Print", (f32(2),)),
        Op("", ()),
        Op("aten::mm", None),
        Op("aten::mm", (f32(2, 3), f32(2, 3))),  # do not multiply
        Op("aten::mm", (f32(2, 3), UNKNOWN)),
        Op("aten::mm", ("__import__('os')", f32(2, 3))),
        Op("aten::mm", (TensorMeta((2, 3), "rm -rf"), f32(3, 2))),
        Op("aten::mm", (TensorMeta((2, 3), None), f32(3, 2))),
        Op("aten::mm", (f32(1 << 62, 1 << 62), f32(1 << 62, 1 << 62))),
        Op("aten::view", (f32(*(1,) * 1000), (1,))),
        Op("aten::nonzero", (f32(8),)),  # depends on the data
        Op("aten::empty", ((1 << 40,), 6, 0, None, False, None)),  # would allocate
        Op("aten::arange", (1 << 40, None, None, None, None)),
    ],
)
def test_what_may_not_be_asked_or_makes_no_sense_is_unknown_with_a_reason(op):
    found = meta_price(op)
    assert found.phases is None
    assert found.reason


def test_nothing_is_allocated_however_large_the_tensors_are():
    (phase,) = meta_price(Op("aten::lerp", (f32(1 << 40), f32(1 << 40), 0.5))).phases
    assert phase.work.bytes_written == 1 << 42


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["roll", "flip", "tril", "cumsum", "_softmax", "sum", "mean", "amax", "sigmoid", "neg"]),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    data=st.data(),
)
def test_outputs_are_those_of_running_the_op(name, shape, data):
    dim = data.draw(st.integers(0, len(shape) - 1))
    if name == "tril" and len(shape) < 2:
        return
    arguments = {
        "roll": ((1,), (dim,)), "flip": ((dim,),), "tril": (0,), "cumsum": (dim, None), "_softmax": (dim, False),
        "sum": ((dim,), True, None), "mean": ((dim,), False, None), "amax": ((dim,), True),
    }.get(name, ())  # fmt: skip
    real = getattr(torch.ops.aten, name)(torch.randn(shape), *[a for a in arguments if a is not None])
    expected = TensorMeta(tuple(real.shape), "float32", tuple(real.stride()))
    assert meta_outputs(Op(f"aten::{name}", (dense(*shape), *arguments))) == (expected,)


def test_outputs_that_were_kept_price_an_op_without_a_formula_and_never_one_with_a_formula():
    unknown = Op("aten::not_an_op", (f32(8), f32(4)), outputs=(f32(2),))
    (phase,) = price(unknown).phases
    assert phase.work == Work(None, 48, 8, source="meta")
    (phase, *_) = price(Op("aten::mm", (f32(2, 3), f32(3, 2)), outputs=(f32(100, 100),))).phases
    assert phase.work.source == "formula"


def test_the_overload_that_was_recorded_is_the_one_that_is_asked():
    with pytest.raises(MissingFactError):
        meta_outputs(Op("aten::sum", (f32(8, 8), (1,), False, None), overload="no_such_overload"))
    assert meta_outputs(Op("aten::sum", (f32(8, 8), (1,), False, None), overload="dim_IntList")) == (
        TensorMeta((8,), "float32", (1,)),
    )
