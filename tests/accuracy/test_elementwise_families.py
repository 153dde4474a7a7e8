"""Work of elementwise ops against real tensors: bytes by counting offsets, FLOPs by running a definition."""

import math

import pytest
import torch
from counted import bigger, count, elementwise, root, smaller, special
from derivation import distinct_bytes, op_of, output_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

import diagnose.costs.filling
import diagnose.costs.pointwise  # noqa: F401  (registers the formulas)
from diagnose.costs.registry import price

ATEN = torch.ops.aten


def work_of(op):
    priced = price(op)
    assert priced.phases is not None, priced.reason
    total = priced.phases[0].work
    for phase in priced.phases[1:]:
        total = total + phase.work
    return total


# Name, how many tensors, further arguments, the definition of one element.
DEFINITIONS = [
    ("add", 2, (), lambda a, b: a + b),
    ("sub", 2, (), lambda a, b: a - b),
    ("mul", 2, (), lambda a, b: a * b),
    ("div", 2, (), lambda a, b: a / b),
    ("minimum", 2, (), smaller),
    ("maximum", 2, (), bigger),
    ("clamp_min", 1, (0.5,), lambda a: bigger(a, 0.5)),
    ("clamp", 1, (0.1, 0.7), lambda a: smaller(bigger(a, 0.1), 0.7)),
    ("addcmul", 3, (), lambda a, b, c: a + b * c),
    ("addcdiv", 3, (), lambda a, b, c: a + b / c),
    ("lerp", 2, (0.3,), lambda a, b: a + 0.3 * (b - a)),
    ("neg", 1, (), lambda a: -a),
    ("sqrt", 1, (), root),
    ("rsqrt", 1, (), root),
    ("reciprocal", 1, (), lambda a: 1 / a),
    ("exp", 1, (), special),
    ("log", 1, (), special),
    ("sin", 1, (), special),
    ("cos", 1, (), special),
    ("tanh", 1, (), special),
    ("erf", 1, (), special),
    ("relu", 1, (), lambda a: bigger(a, 0)),
    ("sigmoid", 1, (), lambda a: 1 / (1 + special(-a))),
    ("silu", 1, (), lambda a: a / (1 + special(-a))),
    ("gelu", 1, (), lambda a: a * 0.5 * (1 + special(a * 0.707))),
    ("gelu", 1, ("tanh",), lambda a: 0.5 * a * (1 + special(0.8 * (a + 0.04 * (a * a * a))))),
    ("mish", 1, (), lambda a: a * special(special(special(a)))),
    ("hardswish", 1, (), lambda a: a * smaller(bigger(a + 3, 0), 6) / 6),
    ("hardsigmoid", 1, (), lambda a: smaller(bigger(a + 3, 0), 6) / 6),
    ("pow", 1, (2,), lambda a: a * a),
    ("pow", 1, (3,), lambda a: a * a * a),
    ("threshold_backward", 2, (0,), lambda _, x: bigger(x, 0)),
    ("tanh_backward", 2, (), lambda g, y: g * (1 - y * y)),
    ("sigmoid_backward", 2, (), lambda g, y: g * (1 - y) * y),
    ("silu_backward", 2, (), lambda g, x: g * (s := 1 / (1 + special(-x))) * (1 + x * (1 - s))),
    (
        "gelu_backward",
        2,
        (),
        lambda g, x: g * (0.5 * (1 + special(x * 0.707)) + x * (special(x * x * -0.5) * 0.398)),
    ),
    ("eq", 2, (), bigger),
    ("ge", 2, (), bigger),
]


@pytest.mark.parametrize(
    ("name", "tensors", "rest", "definition"),
    DEFINITIONS,
    ids=lambda value: None if callable(value) else str(value)[:24],
)
def test_operations_are_those_of_the_definition_run_element_by_element(name, tensors, rest, definition):
    inputs = [torch.rand(3, 5) + 0.1 for _ in range(tensors)]
    keywords = {"approximate": rest[0]} if rest == ("tanh",) else {}
    result = getattr(ATEN, name)(*inputs, *(() if keywords else rest), **keywords)
    work = work_of(op_of(f"aten::{name}", *inputs, *rest))

    flops, specials = count(elementwise(definition), *(tensor.reshape(-1).tolist() for tensor in inputs))

    assert dict(work.flops) == {k: v for k, v in {"vector.float32": flops, "special": specials}.items() if v}
    assert work.bytes_read == sum(map(distinct_bytes, inputs))
    assert work.bytes_written == output_bytes(result)


