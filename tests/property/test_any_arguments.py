"""Whatever a stranger's trace says an op was given, pricing it answers: known phases or a reason, at once."""

import math
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import costs
from diagnose.costs import registry
from diagnose.costs.registry import KernelSignature, bound_by_inputs, price
from diagnose.costs.sharing import share
from diagnose.work import UNKNOWN, Op, TensorMeta

costs.load()
NAMES = sorted(registry._FORMULAS)  # every op there is, also those of later days
GENERATED = ["triton_poi_fused_add_0", "triton_red_fused_mean_mul_1", "triton_tem_fused_mm_2", "triton_anything"]
HUGE = 2**62
LONGEST_S = 0.25
"""A formula takes some ten microseconds; a loop over the elements of a huge tensor would take years."""


def t(*shape, dtype="float32", strides=None):
    return TensorMeta(shape, dtype, strides)


X = t(2, 8, 6, 6)
ODD = {
    "shapes not recorded": None,
    "no arguments": (),
    "one tensor": (X,),
    "0-dim tensors": (t(), t(), t(), t()),
    "0-size tensors": (t(0, 4), t(4, 0), t(0), t(0, 0)),
    "tensors without a size": (t(2, 0, 6, 6), t(0, 8, 3, 3), None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1),
    "a thousand dimensions": (t(*(1,) * 1000), t(*(2,) * 300)),
    "huge": (t(HUGE, HUGE), t(HUGE, HUGE), t(HUGE, HUGE), HUGE, HUGE, HUGE),
    "huge pictures": (t(HUGE, HUGE, HUGE, HUGE), t(HUGE, HUGE, HUGE, HUGE), None, (1, 1), (0, 0), (1, 1), False,
                      (0, 0), 1),
    "a huge window": (t(1, 1, 64, 64), t(1, 1, HUGE, HUGE), None, (HUGE, HUGE), (HUGE, HUGE), (HUGE, HUGE), False,
                      (0, 0), HUGE),
    "negative sizes": (t(-2, 3, 4, 5), t(-2, -3, -4, -5), t(-1), (-1, -1), -1),
    "negative numbers": (X, (-1, -2), (-3, -4), (-5, -6), -7, -8, -9),
    "negative lists": (X, X, X, (-1,), (-1, -1), (-2, -2), (-3, -3), (-1, -1), -1, -1, -1),
    "zeros": (X, X, X, (0, 0), (0, 0), (0, 0), False, (0, 0), 0, 0, 0),
    "zeros for numbers": (X, 0, 0, 0, 0, 0, 0, 0, 0),
    "unknown dtype": (t(4, 4, dtype="float3"), t(4, 4, dtype="float3"), t(4, 4, dtype="posit16")),
    "lost dtype": (t(4, 4, dtype=None), t(4, 4, dtype=None), t(4, 4, dtype=None)),
    "texts": ("a", "b", "c", "d", "e", "f"),
    "texts after a tensor": (X, "nan", "inf", "-1", "[", "none"),
    "text where a flag is": (X, X, X, "True", "False", "sum", "mean"),
    "no numbers": (X, X, math.nan, math.inf, -math.inf, math.nan),
    "infinite sizes": (X, (math.inf, math.nan), (math.inf,), math.inf),
    "flags": (True, False, True, False),
    "flags for lists": (X, X, True, True, True, True, True, True, True, True, True),
    "None": (None,) * 12,
    "unknown": (UNKNOWN,) * 12,
    "tensor, then unknown": (X, X, X, *(UNKNOWN,) * 10),
    "empty lists": ((),) * 8,
    "lists of tensors": ((X, X), (X,), (), (X, t()), (t(0),)),
    "lists without dtypes": ((t(3, dtype=None),), (t(3, dtype=None),), 1, 2),
    "mixed lists": ((X, 1, None), ("a", 2), (1.5, "b")),
    "many tensors": (X,) * 30,
    "many numbers": tuple(range(30)),
    "tensors for numbers": (X, t(), t(), t(), t(), t(), t(), t(), t()),
    "strides that overlap": (t(4, 4, strides=(1, 1)), t(4, 4, strides=(0, 0)), t(4, 4, strides=(-4, -1))),
    "huge strides": (t(4, 4, strides=(HUGE, -HUGE)), t(4, 4, strides=(HUGE, HUGE))),
    "other shapes than each other": (t(2, 3), t(5, 7, 11), t(13), t(1, 1, 1, 1)),
    "complex": (t(4, 4, dtype="complex64"), t(4, 4, dtype="complex64"), t(4, 4, dtype="complex32")),
    "bits": (t(4, 4, dtype="bool"), t(4, 4, dtype="float4_e2m1fn_x2"), t(4, 4, dtype="float8_e8m0fnu")),
    "fractions": (X, 0.5, 1.5, (0.5, 1.5), 2.5),
    "attention of no heads": (t(2, 0, 5, 0), t(2, 0, 5, 0), t(2, 0, 5, 0), None, True, 0.0, True),
    "attention of other heads": (t(2, 7, 5, 8), t(2, 3, 5, 8), t(2, 3, 5, 8), None, True, 0.0, True),
}  # fmt: skip

