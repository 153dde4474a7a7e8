"""State space models: the causal convolution and the scans of Mamba, by their libraries' names."""

from __future__ import annotations

from typing import Final

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations, vector_resource
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of

_SILU: Final = (3, 1)
_SILU_BACKWARD: Final = (8, 1)
_WORKERS: Final = ("aten::mul", "aten::exp", "aten::bmm", "aten::einsum")
"""What a function of the same name that is written in torch's ops calls."""
_SCAN: Final = 6
"""An element of the state and time: two products for the step's input and its decay, two operations for the new state,
two for the result."""


def _taps(x: TensorMeta, weight: TensorMeta) -> int:
    """Products of a depthwise convolution over time: x [B, C, L] or packed [C, tokens], weight [C, width]."""
    channels, width = weight.shape
    if channels not in x.shape:
        raise ValueError("the channels of input and weight do not fit")
    return x.numel * width


@cost("DaoAILab::_causal_conv1d_fwd_cpp")
def causal_convolution(op: Op) -> Work:
    """Depthwise convolution over the last few times.

    Shapes: x [B, C, L], weight [C, width], bias [C]?, sequence of each place?, first states?, out, last states?, silu
    FLOPs: 2 width an element, 1 for the bias; silu 3 and one special
    Bytes: x, weight, bias, sequences, first states; out, last states
    """
    x, weight, bias = op.tensor(0), op.tensor(1), op.tensor_or_none(2)
    flops, special = _SILU if op.scalar(7) is True else (0, 0)
    counted = 2 * _taps(x, weight) + (flops + (bias is not None)) * x.numel
    read = bytes_of(x, weight, bias, op.tensor_or_none(3), op.tensor_or_none(4))
    written = bytes_of(op.tensor(5), op.tensor_or_none(6))
    return Work(operations(known_dtype(x), counted, special * x.numel), read, written)


@cost("DaoAILab::_causal_conv1d_bwd_cpp")
def causal_convolution_backward(op: Op) -> Work:
    """Gradients of ``causal_convolution``.

    Shapes: x, weight, bias?, gradient, sequences?, first states?, gradient of the last ones?, dx, dweight, dbias?,
        gradient of the first states?, silu
    FLOPs: 2 width an element for dx, the same for dweight, 1 for the bias; silu: the convolution again, 8, one special
    Bytes: inputs; dx, dweight, dbias and the states' gradient
    """
    x, weight = op.tensor(0), op.tensor(1)
    with_silu = op.scalar(11) is True
    flops, special = _SILU_BACKWARD if with_silu else (0, 0)
    bias = op.tensor_or_none(2) is not None
    counted = (6 if with_silu else 4) * _taps(x, weight) + (flops + bias) * x.numel
    read = bytes_of(*(op.tensor_or_none(index) for index in range(7)))
    written = bytes_of(op.tensor(7), op.tensor(8), op.tensor_or_none(9), op.tensor_or_none(10))
    return Work(operations(known_dtype(x), counted, special * x.numel), read, written)


def _scanned(op: Op) -> tuple[int, int]:
    """Operations and special ones of a scan, from u, delta, A, B, C, D, z, bias, softplus."""
    u, decay = op.tensor(0), op.tensor(2)
    states = decay.shape[-1]
    if len(decay.shape) != 2 or decay.shape[0] not in u.shape:
        raise ValueError("the channels of input and states do not fit")
    elements = u.numel
    flops = elements * (_SCAN * states + 1)
    special = elements * states
    if op.tensor_or_none(5) is not None:  # D: the input passed by
        flops += 2 * elements
    if op.tensor_or_none(6) is not None:  # z: the gate
        flops, special = flops + (_SILU[0] + 1) * elements, special + _SILU[1] * elements
    if op.tensor_or_none(7) is not None:
        flops += elements
    if op.scalar(8) is True:
        flops, special = flops + 3 * elements, special + 2 * elements
    return flops, special


@cost("SelectiveScanFn", "_C::selective_scan_fwd", unless_child=_WORKERS)
def selective_scan(op: Op) -> Work:
    """Mamba's scan.

    Shapes: u, delta [B, C, L], A [C, N], B, C [B, (G,) N, L], D [C]?, z like u?, bias [C]?, softplus -> like u
    FLOPs: 6 and one special an element of u and state; D 2, the gate 4 and one, the bias 1, softplus 3 and two
    Bytes: every tensor of these; the result. vLLM's op writes it into delta (into z where there is one) and keeps the
        states of each sequence, both ways: at most all of its cache, a bound
    """
    u = op.tensor(0)
    flops, special = _scanned(op)
    read = bytes_of(*(op.tensor_or_none(index) for index in range(8)))
    states = op.tensor_or_none(12) if op.name.startswith("_C") else None
    kept = bytes_of(states)
    written = dense_bytes(u.shape, known_dtype(u)) + kept
    return Work(operations("float32", flops, special), read + kept, written, is_bound=states is not None)


@cost("mamba_ssm::ssm_chunk_scan_combined_fwd", "MambaChunkScanCombinedFn", unless_child=_WORKERS)
def chunk_scan(op: Op) -> Work:
    """Mamba 2's scan by chunks: products within a chunk, and states handed from chunk to chunk.

    Shapes: x [B, L, H, P], dt [B, L, H], A [H], B, C [B, L, G, N], chunk, D?, z? -> like x
    FLOPs: tensor: a visible pair of a chunk 2 N a group and 2 P a head; 4 N P a place and head for the states.
        Vector: 2 a visible pair and head; D 2, the gate 4 an element. Special: a visible pair and head, and a gate
    Bytes: every tensor of these; the result. What the kernels hand each other through memory is not counted
    """
    x, dt, b, c, chunk = op.tensor(0), op.tensor(1), op.tensor(3), op.tensor(4), op.scalar(5)
    batch, length, heads, width = x.shape
    if b.shape != c.shape or b.shape[:2] != (batch, length) or dt.numel != batch * length * heads:
        raise ValueError("the shapes of a scan do not fit")
    groups, states = b.shape[2:]
    pairs = batch * chunk_pairs(length, chunk)
    multiply_adds = pairs * (groups * states + heads * width) + 2 * batch * length * heads * states * width
    resource, real = product_resource(known_dtype(x))
    passed, gate = op.tensor_or_none(6), op.tensor_or_none(7)
    vector = 2 * pairs * heads + x.numel * (2 * (passed is not None) + 4 * (gate is not None))
    counts = {resource: 2 * multiply_adds * real, "special": pairs * heads + x.numel * (gate is not None)}
    unit = vector_resource("float32")
    counts[unit] = counts.get(unit, 0) + vector
    read = bytes_of(x, dt, op.tensor(2), b, c, passed, gate)
    return Work(flops_of(counts), read, dense_bytes(x.shape, known_dtype(x)))


def chunk_pairs(length: int, chunk: object) -> int:
    """Pairs (i, j), j <= i, within the same chunk of a sequence."""
    if not isinstance(chunk, int) or isinstance(chunk, bool) or chunk < 1:
        raise MissingFactError("the size of a chunk was not recorded")
    whole, rest = divmod(length, chunk)
    return whole * (chunk * (chunk + 1) // 2) + rest * (rest + 1) // 2
