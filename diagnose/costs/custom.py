"""Fused ops of serving libraries that read and write whole tensors: vLLM, SGLang, FlashInfer, AITER, DDP's reducer.

They take their outputs as arguments, so that every byte is recorded. A table names for each op which arguments it
reads and writes; the libraries' matrix products, attention, experts and embeddings have rooms of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import cost, free
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import Op, Work

free(
    "_C::weak_ref_tensor",
    # DDP's reducer names a part of itself; the multiplication or copy below it is an op of its own.
    "torch::distributed::reducer::mul_out",
    "torch.distributed.ddp.reducer::copy_bucket_to_grad",
)


class Fused(Struct, frozen=True):
    """What one op does to its arguments.

    Attributes:
        reads, writes: Arguments read and written once; one that is both is in both, one that is None costs nothing.
        flops, special: An element of argument ``counted``.
        counted: The argument whose elements are counted.
        returns: Arguments whose like the op makes anew, one entry a result.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...] = ()
    flops: int = 0
    special: int = 0
    counted: int = 0
    returns: tuple[int, ...] = ()


QUANTISE: Final = 3
"""FLOPs of one element quantised: a product with the inverse scale and two comparisons that keep it in range."""
_LARGEST: Final = 2
"""FLOPs of one element in the search for the largest absolute value."""

_RMS: Final = 4
"""An RMS norm: square, sum, product with the root, product with the weight."""

_NORMS: Final[Mapping[str, Fused]] = {
    # out, x, weight, eps
    "_C::rms_norm": Fused((1, 2), (0,), _RMS, counted=1),
    **{f"{library}::rmsnorm": Fused((1, 2), (0,), _RMS, counted=1) for library in ("sgl_kernel", "flashinfer")},
    **{f"{library}::gemma_rmsnorm": Fused((1, 2), (0,), _RMS + 1, counted=1)
       for library in ("sgl_kernel", "flashinfer")},
    # x, residual, weight, eps; both in place
    "_C::fused_add_rms_norm": Fused((0, 1, 2), (0, 1), _RMS + 1),
    **{f"{library}::fused_add_rmsnorm": Fused((0, 1, 2), (0, 1), _RMS + 1)
       for library in ("sgl_kernel", "flashinfer")},
    **{f"{library}::gemma_fused_add_rmsnorm": Fused((0, 1, 2), (0, 1), _RMS + 2)
       for library in ("sgl_kernel", "flashinfer")},
    # out, x, weight, scale, eps
    "_C::rms_norm_static_fp8_quant": Fused((1, 2, 3), (0,), _RMS + QUANTISE, counted=1),
    # out, x, residual, weight, scale, eps
    "_C::fused_add_rms_norm_static_fp8_quant": Fused((1, 2, 3, 4), (0, 2), _RMS + 1 + QUANTISE, counted=1),
    # x, weight, eps -> like x
    "vllm::rocm_aiter_rms_norm": Fused((0, 1), (), _RMS, returns=(0,)),
    "aiter::rms_norm": Fused((0, 1), (), _RMS, returns=(0,)),
    # x, residual, weight, eps -> like x, like x
    "vllm::rocm_aiter_rmsnorm2d_fwd_with_add": Fused((0, 1, 2), (), _RMS + 1, returns=(0, 0)),
    # out, x, weight, eps
    **{name: Fused((1, 2), (0,), _RMS, counted=1) for name in ("aiter::rms_norm_cu", "aiter::rmsnorm2d_fwd_ck")},
    # out, x, residual, residual out, weight, eps
    "aiter::rmsnorm2d_fwd_with_add_ck": Fused((1, 2, 4), (0, 3), _RMS + 1, counted=1),
}  # fmt: skip

_GATED: Final[Mapping[str, tuple[int, int]]] = {  # out [.., d], x [.., 2 d]; FLOPs and special an output element
    "silu_and_mul": (4, 1), "mul_and_silu": (4, 1), "gelu_and_mul": (5, 1), "gelu_tanh_and_mul": (9, 1),
    "fatrelu_and_mul": (2, 0), "swigluoai_and_mul": (9, 1),
}  # fmt: skip
_PLAIN: Final[Mapping[str, tuple[int, int]]] = {"gelu_new": (8, 1), "gelu_fast": (8, 1), "gelu_quick": (4, 1)}

_ACTIVATIONS: Final[Mapping[str, Fused]] = {
    **{f"{library}::{name}": Fused((1,), (0,), *count)
       for library in ("_C", "sgl_kernel", "flashinfer") for name, count in _GATED.items()},
    **{f"_C::{name}": Fused((1,), (0,), *count) for name, count in _PLAIN.items()},
    **{f"aiter::{name}": Fused((1,), (0,), *count) for name, count in _GATED.items()},
    "_C::silu_and_mul_quant": Fused((1, 2), (0,), 4 + QUANTISE, 1),
    # out, block scales, x, scale
    "_C::silu_and_mul_nvfp4_quant": Fused((2, 3), (0, 1), 2 + QUANTISE + _LARGEST, 1, counted=2),
}  # fmt: skip

