"""Softmax and norms: what cannot be shown by running torch on a CPU."""

from diagnose.costs import batch_norm, normalization, softmax  # noqa: F401  (registers the formulas)
from diagnose.costs.registry import KernelSignature, price
from diagnose.costs.sharing import share
from diagnose.work import Op, TensorMeta


def bf16(*shape):
    return TensorMeta(shape, "bfloat16")


def total(name, *inputs):
    first, *rest = price(Op(name, inputs)).phases
    for phase in rest:
        first = type(first)(first.work + phase.work)
    return first.work


def test_half_to_float_writes_float32():
    assert total("aten::_log_softmax", TensorMeta((4, 8), "float16"), 1, True).bytes_written == 128
    assert total("aten::_softmax", TensorMeta((4, 8), "float16"), 1, False).bytes_written == 64


def test_the_gradient_of_a_softmax_has_the_inputs_dtype():
    y = TensorMeta((4, 8), "float32")
    assert total("aten::_softmax_backward_data", y, y, 1, 5).bytes_written == 64


def test_layer_norm_keeps_its_statistics_in_float32():
    found = total("aten::native_layer_norm", bf16(2, 3, 16), (16,), bf16(16), None, 1e-5)
    assert (found.bytes_read, found.bytes_written) == (2 * 96 + 32, 2 * 96 + 2 * 4 * 6)


BATCH_NORM = (bf16(10, 64, 112, 112), bf16(64), bf16(64), bf16(64), bf16(64), True, 0.1, 1e-5)
SIZE = 2 * 10 * 64 * 112 * 112


def test_training_batch_norm_is_shared_by_what_its_kernels_do():
    """GIVEN the three kernels of a training step WHEN shared THEN each has its own pass, and none is lost."""
    names = [
        "void at::native::batch_norm_collect_statistics_kernel<at::native::Var, c10::BFloat16>",
        "void at::native::(anonymous namespace)::unrolled_elementwise_kernel_for_multi_outputs<3>",
        "void at::native::batch_norm_transform_input_kernel<c10::BFloat16>",
    ]
    phases = price(Op("aten::native_batch_norm", BATCH_NORM)).phases
    statistics, running, transform = share(phases, [KernelSignature(name, 64, 1000) for name in names])
    assert statistics.bytes_read == SIZE
    assert running.bytes_accessed < 4096
    assert (transform.extra_bytes, transform.bytes_written) == (SIZE, SIZE)
    everything = total("aten::native_batch_norm", *BATCH_NORM)
    assert statistics.total_flops + running.total_flops + transform.total_flops == everything.total_flops


def test_a_library_that_normalises_in_one_kernel_reads_its_input_once():
    inputs = (*BATCH_NORM[:1], *(TensorMeta((64,), "float32"),) * 4, True, 0.1, 1e-5)
    found = total("aten::cudnn_batch_norm", *inputs)
    assert SIZE < found.bytes_read < SIZE + 4096
    assert found.extra_bytes == 0


def test_known_statistics_cost_one_pass():
    trained = total("aten::native_batch_norm", *BATCH_NORM)
    evaluated = total("aten::native_batch_norm", *BATCH_NORM[:5], False, 0.1, 1e-5)
    assert evaluated.bytes_accessed < trained.bytes_accessed - trained.extra_bytes
    assert evaluated.total_flops * 2 == trained.total_flops
    assert total("aten::_native_batch_norm_legit_no_training", *BATCH_NORM[:5], 0.1, 1e-5) == evaluated


def test_layer_norms_gradient_reads_twice_only_for_its_second_kernel():
    x, statistic = bf16(64, 32), TensorMeta((64, 1), "float32")
    inputs = (x, x, (32,), statistic, statistic, bf16(32), bf16(32))
    both = total("aten::native_layer_norm_backward", *inputs, (True, True, True))
    only_input = total("aten::native_layer_norm_backward", *inputs, (True, False, False))
    assert both.extra_bytes == 2 * 64 * 32 * 2
    assert only_input.extra_bytes == 0
    assert both.bytes_written == only_input.bytes_written + 2 * 32 * 2


def test_flags_that_were_not_recorded_leave_the_op_unknown():
    x, statistic = bf16(64, 32), TensorMeta((64, 1), "float32")
    inputs = (x, x, (32,), statistic, statistic, bf16(32), bf16(32), ())
    assert price(Op("aten::native_layer_norm_backward", inputs)).phases is None
