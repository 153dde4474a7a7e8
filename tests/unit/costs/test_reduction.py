"""Reductions as traces hold them."""

import pytest

from diagnose.costs import loss, pooling, reduction  # noqa: F401  (registers the formulas)
from diagnose.costs.registry import price, workers_of
from diagnose.work import UNKNOWN, Op, TensorMeta, Work


def work(name, *inputs):
    (phase,) = price(Op(name, inputs)).phases
    return phase.work


def f32(*shape):
    return TensorMeta(shape, "float32")


def test_a_mean_over_the_last_dimension():
    assert work("aten::mean", f32(16, 559, 1024), (-1,), True, None) == Work(
        (("vector.float32", 16 * 559 * 1024),), 4 * 16 * 559 * 1024, 4 * 16 * 559
    )


def test_on_a_cpu_the_sum_below_a_mean_does_its_work():
    assert "aten::sum" in workers_of("aten::mean")


@pytest.mark.parametrize(
    ("dims", "keepdim", "written"), [((0,), False, 8), ((0, 2), True, 3), ((), False, 1), (None, False, 1)]
)
def test_output_shapes(dims, keepdim, written):
    assert work("aten::sum", f32(4, 3, 2), dims, keepdim, None).bytes_written == {
        8: 3 * 2 * 4, 3: 3 * 4, 1: 4,
    }[written]  # fmt: skip


def test_a_reduction_over_everything_by_its_name_alone():
    assert work("aten::all", TensorMeta((1, 141), "bool")) == Work((("vector.int32", 141),), 141, 1)
    assert work("aten::max", f32(4, 5)).bytes_written == 4
    assert work("aten::argmax", f32(4, 5), None, False).bytes_written == 8


def test_a_maximum_along_a_dimension_has_indices_too():
    assert work("aten::max", f32(4, 5), 1, False).bytes_written == 4 * 4 + 4 * 8


def test_whole_numbers_are_summed_in_int64():
    assert work("aten::sum", TensorMeta((10,), "int32"), (0,), True, None).bytes_written == 8
    assert work("aten::cumsum", TensorMeta((10,), "bool"), 0, None).bytes_written == 80


def test_the_elementwise_maximum_of_two_tensors_is_no_reduction():
    assert price(Op("aten::max", (f32(4), f32(4)))).phases is None
    assert "aten::maximum" in workers_of("aten::max")


def test_dimensions_that_were_not_recorded_leave_the_op_unknown():
    assert price(Op("aten::sum", (f32(4, 5), UNKNOWN, True, None))).phases is None
    assert price(Op("aten::topk", (f32(4, 5), UNKNOWN, 1))).phases is None


def test_the_gradient_of_pooling_reads_only_the_shape_of_the_pooled():
    pooled, x = TensorMeta((10, 64, 56, 56), "bfloat16"), TensorMeta((10, 64, 112, 112), "bfloat16")
    indices = TensorMeta((10, 64, 56, 56), "int64")
    found = work("aten::max_pool2d_with_indices_backward", pooled, x, (3, 3), (2, 2), (1, 1), (1, 1), False, indices)
    assert found.bytes_read == 10 * 64 * 56 * 56 * (2 + 8)
    assert found.bytes_written == 10 * 64 * 112 * 112 * 2


def test_a_cross_entropy_does_not_read_the_logits_it_does_not_look_up():
    logits, target = f32(8, 50_000), TensorMeta((8,), "int64")
    assert work("aten::nll_loss_forward", logits, target, None, 1, -100).bytes_read == 8 * 4 + 8 * 8