_QUANTISATIONS: Final[Mapping[str, Fused]] = {
    # out, x, scale
    "_C::static_scaled_fp8_quant": Fused((1, 2), (0,), QUANTISE, counted=1),
    "_C::static_scaled_int8_quant": Fused((1, 2, 3), (0,), QUANTISE, counted=1),
    "_C::dynamic_per_token_scaled_fp8_quant": Fused((1, 3), (0, 2), QUANTISE + _LARGEST, counted=1),
    "_C::dynamic_scaled_int8_quant": Fused((1,), (0, 2, 3), QUANTISE + _LARGEST, counted=1),
    # out, x, scales
    "aiter::dynamic_per_token_scaled_quant": Fused((1,), (0, 2), QUANTISE + _LARGEST, counted=1),
    "aiter::static_per_tensor_quant": Fused((1, 2), (0,), QUANTISE, counted=1),
    # x, out, scales
    **{name: Fused((0,), (1, 2), QUANTISE + _LARGEST) for name in (
        "_C::per_token_group_fp8_quant", "_C::per_token_group_quant_int8",
        "sgl_kernel::sgl_per_token_group_quant_fp8", "sgl_kernel::sgl_per_token_group_quant_int8",
        "sgl_kernel::sgl_per_token_quant_fp8")},
    # out, x, block scales, scale
    "sgl_kernel::scaled_fp4_quant": Fused((1, 3), (0, 2), QUANTISE + _LARGEST, counted=1),
}  # fmt: skip

_SUMS: Final[Mapping[str, Fused]] = {
    # weights, indices, (source rows,) logits [tokens, experts]: a softmax and one comparison an expert
    "_moe_C::topk_softmax": Fused((3,), (0, 1, 2), 5, 1, counted=3),
    "sgl_kernel::topk_softmax": Fused((2,), (0, 1), 5, 1, counted=2),
    # x [tokens, chosen, hidden], out [tokens, hidden]
    "_moe_C::moe_sum": Fused((0,), (1,), 1),
}


def fused(op: Op, row: Fused) -> Work:
    """One pass over whole arguments.

    Shapes: as recorded; the outputs are arguments.
    FLOPs: ``row.flops`` on the vector unit and ``row.special`` an element of the argument counted
    Bytes: the arguments read, the arguments and results written, each distinct element once
    """
    counted = op.tensor(row.counted)
    read = bytes_of(*(op.tensor_or_none(index) for index in row.reads))
    made = sum(dense_bytes(op.tensor(index).shape, known_dtype(op.tensor(index))) for index in row.returns)
    written = bytes_of(*(op.tensor_or_none(index) for index in row.writes)) + made
    flops = operations(known_dtype(counted), row.flops * counted.numel, row.special * counted.numel)
    return Work(flops, read, written)


for _name, _row in {**_NORMS, **_ACTIVATIONS, **_QUANTISATIONS, **_SUMS}.items():
    cost(_name)(lambda op, row=_row: fused(op, row))  # type: ignore[misc]


@cost("_C::rms_norm_dynamic_per_token_quant")
def rms_norm_dynamic_quant(op: Op) -> Work:
    """Shapes: out, x, weight, scales, eps, upper bound?, residual? (in place).

    FLOPs: an RMS norm, the search for a row's largest value, a quantisation; 1 more an element with a residual.
    Bytes: x, weight, bound, residual; out, scales, residual.
    """
    has_residual = op.tensor_or_none(6) is not None
    return fused(op, Fused((1, 2, 5, 6), (0, 3, 6), _RMS + _LARGEST + QUANTISE + has_residual, counted=1))


@cost("_C::scaled_fp4_quant")
def fp4_quant(op: Op) -> Work:
    """Quantised to 4-bit floats, two in a byte, with a scale for 16 of them.

    Shapes: out, x, block scales, scale; newer: x, scale, layout(, out, block scales)
    FLOPs: 2 an element for the largest values, 3 for the quantisation
    Bytes: x, scale; packed elements and block scales
    """
    if op.tensor_or_none(2) is not None:
        return fused(op, Fused((1, 3), (0, 2), QUANTISE + _LARGEST, counted=1))
    work = fused(op, Fused((0, 1), (3, 4), QUANTISE + _LARGEST))
    made = op.tensor(0).numel // 2 + op.tensor(0).numel // 16
    return work if work.bytes_written else work + Work((), 0, made)


@cost("_C::dynamic_scaled_fp8_quant", "aiter::dynamic_per_tensor_quant", "sgl_kernel::sgl_per_tensor_quant_fp8")
def dynamic_quant(op: Op) -> Work:
    """One scale for a whole tensor: all of it is read before the first element can be written.

    Shapes: out, x, scale; SGLang: x, out, scale, whether the scale is given.
    FLOPs: 2 an element for the largest value (none where the scale is given), 3 for the quantisation.
    Bytes: x, out, scale; x once more for the second pass: extra bytes.
    """
    out, x = (1, 0) if op.name.startswith("sgl_kernel") else (0, 1)
    if op.name.startswith("sgl_kernel") and op.scalar(3) is True:
        return fused(op, Fused((x, 2), (out,), QUANTISE, counted=x))
    work = fused(op, Fused((x,), (out, 2), QUANTISE + _LARGEST, counted=x))
    again = bytes_of(op.tensor(x))
    return work + Work((), again, 0, extra_bytes=again)
