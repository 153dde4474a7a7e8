"""Convolutions against torch: its own count, its outputs, and which inputs they depend on (by the gradient)."""

import pytest
import torch
from derivation import distinct_bytes, op_of, output_bytes
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from diagnose.costs import convolution  # noqa: F401
from diagnose.costs.registry import price

DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


@st.composite
def cases(draw, dims=(1, 2, 3), groups=(1, 2, 3)):
    """Sizes, lists and tensors of one convolution."""
    n_dims, n_groups = draw(st.sampled_from(dims)), draw(st.sampled_from(groups))
    spatial = draw(st.lists(st.integers(1, 7), min_size=n_dims, max_size=n_dims))
    kernel = draw(st.lists(st.integers(1, 3), min_size=n_dims, max_size=n_dims))
    stride = draw(st.lists(st.integers(1, 4), min_size=n_dims, max_size=n_dims))
    padding = draw(st.lists(st.integers(0, 2), min_size=n_dims, max_size=n_dims))
    dilation = draw(st.lists(st.integers(1, 2), min_size=n_dims, max_size=n_dims))
    for length, size, pad, step in zip(spatial, kernel, padding, dilation, strict=True):
        assume(length + 2 * pad >= step * (size - 1) + 1)
    x = torch.randn(draw(st.integers(1, 2)), 2 * n_groups, *spatial)
    weight = torch.ones(draw(st.integers(1, 2)) * n_groups, 2, *kernel)
    return x, weight, stride, padding, dilation, n_groups


def required(name, *args):
    found = price(op_of(name, *args))
    assert found.phases is not None, found.reason
    return [phase.work for phase in found.phases if not phase.is_extra]


def counted(function):
    with FlopCounterMode(display=False) as counter:
        result = function()
    return counter.get_total_flops(), result


def bytes_reached(x, function):
    """Bytes of the elements of ``x`` that the result depends on; all weights are ones, so that no gradient is zero."""
    leaf = x.detach().clone().requires_grad_()
    function(leaf).sum().backward()
    return int((leaf.grad != 0).sum()) * x.element_size()


@settings(max_examples=50, deadline=None)
@given(cases(), DTYPES, st.booleans())
def test_convolution(case, dtype, has_bias):
    x, weight, stride, padding, dilation, groups = case
    x, weight = x.to(dtype), weight.to(dtype)
    bias = torch.ones(weight.shape[0], dtype=dtype) if has_bias else None
    zeros = [0] * len(stride)

    def run(data):
        return torch.ops.aten.convolution(data, weight, bias, stride, padding, dilation, False, zeros, groups)

    flops, result = counted(lambda: run(x))
    (work,) = required("aten::convolution", x, weight, bias, stride, padding, dilation, False, zeros, groups)
    assert work.total_flops == flops
    reached = bytes_reached(x.double(), lambda d: torch.ops.aten.convolution(
        d, weight.double(), None, stride, padding, dilation, False, zeros, groups))  # fmt: skip
    parameters = distinct_bytes(weight) + (distinct_bytes(bias) if has_bias else 0)
    assert work.bytes_read == reached // 8 * x.element_size() + parameters
    assert work.bytes_written == output_bytes(result)


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(0, 1))
def test_transposed_convolution(case, extra):
    x, _, stride, padding, dilation, groups = case
    weight = torch.ones(x.shape[1], 3, *case[1].shape[2:])
    output_padding = [min(extra, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True)]
    for length, size, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True):
        assume((length - 1) * s - 2 * p + d * (size - 1) + 1 > 0)
    args = (x, weight, None, stride, padding, dilation, True, output_padding, groups)
    flops, result = counted(lambda: torch.ops.aten.convolution(*args))
    (work,) = required("aten::convolution", *args)
    assert work.total_flops == flops
    assert work.bytes_read == distinct_bytes(x) + distinct_bytes(weight)
    assert work.bytes_written == output_bytes(result)


