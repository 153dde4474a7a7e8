"""Triton kernels as traces hold them: pointers in order, then numbers; the arithmetic stands beside each row."""

import pytest

from diagnose import costs
from diagnose.costs.registry import price
from diagnose.costs.triton_names import PARTS, read_triton_name
from diagnose.work import UNKNOWN, Op, TensorMeta, Work, flops_of
from tests.builders import TraceBuilder

costs.load()

N = 1 << 20


def bf16(*shape):
    return TensorMeta(shape, "bfloat16")


def f32(*shape):
    return TensorMeta(shape, "float32")


def i64(*shape):
    return TensorMeta(shape, "int64")


def launch(name, *inputs, tiles="XBLOCK=1024", **attributes):
    own = {"backend": "triton", "tiles": tiles, **attributes}
    return Op(name, inputs, attributes=tuple(sorted(own.items())))


def work(name, *inputs, **attributes):
    (phase,) = price(launch(name, *inputs, **attributes)).phases
    return phase.work


def triton(read, written, is_bound=False, **flops):
    counted = None if flops == {"flops": None} else flops_of({k.replace("_", ".", 1): v for k, v in flops.items()})
    return Work(counted, read, written, source="triton", is_bound=is_bound)


POINTWISE = {
    "a cast: 4 bytes in, 2 out, nothing computed": (
        ("triton_poi_fused__to_copy_1", f32(131072, 64), bf16(131072, 64), 8388608),
        triton(4 * 8388608, 2 * 8388608),
    ),
    "an add of two into a third": (
        ("triton_poi_fused_add_0", bf16(N), bf16(N), bf16(N), N),
        triton(2 * 2 * N, 2 * N, vector_float32=N),
    ),
    "gelu: 4 operations and an erf an element": (
        ("triton_poi_fused_gelu_3", f32(64, 1024), f32(64, 1024), 65536),
        triton(4 * 65536, 4 * 65536, vector_float32=4 * 65536, special=65536),
    ),
    "a bias added in place: the last pointer is too short to be the result, so the first is read and written": (
        ("triton_poi_fused_convolution_relu_2", f32(8, 64, 56, 56), f32(64), 8 * 64 * 3136),
        triton(4 * (8 * 64 * 3136 + 64), 4 * 8 * 64 * 3136, vector_float32=2 * 8 * 64 * 3136),
    ),
    "one pointer, and the name makes its values: nothing is read": (
        ("triton_poi_fused_zeros_like_0", f32(N), N),
        triton(0, 4 * N),
    ),
    "one pointer otherwise: in place": (
        ("triton_poi_fused_relu_0", f32(N), N),
        triton(4 * N, 4 * N, vector_float32=N),
    ),
    "two tiled dimensions: 512 x 64 iterations": (
        ("triton_poi_fused_clone_5", bf16(512, 64), bf16(64, 512), 512, 64, {"tiles": "YBLOCK=32,XBLOCK=32"}),
        triton(2 * 32768, 2 * 32768),
    ),
    "sizes stand before the length of the loop": (
        ("triton_poi_fused_mul_0", f32(888), f32(888), f32(888), 12, 74, 888),
        triton(2 * 4 * 888, 4 * 888, vector_float32=888),
    ),
    "a look-up by 32 ids reads 32 rows of the table, not its 201088": (
        ("triton_poi_fused_embedding_0", i64(32), bf16(201088, 2880), bf16(32, 2880), 92160),
        triton(8 * 32 + 2 * 92160, 2 * 92160),
    ),
    "a gate: two halves of one tensor are the operands, so all of it is read": (
        ("triton_poi_fused_mul_silu_0", bf16(32, 2 * 512), bf16(32, 512), 32 * 512),
        triton(2 * 32768, 2 * 16384, vector_float32=4 * 16384, special=16384),
    ),
    "a slice of a larger tensor: an element an iteration": (
        ("triton_poi_fused_clone_slice_0", bf16(32, 3 * 512), bf16(32, 512), 32 * 512),
        triton(2 * 16384, 2 * 16384),
    ),
    "padding: the result is longer than what is read": (
        ("triton_poi_fused_constant_pad_nd_0", bf16(32, 2880), bf16(32, 3072), 98304),
        triton(2 * 92160, 2 * 98304),
    ),
    "an op that we do not know: bytes without FLOPs": (
        ("triton_poi_fused_constant_pad_nd_moe_forward_0", bf16(32, 2880), bf16(32, 3072), 98304),
        triton(2 * 92160, 2 * 98304, flops=None),
    ),
    "add of two where either the second is the result or the first: a write may be missing": (
        ("triton_poi_fused_add_0", f32(N), f32(N), N),
        triton(4 * N, 4 * N, is_bound=True, vector_float32=N),
    ),
    "a larger input that no op of the name explains: an element an iteration at least": (
        ("triton_poi_fused_relu_0", f32(4 * N), f32(N), N),
        triton(4 * N, 4 * N, is_bound=True, vector_float32=N),
    ),
    "whole numbers are computed as such": (
        ("triton_poi_fused_ge_0", i64(888), TensorMeta((888,), "bool"), 888, {"bytes": 888 * 9.0}),
        triton(8 * 888, 888, vector_int64=888),
    ),
}  # fmt: skip

