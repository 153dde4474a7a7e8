"""How long work takes at one ceiling, and which ceiling a kind of arithmetic meets."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from diagnose.kernel_names import NameFacts
from diagnose.limits import Limits
from diagnose.roofs.ceilings import Ceilings
from diagnose.schema import Ceiling


class RoofTime(Struct, frozen=True):
    """What one side of the roof takes, in ns: at the achievable rate, at the limit of belief, and the interval."""

    resource: str
    roof: float
    limit: float
    shortest: float
    longest: float
    has_datasheet: bool


class Sides(Struct, frozen=True):
    """Both sides of one row's roof and the kernel floor, and what was noticed on the way."""

    compute: RoofTime | None
    memory: RoofTime | None
    floor_ns: float | None
    flags: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


_SAME_UNIT: Final = {
    "vector.bfloat16": "vector.float32",  # pointwise kernels widen to float32
    "vector.float16": "vector.float32",
    "tensor.float64": "vector.float64",  # without a tensor core for it
}


def candidate_rows(
    resource: str, facts: NameFacts, ceilings: Ceilings, allow_tf32: bool | None = None
) -> list[Ceiling]:
    """The ceilings that ``resource`` may have met: one, or several where the arithmetic was not recorded.

    Args:
        resource: As in ``Work.flops``.
        facts: Of the kernel's name.
        ceilings: Of the device.
        allow_tf32: torch's switch while recording, None where it was not kept.
    """
    names: tuple[str, ...]
    if resource == "tensor.float32":
        names = _float32_product(facts, ceilings, allow_tf32)
    else:
        unit, _, dtype = resource.partition(".")
        plain = resource if unit == "special" else f"{unit}.{dtype.partition('_')[0]}"  # float8_e4m3fn is float8
        names = (plain,) if ceilings.get(plain) is not None else (_SAME_UNIT.get(plain, plain),)
    return [row for row in map(ceilings.get, names) if row is not None]


def _float32_product(facts: NameFacts, ceilings: Ceilings, allow_tf32: bool | None) -> tuple[str, ...]:
    """Which unit multiplied float32 matrices: vector, matrix core, or tensor core in TF32."""
    own = "tensor.float32" if ceilings.get("tensor.float32") is not None else None  # AMD's matrix cores, and CPUs
    if facts.is_tensor_core is False:
        return ("vector.float32",) if ceilings.get("vector.float32") is not None else ("tensor.float32",)
    if facts.arithmetic == "tfloat32":
        return ("tensor.tfloat32",)
    if facts.arithmetic == "float32" or allow_tf32 is False:
        return (own or "vector.float32",)
    # NVIDIA's tensor cores know float32 as TF32 only; AMD's libraries take more than the switch to use it.
    if own is None and (facts.is_tensor_core or allow_tf32) and ceilings.get("tensor.tfloat32") is not None:
        return ("tensor.tfloat32",)
    return ("tensor.tfloat32", own or "vector.float32")


def roof_time(count: float, row: Ceiling, limits: Limits) -> RoofTime:
    """What ``count`` operations or bytes take under ``row``."""
    fastest = max(row.achievable, row.high or 0.0)
    slowest = row.achievable if row.low is None else min(row.achievable, row.low)
    limit = limits.headroom * fastest if row.datasheet is None else max(row.datasheet, fastest)
    return RoofTime(
        resource=row.resource,
        roof=_ns(count, row.achievable),
        limit=_ns(count, limit),
        shortest=_ns(count, fastest),
        longest=_ns(count, slowest),
        has_datasheet=row.datasheet is not None,
    )


def _ns(count: float, rate: float) -> float:
    return 1e9 * count / rate if rate > 0 else float("inf")
