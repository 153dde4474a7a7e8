"""``--fail-on``: expressions that say which change is too much, and whether it happened.

``METRIC:LIMIT``. A limit with a sign is a change (``+5%``, ``+2ms``; ``-5%`` for figures whose fall is bad), one
without is the most that the later run may have (``30ms``, ``8GB``). ``kernel:REGEX:LIMIT`` is the kernel time a step
of the work whose op or kernel name the expression finds in one of the two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from diagnose.comparisons.quantities import SHOWN, is_quantity, kernel_quantity, quantity_of
from diagnose.errors import UsageError
from diagnose.render.comparison_text import figure_words
from diagnose.render.names import clean
from diagnose.schema import Document
from diagnose.tables.comparison import Judged, Quantity, Unit
from diagnose.units import format_share

_LIMIT: Final = re.compile(r"(?P<sign>[+-]?)(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|[A-Za-z]*)")
_KERNEL: Final = "kernel:"
_PREFIXES: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_UNITS: Final[dict[Unit, dict[str, float]]] = {
    "ns": {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9},
    "bytes": {f"{prefix}B": size for prefix, size in _PREFIXES.items()}
    | {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40},
    "flops": _PREFIXES | {f"{prefix}FLOP": size for prefix, size in _PREFIXES.items()},
    "count": _PREFIXES,
    "share": {"": 1.0},
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """One parsed expression.

    Attributes:
        expression: As given.
        metric: A figure's name, ``kernel`` where a pattern says which kernels.
        pattern: Finds ops and kernels; None for other metrics.
        sign: 1 or -1 for a change in that direction, 0 for a value.
        limit: The size of the change or the value, as a share where ``is_relative``, else in base units.
        is_relative: Whether the limit is a share of the earlier run's figure.
        is_strict: Whether what lies within noise counts too.
    """

    expression: str
    metric: str
    pattern: re.Pattern[str] | None
    sign: int
    limit: float
    is_relative: bool
    is_strict: bool


def parse_threshold(expression: str, *, is_strict: bool = False) -> Threshold:
    """One ``--fail-on`` expression.

    Raises:
        UsageError: It is none; the message says what one looks like.
    """
    metric, separator, limit = expression.strip().rpartition(":")
    matched = _LIMIT.fullmatch(limit.strip())
    if not separator or matched is None:
        raise UsageError(f"--fail-on {expression!r}: expected METRIC:LIMIT, for example step_time:+5% or idle:2ms")
    pattern = None
    if metric.startswith(_KERNEL):
        try:
            pattern = re.compile(metric.removeprefix(_KERNEL))
        except re.error as error:
            raise UsageError(f"--fail-on {expression!r}: not a regular expression: {error}") from error
        metric = "kernel"
    elif not is_quantity(metric):
        known = ", ".join(SHOWN)
        raise UsageError(
            f"--fail-on {expression!r}: no metric {metric!r}; known are {known}, kernel:REGEX and the waterfall's parts"
        )
    sign = {"+": 1, "-": -1, "": 0}[matched["sign"]]
    is_relative = matched["unit"] == "%"
    if is_relative and not sign:
        raise UsageError(f"--fail-on {expression!r}: say +{limit} or -{limit}")
    number = float(matched["number"])
    scaled = number / 100 if is_relative else number * _scale(expression, metric, matched["unit"], number)
    return Threshold(expression, metric, pattern, sign, scaled, is_relative, is_strict)


def _scale(expression: str, metric: str, unit: str, number: float) -> float:
    units = _UNITS[_unit_of(metric)]
    if unit not in units:
        if not unit and not number:
            return 1.0
        raise UsageError(
            f"--fail-on {expression!r}: a limit of {metric} ends in one of {', '.join(filter(None, units))}"
        )
    return units[unit]


def _unit_of(metric: str) -> Unit:
    of_counts: dict[str, Unit] = {
        "launches": "count", "kernels": "count", "flops": "flops", "bytes": "bytes", "peak_memory": "bytes",
        "mfu": "share",
    }  # fmt: skip
    return of_counts.get(metric, "ns")


def judge(threshold: Threshold, before: Document, after: Document) -> Judged:
    """Whether the change is too much. Within noise it is not, unless the threshold is strict."""
    quantity = _quantity(threshold, before, after)
    old, new = quantity.before, quantity.after
    if new is None or (old is None and threshold.sign):
        side = "after" if new is None else "before"
        return _judged(threshold, None, None, f"{side}: not known")
    crossed = _crosses(threshold, old, new)
    within = _is_within_noise(threshold, quantity)
    shown = f"{figure_words(quantity.unit, old)} → {figure_words(quantity.unit, new)}"
    if quantity.relative is not None:
        shown += f" ({'+' if quantity.relative > 0 else ''}{format_share(quantity.relative)})"
    if crossed and within:
        shown += ", within noise"
    return _judged(threshold, crossed and (threshold.is_strict or not within), within, shown)


def _judged(threshold: Threshold, crossed: bool | None, within: bool | None, words: str) -> Judged:
    return Judged(expression=clean(threshold.expression), crossed=crossed, within_noise=within, words=words)


def _crosses(threshold: Threshold, old: float | None, new: float) -> bool:
    if not threshold.sign or old is None:
        return new > threshold.limit
    change = threshold.sign * (new - old)
    return change > (threshold.limit * abs(old) if threshold.is_relative else threshold.limit)


def _is_within_noise(threshold: Threshold, quantity: Quantity) -> bool | None:
    """Whether the earlier and later figures, or the later one and its limit, could be the same."""
    if threshold.sign:
        return quantity.within_noise
    if quantity.low_after is None:
        return None
    return quantity.low_after <= threshold.limit


def _quantity(threshold: Threshold, before: Document, after: Document) -> Quantity:
    if threshold.pattern is None:
        return quantity_of(before, after, threshold.metric)
    found = kernel_quantity(before, after, threshold.pattern.search)
    if found is None:
        raise UsageError(f"--fail-on {threshold.expression!r}: no kernel and no op of the two has such a name")
    return found