REDUCTIONS = {
    "RMS norm: 4096 rows of 2880; the root is taken once a row": (
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0", bf16(4096, 2880), bf16(2880), bf16(4096, 2880), 4096,
         2880, {"tiles": "XBLOCK=1,R0_BLOCK=2048"}),
        triton(2 * (4096 * 2880 + 2880), 2 * 4096 * 2880, vector_float32=4 * 4096 * 2880 + 4096),
    ),
    "a persistent sum: its inner tile is no argument": (
        ("triton_per_fused_sum_1", f32(512, 256), f32(512), 512, 256, {"tiles": "XBLOCK=8"}),
        triton(4 * 512 * 256, 4 * 512, vector_float32=512 * 256),
    ),
    "no tile is an argument at all": (
        ("triton_per_fused_sum_1", f32(512, 1024), f32(512), 512, 1024, {"tiles": ""}),
        triton(4 * 512 * 1024, 4 * 512, vector_float32=512 * 1024),
    ),
    "softmax in its own place": (
        ("triton_per_fused__softmax_0", f32(512, 128), 512, 128, {"tiles": "XBLOCK=1"}),
        triton(4 * 65536, 4 * 65536, vector_float32=4 * 65536, special=65536),
    ),
    "a mean whose buffer takes the place of its sum: written, not read": (
        ("triton_red_fused_mean_0", f32(64), f32(64, 100), 64, 100, {"tiles": "XBLOCK=1,RBLOCK=128"}),
        triton(4 * 6400, 4 * 64, vector_float32=6400),
    ),
    "a product with one column is a sum of products": (
        ("triton_red_fused_mv_0", f32(64, 100), f32(100), f32(64), 64, 100, {"tiles": "XBLOCK=1,R0_BLOCK=128"}),
        triton(4 * 6500, 4 * 64, vector_float32=2 * 6400),
    ),
}  # fmt: skip