KERNELS = [KernelSignature("Memset (Device)", None, 0), KernelSignature("gemm", 0, 0), KernelSignature("", 7, -5)]


def is_sound(work):
    counts = [count for _, count in work.flops or ()]
    counts += [value for value in (work.bytes_read, work.bytes_written, work.extra_bytes) if value is not None]
    return all(isinstance(count, int) and count >= 0 for count in counts)


def check(op):
    started = time.perf_counter()
    found = price(op)
    bound = bound_by_inputs(op, "why")
    took = time.perf_counter() - started
    assert took < LONGEST_S, f"{op.name} took {took:.2f} s"
    assert (found.phases is None) <= bool(found.reason)
    for phases in (found.phases, bound.phases):
        if phases is None:
            continue
        assert phases, "an op that does nothing says so with a work of nothing"
        assert all(is_sound(phase.work) for phase in phases), phases
        for kernels in (KERNELS[:1], KERNELS):
            works = share(phases, kernels)
            assert len(works) == len(kernels)
            assert all(work is None or is_sound(work) for work in works)


@pytest.mark.parametrize("given_as", ODD)
def test_every_op_has_an_answer_to(given_as):
    for name in [*NAMES, *GENERATED]:
        attributes = (("backend", "triton"), ("tiles", "XBLOCK=16")) if name in GENERATED else ()
        check(Op(name, ODD[given_as], attributes=attributes))


SIZES = st.integers(0, 9) | st.sampled_from([0, 1, 2**31, HUGE])
TENSORS = st.builds(
    TensorMeta,
    st.lists(SIZES, max_size=5).map(tuple),
    st.sampled_from(["float32", "bfloat16", "int64", "bool", "complex64", "uint8", "float9", None]),
)
NUMBERS = st.integers(-3, 9) | st.sampled_from([HUGE, -HUGE]) | st.floats() | st.booleans() | st.none() | st.text()
VALUES = TENSORS | TENSORS | NUMBERS | st.lists(NUMBERS, max_size=4).map(tuple) | st.just(UNKNOWN)
VALUES |= st.lists(TENSORS, max_size=3).map(tuple)


@settings(max_examples=30, deadline=None)
@given(st.lists(VALUES, max_size=20))
def test_every_op_has_an_answer_to_anything(inputs):
    for name in NAMES[:: 1 + len(inputs) % 5]:
        check(Op(name, tuple(inputs)))


@settings(max_examples=30, deadline=None)
@given(st.lists(TENSORS, min_size=1, max_size=6), st.text(max_size=30), st.text(max_size=30))
def test_generated_kernels_have_an_answer_to_anything(tensors, suffix, tiles):
    for kind in ("triton_poi_fused_", "triton_red_fused_", "triton_per_fused_", "triton_tem_fused_", "triton_"):
        attributes = (("backend", "triton"), ("bytes", math.nan), ("flops", -1.0), ("tiles", tiles))
        check(Op(kind + re.sub(r"\W", "_", suffix), tuple(tensors), attributes=attributes))
