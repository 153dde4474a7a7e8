"""The kernel rows as the page needs them: columns to sort, draw and select by, and the words of each row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from diagnose.render.html_roofs import Axes, position
from diagnose.render.names import clean, fit, short_kernel, short_op
from diagnose.render.selection import DeviceKey, line_of, module_of
from diagnose.render.words import bound_words, line_words, rate_words, shapes_words
from diagnose.schema import KernelRow, Place
from diagnose.units import (
    format_bytes,
    format_bytes_per_s,
    format_flops,
    format_flops_per_s,
    format_ns,
    format_share,
)

UNKNOWN_BOUND: Final = "unknown"
SMALLEST_MARK: Final = 7.0
_LARGEST_MARK: Final = 52.0
"""Pixels across of a kernel that is all of the kernel time."""

_LONGEST_NAME: Final = 120
_LONGEST_FULL_NAME: Final = 400
_SHOWN_PLACES: Final = 8
_SHOWN_REASONS: Final = 8

Words = list[tuple[str, str]]


def columns_of(rows: Sequence[KernelRow], axes: Axes) -> dict[str, list[Any]]:
    """One entry a row in each column; what is unknown is NaN among numbers, ``?`` among words.

    Columns that end in ``_text`` are what the table shows in place of the number of that name.
    """
    places = [position(row, axes) or (math.nan, math.nan) for row in rows]
    short = {name: fit(short_kernel(name), _LONGEST_NAME) for name in {row.kernel for row in rows}}
    return {
        "place": [row.place for row in rows],
        "kernel": [short[row.kernel] for row in rows],
        "op": [short_op(row.op) for row in rows],
        "bound": [row.bound or UNKNOWN_BOUND for row in rows],
        "bound_text": [bound_words(row) for row in rows],
        "time": [row.time_ns for row in rows],
        "time_text": [format_ns(row.time_ns) for row in rows],
        "share": [row.share for row in rows],
        "share_text": [format_share(row.share) for row in rows],
        "calls": [row.calls for row in rows],
        "efficiency": [math.nan if row.efficiency is None else row.efficiency for row in rows],
        "efficiency_text": [format_share(row.efficiency) for row in rows],
        "rate_text": [rate_words(row) for row in rows],
        "gap": [math.nan if row.gap_ns is None else row.gap_ns.mid for row in rows],
        "gap_text": [format_ns(row.gap_ns.mid if row.gap_ns else None) for row in rows],
        "line": [line_words(row) for row in rows],
        "x": [x for x, _ in places],
        "y": [y for _, y in places],
        "size": [max(SMALLEST_MARK, _LARGEST_MARK * math.sqrt(max(0.0, row.share))) for row in rows],
    }


def details_of(rows: Sequence[KernelRow], names: Mapping[DeviceKey, str]) -> list[dict[str, Any]]:
    """What the page says of a selected row, as words; ``names`` says what each device is called."""
    return [_detail(row, names[row.process_rank, row.device]) for row in rows]


def _detail(row: KernelRow, device: str) -> dict[str, Any]:
    by_time = sorted(row.places, key=lambda place: -place.time_ns)
    return {
        "name": fit(clean(row.kernel[: 10 * _LONGEST_FULL_NAME]), _LONGEST_FULL_NAME),
        "device": device,
        "facts": _facts(row),
        "flags": [clean(flag) for flag in row.flags],
        "reasons": [clean(reason) for reason in row.reasons[:_SHOWN_REASONS]],
        "modules": _distinct(place.module for place in by_time),
        "phases": _distinct(place.phase for place in by_time),
        "places": [_place(place) for place in by_time[:_SHOWN_PLACES]],
        "more_places": max(0, len(by_time) - _SHOWN_PLACES),
    }


def _facts(row: KernelRow) -> Words:
    """The row's numbers, those of the hover first; what is unknown stands as ``?``, what is not there is left out."""
    per_call_ns = row.time_ns / row.calls if row.calls else None
    moved = None if row.bytes_read is None or row.bytes_written is None else row.bytes_read + row.bytes_written
    module, line = module_of(row), line_of(row)
    facts = [
        ("time", f"{format_ns(row.time_ns)}, {format_share(row.share)} of the kernel time"),
        ("calls", f"{row.calls}, {format_ns(per_call_ns)} each"),
        ("bound", bound_words(row)),
        ("efficiency", f"{format_share(row.efficiency)} of the roof" if row.efficiency is not None else "?"),
        ("roof", None if row.roof_ns is None else f"{format_ns(row.roof_ns)} a call"),
        ("work a call", _known(format_flops(row.flops), format_bytes(moved))),
        (
            "achieved",
            _known(format_flops_per_s(row.achieved_flops_per_s), format_bytes_per_s(row.achieved_bytes_per_s)),
        ),
        ("line", fit(clean(line), 200) if line else None),
        ("module", fit(clean(module), 200) if module else None),
        ("op", short_op(row.op)),
        ("shapes", fit(clean(shapes_words(row)), 400) or None),
        ("dtypes", _dtypes(row)),
        ("arithmetic", clean(row.math) if row.math else None),
        ("intensity", None if row.arithmetic_intensity is None else f"{row.arithmetic_intensity:.4g} FLOP/byte"),
        (
            "bytes",
            None
            if moved is None
            else f"{format_bytes(row.bytes_read)} read, {format_bytes(row.bytes_written)} written",
        ),
        ("extra bytes", format_bytes(row.extra_bytes) if row.extra_bytes else None),
        ("datasheet roof", None if row.datasheet_roof_ns is None else f"{format_ns(row.datasheet_roof_ns)} a call"),
        ("special ops", f"{row.special_ops:,} a call" if row.special_ops else None),
        ("exposed", f"{format_ns(row.exposed_ns)} of the wall time"),
        ("could be shorter by", _gap(row)),
        ("work known from", clean(row.cost_source) if row.cost_source else "not known"),
    ]
    return [(label, words) for label, words in facts if words is not None]


def _bytes(row: KernelRow) -> str:
    return f"{format_bytes(row.bytes_read)} read, {format_bytes(row.bytes_written)} written"


def _known(*words: str) -> str:
    """The words that say something; ``?`` where none does."""
    return ", ".join(word for word in words if word != "?") or "?"


def _gap(row: KernelRow) -> str | None:
    gap = row.gap_ns
    return None if gap is None else f"{format_ns(gap.mid)} ({format_ns(gap.low)} to {format_ns(gap.high)})"


def _dtypes(row: KernelRow) -> str | None:
    if row.signature is None:
        return None
    return fit(" ".join(clean(dtype) for dtype in row.signature.dtypes if dtype), 200) or None


def _place(place: Place) -> list[str]:
    module, line, phase = (fit(clean(text or ""), 200) for text in (place.module, place.line, place.phase))
    return [module, line, phase, str(place.calls), format_ns(place.time_ns)]


def _distinct(texts: Any) -> list[str]:
    return list(dict.fromkeys(fit(clean(text), 200) for text in texts if text))