@settings(max_examples=30, deadline=None)
@given(cases(groups=(1,)), st.tuples(st.booleans(), st.booleans()))
def test_gradients(case, mask):
    x, weight, stride, padding, dilation, groups = case
    assume(any(mask))
    zeros = [0] * len(stride)
    forward = torch.ops.aten.convolution(x, weight, None, stride, padding, dilation, False, zeros, groups)
    grad = torch.ones_like(forward)
    args = (grad, x, weight, None, stride, padding, dilation, False, zeros, groups, [*mask, False])
    flops, result = counted(lambda: torch.ops.aten.convolution_backward(*args))
    works = required("aten::convolution_backward", *args)
    assert sum(work.total_flops for work in works) == flops
    assert sum(work.bytes_written for work in works) == output_bytes(result)
    reached = bytes_reached(x, lambda data: torch.ops.aten.convolution(
        data, weight, None, stride, padding, dilation, False, zeros, groups))  # fmt: skip
    compulsory = distinct_bytes(grad) + mask[0] * distinct_bytes(weight) + mask[1] * reached
    assert sum(work.bytes_read - work.extra_bytes for work in works) == compulsory


@settings(max_examples=20, deadline=None)
@given(cases(groups=(2, 3)))
def test_gradients_of_groups_are_those_of_their_parts(case):
    x, weight, stride, padding, dilation, groups = case
    zeros = [0] * len(stride)
    forward = torch.ops.aten.convolution(x, weight, None, stride, padding, dilation, False, zeros, groups)
    args = (stride, padding, dilation, False, zeros)
    parts = zip(forward.chunk(groups, 1), x.chunk(groups, 1), weight.chunk(groups, 0), strict=True)
    each = [
        sum(
            work.total_flops
            for work in required("aten::convolution_backward", *part, None, *args, 1, [True, True, False])
        )
        for part in parts
    ]
    whole = required("aten::convolution_backward", forward, x, weight, None, *args, groups, [True, True, False])
    assert sum(work.total_flops for work in whole) == sum(each)


def direct_multiply_adds(x, weight, stride, padding):
    """The six loops of a 2-D convolution, padding counted like any other place."""
    count = 0
    rows = (x.shape[2] + 2 * padding[0] - weight.shape[2]) // stride[0] + 1
    columns = (x.shape[3] + 2 * padding[1] - weight.shape[3]) // stride[1] + 1
    for _ in range(x.shape[0] * weight.shape[0] * rows * columns):
        count += weight.shape[1] * weight.shape[2] * weight.shape[3]
    return count


@settings(max_examples=20, deadline=None)
@given(cases(dims=(2,), groups=(1,)), st.sampled_from(["thnn", "slow", "mkldnn", "miopen", "cudnn"]))
def test_the_libraries_ops_count_like_the_loops(case, library):
    x, weight, stride, padding, _, _ = case
    size, ones = list(weight.shape[2:]), [1, 1]
    assume(all(n + 2 * p >= k for n, p, k in zip(x.shape[2:], padding, size, strict=True)))
    args = {
        "thnn": ("aten::thnn_conv2d", (x, weight, size, None, stride, padding)),
        "slow": ("aten::_slow_conv2d_forward", (x, weight, size, None, stride, padding)),
        "mkldnn": ("aten::mkldnn_convolution", (x, weight, None, padding, stride, ones, 1)),
        "miopen": ("aten::miopen_convolution", (x, weight, None, padding, stride, ones, 1, False, False)),
        "cudnn": ("aten::cudnn_convolution", (x, weight, padding, stride, ones, 1, False, False, True)),
    }
    name, inputs = args[library]
    (work,) = required(name, *inputs)
    assert work.total_flops == 2 * direct_multiply_adds(x, weight, stride, padding)
    result = torch.nn.functional.conv2d(x, weight, None, stride, padding)
    assert work.bytes_written == output_bytes(result)


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding(kernel, dilation):
    x, weight = torch.randn(1, 2, 9), torch.ones(3, 2, kernel)
    result = torch.nn.functional.conv1d(x, weight, padding="same", dilation=dilation)
    flops, _ = counted(lambda: torch.nn.functional.conv1d(x, weight, padding="same", dilation=dilation))
    (work,) = required("aten::conv1d", x, weight, None, [1], "same", [dilation], 1)
    assert work.bytes_written == output_bytes(result)
    assert work.total_flops == flops


def test_conv_tbc():
    x, weight, bias = torch.ones(7, 2, 3), torch.ones(3, 3, 4), torch.zeros(4)
    result = torch.conv_tbc(x, weight, bias, 0)
    (work,) = required("aten::conv_tbc", x, weight, bias, 0)
    assert work.total_flops == 2 * int(result.sum())  # of ones, the result counts its own multiply-adds
    assert work.bytes_written == output_bytes(result)
    assert work.bytes_read == sum(distinct_bytes(tensor) for tensor in (x, weight, bias))
