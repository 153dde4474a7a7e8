"""Rules about the type that matrices are multiplied in: TF32, bfloat16 and float16, float8.

All of them reprice the same way: the arithmetic at the other type's ceiling, the traffic with the other type's bytes,
both under the device's own roofs (``retiming`` says how a new roof becomes a new duration).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.findings.retiming import (
    Saved,
    bracketed,
    call_ns,
    ceilings_of,
    is_sure,
    ns_per_step,
    product_dtype,
    rate_of,
    retimed,
    roof_with,
)
from diagnose.kernel_names import read_name
from diagnose.roofs.operands import product
from diagnose.wall.phases import OPTIMIZER
from diagnose.work import Op, TensorMeta

WORTH: Final = 1.3
"""A type whose ceiling is not this much higher is not worth its rounding."""

SMALLEST_FLOAT8: Final = 1024
"""Sizes m, n and k below this are left alone: a product then has so few operations a number that casting the number
(torchao's own estimate counts its traffic as ``CASTING_BYTES`` does) costs about what float8 wins."""

FLOAT8_ALIGNMENT: Final = 16
"""n and k have to be multiples of this (``torch._scaled_mm``)."""

CASTING_BYTES: Final = 5
"""Traffic of casting one 16-bit number to float8 with a scale of its own tensor: read for the largest value, read
again, written as one byte."""

HALF_CAST_BYTES: Final = 6
"""Traffic of casting one float32 weight to 16 bits: read and written."""

PRODUCTS_SHARE: Final = 0.5
"""Of the time of products: with less of it in float32, the model runs in 16 bits and keeps the rest on purpose."""

_RECURRENT: Final = ("rnn", "lstm", "gru")
_HALVES: Final = ("bfloat16", "float16")


def tf32_off(case: Case) -> list[Proposal]:
    """Float32 products on NVIDIA's vector units, though the tensor cores take float32 as TF32.

    Only what surely ran there: by the kernel's name, or by torch's switch as recorded. A convolution on vector units
    counts only if the switch is known to be off, since cuDNN also chooses such kernels when it is on. Low, mid, high:
    the arithmetic at the TF32 ceiling (``retiming``).
    """
    saved = {group: found for group in _vector_products(case) if (found := _as_tf32(case, group)) is not None}
    if not saved:
        return []
    groups = sorted(saved, key=lambda group: -case.time_ns([group]))
    change, first = retimed(case, saved), groups[0]
    has_products = any(not _is_convolution(case, group) for group in groups)
    has_convolutions = any(_is_convolution(case, group) for group in groups)
    lines = ["torch.set_float32_matmul_precision('high')"] * has_products
    lines += ["torch.backends.cudnn.allow_tf32 = True"] * has_convolutions
    return [
        Proposal(
            rule="tf32-off",
            bound="compute",
            title="float32 matrix products run on the vector units: TF32 is off",
            evidence={
                "kernels_per_step": case.per_step(case.calls(groups)),
                "float32_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "vector_flops_per_s": rate_of(case, first, "vector.float32") or 0.0,
                "tf32_flops_per_s": rate_of(case, first, "tensor.tfloat32") or 0.0,
                "kernel": case.placed.kernel(first)[:80],
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=change.low,
            mid=change.mid,
            high=change.high,
            gap_ns=change.gap_ns,
            advice="\n".join(lines) + "  # before the model runs",
            assumes="the inputs of products are rounded to 10 bits of mantissa (sums stay float32): fine for most "
            "training, not for solvers",
        )
    ]


def float32_products(case: Case) -> list[Proposal]:
    """Most products run in float32 on a device that multiplies 16-bit numbers faster.

    Low: the arithmetic alone gets faster, the bytes stay, and every weight is cast at each use. Mid: the bytes halve
    too. High: the casts vanish (16-bit weights), and pointwise kernels on float32 tensors move half the bytes.
    Recurrent layers multiply a few rows at a time: low is nothing there, mid half. What TF32 alone would give is
    ``tf32_off``'s to promise.
    """
    products = [group for group in _sure(case) if product_dtype(case, group) == "float32"]
    half = _half(case, products)
    if half is None or not _is_float32_model(case):
        return []
    saved = {group: _as_half(case, group, half) for group in products}
    saved = {group: each for group, each in saved.items() if each.mid > 0}
    pointwise = {} if case.is_cpu or not saved else _halved_traffic(case)
    if not saved:
        return []
    groups = sorted(saved, key=lambda group: -case.time_ns([group]))
    change = retimed(case, saved | pointwise)
    return [
        Proposal(
            rule="float32-products",
            bound="compute",
            title=f"matrix products run in float32, {half} is faster here",
            evidence={
                "products_per_step": case.per_step(case.calls(groups)),
                "float32_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "float32_flops_per_s": rate_of(case, groups[0], case.placed.placements[groups[0]].math or "") or 0.0,
                f"{half}_flops_per_s": rate_of(case, groups[0], f"tensor.{half}") or 0.0,
                "float32_traffic_kernels": len(pointwise),
            },
            where=case.where(groups),
            cells=case.cells([*groups, *pointwise]),
            low=change.low,
            mid=change.mid,
            high=change.high,
            gap_ns=change.gap_ns,
            advice=autocast(case, half),
            assumes=f"the model tolerates {half} (check the loss or the accuracy); weights stay float32 and "
            "autocast casts them once a step"
            + ("; beyond what TF32 gives" if any(_as_tf32(case, group) for group in groups) else ""),
            beyond="tf32-off",
        )
    ]


def float8_products(case: Case) -> list[Proposal]:
    """Large 16-bit products of a layer, bound by arithmetic, on a device with float8 units.

    Low: only the difference of the roofs, less the casts of both inputs. Mid: as far from the roof as now, less the
    cast of the activations by a kernel of its own. High: the casts are fused into the kernels before. Groups that
    lose in the middle are left out.
    """
    saved = {group: found for group in _sure(case) if (found := _as_float8(case, group)) is not None and found.mid > 0}
    if not saved:
        return []
    groups = sorted(saved, key=lambda group: -case.time_ns([group]))
    change, shape = retimed(case, saved), _sizes(case, groups[0])
    first = product_dtype(case, groups[0])
    return [
        Proposal(
            rule="float8-products",
            bound="compute",
            title=f"large {first} products are bound by arithmetic, which float8 does faster",
            evidence={
                "products_per_step": case.per_step(case.calls(groups)),
                "products_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "largest": " x ".join(map(str, shape)),
                f"{first}_flops_per_s": rate_of(case, groups[0], f"tensor.{first}") or 0.0,
                "float8_flops_per_s": rate_of(case, groups[0], "tensor.float8") or 0.0,
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=change.low,
            mid=change.mid,
            high=change.high,
            gap_ns=change.gap_ns,
            advice=_FLOAT8_TRAINING if case.is_training else _FLOAT8_INFERENCE,
            assumes="the model tolerates float8 (check the loss or the accuracy); the scaling is compiled, or its "
            "kernels cost more than float8 wins",
        )
    ]


_FLOAT8_TRAINING: Final = (
    "from torchao.float8 import convert_to_float8_training\n"
    "convert_to_float8_training(model, module_filter_fn=lambda module, name: 'head' not in name)\n"
    "model = torch.compile(model)"
)
_FLOAT8_INFERENCE: Final = (
    "from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, quantize_\n"
    "quantize_(model, Float8DynamicActivationFloat8WeightConfig())\n"
    "model = torch.compile(model)"
)


def autocast(case: Case, half: str) -> str:
    """Code that runs a model's products in a 16-bit type."""
    if case.is_cpu:
        return f"with torch.autocast('cpu', dtype=torch.{half}):\n    output = model(batch)"
    forward = f"with torch.autocast('cuda', dtype=torch.{half}):\n    loss = criterion(model(batch), target)"
    if not case.is_training:
        return f"model = model.to(torch.{half})  # or: with torch.autocast('cuda', dtype=torch.{half}): model(batch)"
    if half == "float16":  # gradients below its range need scaling
        return "scaler = torch.amp.GradScaler()\n" + forward + "\nscaler.scale(loss).backward(); scaler.step(optimizer)"
    return forward + "\nloss.backward()  # outside autocast"


def _sure(case: Case) -> Iterator[int]:
    return (group for group in range(len(case.placed.groups)) if is_sure(case, group))


def _is_convolution(case: Case, group: int) -> bool:
    return "conv" in case.op_name(group)


def _vector_products(case: Case) -> list[int]:
    hardware = case.placed.hardware
    found = []
    for group in _sure(case):
        is_on_vector = case.placed.placements[group].math == "vector.float32"
        if not is_on_vector or product_dtype(case, group) != "float32":
            continue
        facts = read_name(case.placed.kernel(group))
        is_one = _is_convolution(case, group)
        switch = hardware.convolution_tf32 if is_one else hardware.matmul_tf32
        if switch is False or (switch is None and facts.is_tensor_core is False and not (is_one or facts.is_gemv)):
            found.append(group)
    return found


def _as_tf32(case: Case, group: int) -> Saved | None:
    """None where the device has no TF32, or where it gives nothing. Matrix units for float32 itself are AMD's."""
    ceilings, placement = ceilings_of(case, group), case.placed.placements[group]
    vector, tf32 = rate_of(case, group, "vector.float32"), rate_of(case, group, "tensor.tfloat32")
    if ceilings is None or vector is None or tf32 is None or ceilings.get("tensor.float32") is not None:
        return None
    if placement.math != "vector.float32" or placement.compute_ns is None or tf32 < WORTH * vector:
        return None
    roof = roof_with(placement, placement.compute_ns * vector / tf32, placement.memory_ns or 0.0)
    saved = bracketed(case, group, roof)
    return saved if saved.mid > 0 else None


def _half(case: Case, products: Sequence[int]) -> str | None:
    """The 16-bit type to change to; bfloat16 where it is as fast. None where there is none, or it is no faster."""
    if not products:
        return None
    first = max(products, key=lambda group: case.time_ns([group]))
    now = rate_of(case, first, case.placed.placements[first].math or "")
    rates = {dtype: rate_of(case, first, f"tensor.{dtype}") or 0.0 for dtype in _HALVES}
    best = max(rates, key=lambda dtype: rates[dtype])
    return best if now is not None and rates[best] >= WORTH * now else None


def _is_float32_model(case: Case) -> bool:
    times = {True: 0, False: 0}
    for group in range(len(case.placed.groups)):
        dtype = product_dtype(case, group)
        if dtype is not None:
            times[dtype == "float32"] += case.time_ns([group])
    return times[True] > PRODUCTS_SHARE * sum(times.values())


def _as_half(case: Case, group: int, half: str) -> Saved:
    placement, duration = case.placed.placements[group], call_ns(case, group)
    now, then = rate_of(case, group, placement.math or ""), rate_of(case, group, f"tensor.{half}")
    roof = placement.roof_ns
    if not now or not then or not roof:
        return Saved(0.0, 0.0, 0.0)
    compute_ns, memory_ns = (placement.compute_ns or 0.0) * now / then, placement.memory_ns or 0.0
    casts_ns = _casts_ns(case, group, _weight(case.op(group)), HALF_CAST_BYTES)
    low = min(roof, duration) - roof_with(placement, compute_ns, memory_ns) - casts_ns
    high = duration * (1 - roof_with(placement, compute_ns, memory_ns / 2) / roof)
    is_recurrent = _is_recurrent(case, group)
    probable = (high / 2 if is_recurrent else high) - casts_ns
    return Saved(0.0 if is_recurrent else max(0.0, low), max(0.0, probable), max(0.0, high))


def _is_recurrent(case: Case, group: int) -> bool:
    """A recurrent layer multiplies few rows at a time, which 16 bits speed up least."""
    return any(kind in case.op_name(group) for kind in _RECURRENT)


def _halved_traffic(case: Case) -> dict[int, Saved]:
    """Pointwise and like kernels on float32 tensors only, which a 16-bit model would halve: the high estimate only."""
    found = {}
    for group in _sure(case):
        placement, op = case.placed.placements[group], case.op(group)
        is_traffic = placement.bound == "memory" and product_dtype(case, group) is None and placement.memory_ns
        if not is_traffic or op is None or op.inputs is None or _phase(case, group) == OPTIMIZER:
            continue
        types = [value.dtype or "" for value in op.inputs if isinstance(value, TensorMeta)]
        floating = [dtype for dtype in types if "float" in dtype]
        if floating and set(floating) == {"float32"}:
            roof = roof_with(placement, placement.compute_ns or 0.0, (placement.memory_ns or 0.0) / 2)
            found[group] = Saved(0.0, 0.0, max(0.0, bracketed(case, group, roof).high))
    return found


def _phase(case: Case, group: int) -> int:
    return int(case.phases.phase[int(case.placed.groups.first[group])])


def _weight(op: Op | None) -> int:
    """Numbers in the second matrix of a product, the weight of a layer; 0 where that is not known."""
    found = None if op is None else product(op)
    return 0 if found is None else found.b.distinct_numel


def _casts_ns(case: Case, group: int, count: int, bytes_each: int) -> float:
    rate = rate_of(case, group, "dram")
    return 0.0 if rate is None else 1e9 * count * bytes_each / rate


def _sizes(case: Case, group: int) -> tuple[int, int, int]:
    op = case.op(group)
    found = None if op is None else product(op)
    return (0, 0, 0) if found is None else (found.m, found.n, found.a.shape[-1])


def _as_float8(case: Case, group: int) -> Saved | None:
    """None for what is no large product of a layer in 16 bits bound by arithmetic, or without float8 units."""
    op, placement = case.op(group), case.placed.placements[group]
    found = None if op is None else product(op)
    dtype = product_dtype(case, group)
    if found is None or found.batch != 1 or dtype not in _HALVES or placement.bound != "compute":
        return None
    m, n, k = found.m, found.n, found.a.shape[-1]
    now, then = rate_of(case, group, f"tensor.{dtype}"), rate_of(case, group, "tensor.float8")
    if min(m, n, k) < SMALLEST_FLOAT8 or n % FLOAT8_ALIGNMENT or k % FLOAT8_ALIGNMENT:
        return None
    if now is None or then is None or then < WORTH * now or placement.compute_ns is None or not placement.roof_ns:
        return None
    moved_ns = _casts_ns(case, group, m * k + k * n, 1) + _casts_ns(case, group, m * n, 2)
    roof = roof_with(placement, placement.compute_ns * now / then, moved_ns)
    duration = call_ns(case, group)
    activations_ns = _casts_ns(case, group, m * k, CASTING_BYTES)
    weights_ns = _casts_ns(case, group, k * n, CASTING_BYTES)
    low = min(placement.roof_ns, duration) - roof - activations_ns - weights_ns
    high = duration * (1 - roof / placement.roof_ns)
    return Saved(min(low, high), high - activations_ns, high)


RULES: Final[tuple[Rule, ...]] = (tf32_off, float32_products, float8_products)
