"""A rule about float32 products of which only the kernels' names are known: a recording without shapes."""

from __future__ import annotations

from typing import Final

from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.findings.ordering import rates
from diagnose.findings.precision import PRODUCTS_SHARE, WORTH, autocast
from diagnose.findings.retiming import Saved, call_ns, ns_per_step, product_dtype, rate_of, retimed
from diagnose.kernel_names import read_name
from diagnose.limits import LIMITS

_UNITS: Final = {"float32": ("vector.float32", "tensor.float32"), "tfloat32": ("tensor.tfloat32", "tensor.tfloat32")}
"""Where products of a type run: on the vector units, and where the name speaks of matrix units."""

_HALVES: Final = ("bfloat16", "float16")


def float32_kernels(case: Case) -> list[Proposal]:
    """Kernels whose names say that they multiply float32, in a recording that does not say how much.

    Neither their arithmetic nor their bytes are known, so that the interval is wide. High: the time shrinks as the
    rates of the two types' units are. Mid: half of that. Low: nothing. Only where such kernels take most of the time of
    all products, and each well above the shortest kernel. Products of known size are ``float32_products``'s.
    """
    found = {group: saved for group in _unsized(case) if (saved := _saved(case, group)) is not None}
    if not found or not _are_most(case):
        return []
    groups = sorted(found, key=lambda group: -case.time_ns([group]))
    change, half = retimed(case, found), _half(case, groups[0])
    now = rate_of(case, groups[0], _unit(case, groups[0]) or "") or 0.0
    return [
        Proposal(
            rule="float32-kernels",
            bound="compute",
            title=f"matrix products run in float32, as their kernels' names say; {half} is faster here",
            evidence={
                "kernels_per_step": case.per_step(case.calls(groups)),
                "float32_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "kernel": case.placed.kernel(groups[0])[:80],
                f"{_unit(case, groups[0])}_flops_per_s": now,
                f"tensor.{half}_flops_per_s": rate_of(case, groups[0], f"tensor.{half}") or 0.0,
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=change.low,
            mid=change.mid,
            high=change.high,
            gap_ns=change.gap_ns,
            advice=autocast(case, half)
            + "\n# and record once with torch.profiler.profile(record_shapes=True): the price is then one of sizes",
            assumes="a wide interval, since the recording has no shapes: kernels that wait for memory or are short "
            "gain little, those bound by arithmetic most; the model tolerates the type (check the loss or the "
            "accuracy); weights stay float32 and autocast casts them once a step",
        )
    ]


def _unsized(case: Case) -> list[int]:
    return case.groups_where(lambda group: bool(case.is_kernel[group]) and not _is_sized(case, group))


def _is_sized(case: Case, group: int) -> bool:
    work = case.work(group)
    return work is not None and work.flops is not None


def _dtype(case: Case, group: int) -> str | None:
    """Type of a product, by its size or else by its kernel's name; None for what is none, or does not say."""
    if _is_sized(case, group):
        return product_dtype(case, group)
    facts = read_name(case.placed.kernel(group))
    return facts.arithmetic if facts.is_gemm else None


def _unit(case: Case, group: int) -> str | None:
    """The unit that the name speaks of; None where it speaks of no float32 product, or leaves the unit open."""
    dtype, is_tensor = _dtype(case, group), read_name(case.placed.kernel(group)).is_tensor_core
    if dtype not in _UNITS or is_tensor is None:
        return None
    return _UNITS[dtype][is_tensor]


def _half(case: Case, group: int) -> str:
    """The faster 16-bit type; bfloat16 where both are as fast."""
    rates = {dtype: rate_of(case, group, f"tensor.{dtype}") or 0.0 for dtype in _HALVES}
    return max(rates, key=lambda dtype: rates[dtype])


def _saved(case: Case, group: int) -> Saved | None:
    """None where the name says no float32, the rates are unknown or close, or the kernel is near the shortest."""
    unit, duration = _unit(case, group), call_ns(case, group)
    floor = rates(case, group)[1]
    now = None if unit is None else rate_of(case, group, unit)
    then = rate_of(case, group, f"tensor.{_half(case, group)}")
    if now is None or then is None or then < WORTH * now or duration < LIMITS.near_floor * floor:
        return None
    most = duration * (1 - now / then)
    return Saved(0.0, most / 2, most)


def _are_most(case: Case) -> bool:
    """Whether most of the time of all products whose type is known is float32's; else the model runs in 16 bits."""
    times = {True: 0, False: 0}
    for group in range(len(case.placed.groups)):
        dtype = _dtype(case, group)
        if dtype is not None:
            times[dtype in _UNITS] += case.time_ns([group])
    return times[True] > PRODUCTS_SHARE * sum(times.values())


RULES: Final[tuple[Rule, ...]] = (float32_kernels,)