TEMPLATES = {
    "a product": (
        ("triton_tem_fused_mm_0", bf16(256, 512), bf16(512, 1024), bf16(256, 1024), 4, 1, 1),
        triton(2 * (256 * 512 + 512 * 1024), 2 * 256 * 1024, tensor_bfloat16=2 * 256 * 512 * 1024),
    ),
    "the weight lies there transposed, the activation with its batch": (
        ("triton_tem_fused_mm_0", bf16(4, 64, 512), bf16(1024, 512), bf16(4, 64, 1024)),
        triton(2 * (256 * 512 + 512 * 1024), 2 * 256 * 1024, tensor_bfloat16=2 * 256 * 512 * 1024),
    ),
    "a bias first, and a relu on the result": (
        ("triton_tem_fused_addmm_relu_0", f32(1024), f32(256, 512), f32(512, 1024), f32(256, 1024)),
        triton(4 * (1024 + 256 * 512 + 512 * 1024), 4 * 256 * 1024, tensor_float32=2 * 256 * 512 * 1024,
               vector_float32=2 * 256 * 1024),
    ),
    "the result takes the place of the residual": (
        ("triton_tem_fused_add_mm_0", bf16(256, 1024), bf16(256, 512), bf16(1024, 512)),
        triton(2 * (256 * 1024 + 256 * 512 + 512 * 1024), 2 * 256 * 1024, tensor_bfloat16=2 * 256 * 512 * 1024,
               vector_float32=256 * 1024),
    ),
    "16 products": (
        ("triton_tem_fused_bmm_0", bf16(16, 128, 64), bf16(16, 64, 96), bf16(16, 128, 96)),
        triton(2 * 16 * (128 * 64 + 64 * 96), 2 * 16 * 128 * 96, tensor_bfloat16=2 * 16 * 128 * 64 * 96),
    ),
    "a convolution: 64 x 3 x 3 multiply-adds an element": (
        ("triton_tem_fused_convolution_0", f32(8, 64, 28, 28), f32(128, 64, 3, 3), f32(8, 128, 28, 28)),
        triton(4 * (8 * 64 * 784 + 128 * 64 * 9), 4 * 8 * 128 * 784, tensor_float32=2 * 8 * 128 * 784 * 576,
               vector_float32=8 * 128 * 784),
    ),
    "the sum of two products": (
        ("triton_tem_fused_add_mm_0", bf16(256, 512), bf16(512, 1024), bf16(256, 128), bf16(128, 1024),
         bf16(256, 1024)),
        triton(2 * (256 * 512 + 512 * 1024 + 256 * 128 + 128 * 1024), 2 * 256 * 1024,
               tensor_bfloat16=2 * 256 * 1024 * (512 + 128), vector_float32=256 * 1024),
    ),
    "sizes that tell nothing: Inductor's count, where it was kept": (
        ("triton_tem_fused_mm_0", bf16(7, 11), bf16(13, 17), bf16(19, 23), {"flops": 1e6}),
        triton(2 * (77 + 221), 2 * 437, tensor_bfloat16=1_000_000),
    ),
    "or nothing": (
        ("triton_tem_fused_mm_0", bf16(7, 11), bf16(13, 17), bf16(19, 23)),
        triton(2 * (77 + 221), 2 * 437, flops=None),
    ),
}  # fmt: skip

BOUNDS = {
    "a user's kernel: every element of every pointer once": (
        ("fused_moe_kernel", bf16(32, 64), bf16(128, 64), bf16(32, 128), 32),
        triton(2 * (2048 + 8192), 2 * 4096, is_bound=True, flops=None),
    ),
    "no lengths recorded: no pointer beyond what the first or the last one holds": (
        ("triton_poi_fused_0", TensorMeta((32,), "int32"), bf16(201088, 2880), f32(4096, 64), bf16(4096, 64)),
        triton(4 * 32 + 2 * 262144 + 4 * 262144, 2 * 262144, is_bound=True, flops=None),
    ),
    "a list of tensors at once": (
        ("triton_for_fused_add_0", f32(64), f32(96), f32(64), f32(96)),
        triton(4 * (64 + 96 + 64), 4 * 96, is_bound=True, flops=None),
    ),
    "numbers that cannot be lengths: nothing is long enough to take the results": (
        ("triton_poi_fused_relu_0", f32(64), f32(64), 1 << 40),
        triton(256, 256, is_bound=True, flops=None),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(*row, id=name)
        for table in (POINTWISE, REDUCTIONS, TEMPLATES, BOUNDS)
        for name, row in table.items()
    ],
)
def test_work(call, expected):
    name, *inputs = call
    attributes = inputs.pop() if isinstance(inputs[-1], dict) else {}
    assert work(name, *inputs, **attributes) == expected


def test_inductors_own_estimate_is_the_sum_and_no_bound():
    # In place: 2 N read (two tensors), N written; without the estimate one of the three is missed.
    name, *inputs = "triton_poi_fused_add_0", f32(N), f32(N), N
    assert work(name, *inputs, bytes=12.0 * N) == triton(8 * N, 4 * N, vector_float32=N)


def test_a_name_alone_will_do_where_older_recordings_say_no_backend():
    (phase,) = price(Op("triton_per_fused_sum_1", (f32(512, 256), f32(512), 512, 256))).phases
    assert phase.work.bytes_written == 4 * 512


def test_an_op_of_that_name_without_shapes_is_unknown_for_that_reason():
    assert price(Op("triton_poi_fused_add_0", None)).reason == "shapes were not recorded"
    assert price(launch("triton_poi_fused_add_0", UNKNOWN, f32(4), 4)).phases is None
    assert price(launch("triton_poi_fused_add_0", 4)).phases is None