DTYPES = [
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


def laid_out(shape, dtype, layout):
    """A tensor of that shape: dense, transposed, expanded along the first dimension, or every second of a larger."""
    full = torch.ones
    if layout == "transposed":
        return full(tuple(reversed(shape)), dtype=dtype).permute(*reversed(range(len(shape))))
    if layout == "expanded" and shape:
        return full((1, *shape[1:]), dtype=dtype).expand(shape)
    if layout == "sliced" and shape:
        return full((*shape[:-1], shape[-1] * 2), dtype=dtype)[..., ::2]
    return full(shape, dtype=dtype)


SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
LAYOUTS = st.sampled_from(["dense", "transposed", "expanded", "sliced"])


@st.composite
def broadcastable(draw, count):
    shape = draw(SHAPES)
    tensors = []
    for _ in range(count):
        sizes = [draw(st.sampled_from([size, size, 1])) for size in shape]
        kept = draw(st.integers(0, len(shape) - 1))
        tensors.append(laid_out(tuple(sizes[kept:]), draw(st.sampled_from(DTYPES)), draw(LAYOUTS)))
    return tensors


@settings(max_examples=60, deadline=None)
@given(broadcastable(2), st.sampled_from(["add", "mul", "div", "maximum", "eq", "lt", "logical_and", "atan2"]))
def test_bytes_of_two_operands_of_any_layout_and_dtype(tensors, name):
    result = getattr(ATEN, name)(*tensors)
    work = work_of(op_of(f"aten::{name}", *tensors))
    assert work.bytes_read == sum(map(distinct_bytes, tensors))
    assert work.bytes_written == output_bytes(result)
    assert sum(dict(work.flops).values()) == result.numel() * (2 if name == "atan2" else 1)


@settings(max_examples=40, deadline=None)
@given(broadcastable(1), st.sampled_from([True, 2, 2.5]), st.sampled_from(["add", "mul", "div", "gt", "remainder"]))
def test_a_python_number_promotes_only_across_kinds_and_moves_nothing(tensors, number, name):
    (tensor,) = tensors
    if name == "remainder" and tensor.dtype == torch.bool and number is True:
        return  # torch has no remainder of two truths
    result = getattr(ATEN, name)(tensor, number)
    work = work_of(op_of(f"aten::{name}", tensor, number))
    assert work.bytes_read == distinct_bytes(tensor)
    assert work.bytes_written == output_bytes(result)


@settings(max_examples=40, deadline=None)
@given(broadcastable(2))
def test_where_reads_its_mask_too(tensors):
    mask = torch.ones(tensors[0].shape, dtype=torch.bool)
    result = torch.where(mask, *tensors)
    work = work_of(op_of("aten::where", mask, *tensors))
    assert work.bytes_read == sum(map(distinct_bytes, (mask, *tensors)))
    assert work.bytes_written == output_bytes(result)


IN_PLACE = [
    ("add_", (torch.ones(5),)), ("mul_", (3.0,)), ("relu_", ()), ("clamp_min_", (0,)), ("neg_", ()), ("sigmoid_", ()),
    ("masked_fill_", (torch.ones(4, 1, dtype=torch.bool), 0.0)), ("addcmul_", (torch.ones(5), torch.ones(4, 1))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rest"), IN_PLACE)
@pytest.mark.parametrize("layout", ["dense", "transposed", "sliced"])
def test_in_place_goes_both_ways_over_the_target(name, rest, layout):
    target = laid_out((4, 5), torch.bfloat16, layout)
    getattr(ATEN, name)(target, *rest)
    work = work_of(op_of(f"aten::{name}", target, *rest))
    assert work.bytes_read == distinct_bytes(target) + sum(
        distinct_bytes(item) for item in rest if isinstance(item, torch.Tensor)
    )
    assert work.bytes_written == distinct_bytes(target)


@pytest.mark.parametrize(
    ("name", "rest"), [("fill_", (1.0,)), ("zero_", ()), ("uniform_", ()), ("normal_", ()), ("bernoulli_", (0.5,))]
)
def test_overwriting_reads_nothing(name, rest):
    target = torch.ones(4, 5)
    getattr(ATEN, name)(target, *rest)
    work = work_of(op_of(f"aten::{name}", target, *rest))
    assert (work.bytes_read, work.bytes_written) == (0, distinct_bytes(target))


UNARY_OUTPUTS = [
    "abs", "sign", "floor", "ceil", "round", "trunc", "exp", "log1p", "expm1", "sqrt", "reciprocal", "sigmoid", "isnan",
    "isinf", "isneginf", "logical_not", "tril", "triu", "square", "erfc", "neg", "relu", "nan_to_num",
]  # fmt: skip


@pytest.mark.parametrize("name", UNARY_OUTPUTS)
@settings(max_examples=8, deadline=None)
@given(st.sampled_from(DTYPES[:-1]), LAYOUTS)
def test_outputs_of_one_operand_have_torchs_dtype(name, dtype, layout):
    tensor = laid_out((4, 6), dtype, layout)
    result = getattr(ATEN, name)(tensor)
    work = work_of(op_of(f"aten::{name}", tensor))
    assert (work.bytes_read, work.bytes_written) == (distinct_bytes(tensor), output_bytes(result))


@pytest.mark.parametrize("arguments", [(7,), (2, 9), (2, 9, 3), (0.0, 1.0, 0.3), (9, 2, -2)])
def test_arange_is_as_long_as_torchs(arguments):
    out = torch.empty(0)
    torch.arange(*arguments, out=out)
    work = work_of(op_of("aten::arange", *arguments, torch.empty(0)))
    assert (work.bytes_read, work.bytes_written) == (0, output_bytes(out))
    assert math.isclose(dict(work.flops)["vector.float32"], 2 * out.numel())


def test_glu_and_dropout():
    x = torch.rand(4, 6)
    glu = work_of(op_of("aten::glu", x, -1))
    assert (glu.bytes_read, glu.bytes_written) == (distinct_bytes(x), output_bytes(ATEN.glu(x, -1)))
    flops, specials = count(
        elementwise(lambda a, b: a * (1 / (1 + special(-b)))),
        x[:, :3].reshape(-1).tolist(),
        x[:, 3:].reshape(-1).tolist(),
    )
    assert dict(glu.flops) == {"vector.float32": flops, "special": specials}
    dropout = work_of(op_of("aten::native_dropout", x, 0.5, True))
    assert dropout.bytes_written == output_bytes(ATEN.native_dropout(x, 0.5, True))


def test_a_tensor_given_as_out_decides_the_written_dtype_and_is_not_read():
    a, b, out = torch.rand(4, 5), torch.rand(4, 5), torch.empty(0, dtype=torch.float64)
    torch.mul(a, b, out=out)
    work = work_of(op_of("aten::mul", a, b, torch.empty(0, dtype=torch.float64)))
    assert (work.bytes_read, work.bytes_written) == (distinct_bytes(a) + distinct_bytes(b), output_bytes(out))