@pytest.mark.parametrize(
    ("name", "kind", "ops"),
    [
        ("triton_poi_fused_add_bitwise_and_bitwise_not_bitwise_or_ge_lt_mul_sub_0", "pointwise",
         ("add", "bitwise_and", "bitwise_not", "bitwise_or", "ge", "lt", "mul", "sub")),
        ("triton_red_fused__to_copy_add_native_layer_norm_native_layer_norm_backward_12", "reduction",
         ("_to_copy", "add", "native_layer_norm", "native_layer_norm_backward")),
        ("mymodel_triton_per_fused__softmax_0", "persistent", ("_softmax",)),
        ("triton_poi_fused_0", "pointwise", None),
        ("triton_poi_fused_frobnicate_7", "pointwise", None),
        ("triton_tem_fused_addmm_gelu_3", "template", ("addmm", "gelu")),
        ("triton_mm_kernel", "user", None),
        ("_fwd_kernel", "user", None),
    ],
)  # fmt: skip
def test_names(name, kind, ops):
    found = read_triton_name(name)
    assert (found.kind, found.ops) == (kind, ops)


def test_every_part_is_found_again_alone_in_a_name():
    for part in PARTS:
        assert read_triton_name(f"triton_poi_fused_{part}_0").ops == (part,)


HOSTILE = [
    {"kernel_backend": "triton", "kernel_kwargs": ["XBLOCK=1"], "kernel_num_gb": "many", "kernel_flop": -1},
    {"kernel_backend": "triton", "kernel_kwargs": "XBLOCK=" * 10_000, "kernel_num_gb": 1e300},
    {"kernel_backend": "triton", "kernel_kwargs": "__import__('os').system('true')", "kernel_num_gb": True},
    {"kernel_backend": {"a": 1}},
    {"kernel_backend": "x" * 100_000},
    {"kernel_backend": "triton", "kernel_file": "/etc/passwd", "kernel_num_gb": None},
]


@pytest.mark.parametrize("own", HOSTILE)
def test_a_hostile_attribute_costs_that_attribute(own):
    trace = TraceBuilder()
    inputs = [((N,), "bfloat16"), ((N,), "bfloat16"), ((N,), "bfloat16")]
    trace.op("triton_poi_fused_add_0", 1, 8, inputs=inputs, **own)
    trace.kernel("triton_poi_fused_add_0", 20, 30, correlation=trace.launch(2, 3))
    found = trace.reading().trace
    (op,) = found.signatures
    assert op.inputs[:3] == (TensorMeta((N,), "bfloat16", (1,)),) * 3
    assert set(dict(op.attributes)) <= {"backend", "tiles"}
    (phase,) = price(op).phases
    assert phase.work.bytes_read == 4 * N


def test_attributes_reach_the_op_in_our_words():
    trace = TraceBuilder()
    own = {"kernel_backend": "triton", "kernel_kwargs": "XBLOCK=16", "kernel_num_gb": 1.5, "kernel_flop": "2000"}
    trace.op("triton_poi_fused_add_0", 1, 8, inputs=[((4,), "float32")], num_warps=8, **own)
    (op,) = trace.reading().trace.signatures
    assert op.attributes == (("backend", "triton"), ("bytes", 1.5e9), ("flops", 2000.0), ("tiles", "XBLOCK=16"))
    assert op.attribute("tiles") == "XBLOCK=16"
    assert op.attribute("file") is None


@pytest.mark.parametrize(
    ("name", "inputs", "written"),
    [
        ("aten::mm", (bf16(64, 32), bf16(32, 16), f32(64, 16)), 4 * 1024),
        ("aten::bmm", (bf16(2, 64, 32), bf16(2, 32, 16), bf16(2, 64, 16)), 2 * 2048),
        ("aten::addmm", (bf16(16), bf16(64, 32), bf16(32, 16), 1, 1, bf16(64, 16)), 2 * 1024),
        ("aten::baddbmm", (bf16(2, 1, 16), bf16(2, 64, 32), bf16(2, 32, 16), 1, 1, bf16(2, 64, 16)), 2 * 2048),
    ],
)
def test_the_out_tensor_of_an_extern_kernel_is_written_and_not_read(name, inputs, written):
    main, *_ = price(Op(name, inputs)).phases
    assert main.work.bytes_written == written
    assert main.work.bytes_read == sum(2 * t.numel for t in inputs[:-1] if isinstance(t, TensorMeta))
