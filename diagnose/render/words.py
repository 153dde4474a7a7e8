"""The sentences that every rendering shares: what ran, how long, how much of it is known."""

from __future__ import annotations

import re
from collections import defaultdict

from diagnose.render.names import clean, file_line, short_kernel, short_op
from diagnose.render.selection import device_row, line_of, main_device, shown_step, steady_span
from diagnose.schema import Document, KernelRow
from diagnose.units import format_bytes, format_bytes_per_s, format_flops_per_s, format_ns, format_share

_SHOWN_UNCOSTED = 3


def device_words(document: Document) -> str | None:
    """``cuda:0 NVIDIA H100 80GB HBM3``; None when nothing ran on a device."""
    key = main_device(document)
    if key is None:
        return None
    row = device_row(document, key)
    words = f"{key[1]} {clean(row.name) if row else ''}".strip()
    words = words if key[0] is None else f"rank {key[0]} {words}"
    others = {(item.process_rank, item.device) for item in document.waterfall} - {key}
    return f"{words} (and {len(others)} more)" if others else words


def step_words(document: Document) -> str:
    """How long a step lasts, and between what; the window where there is one step."""
    span = steady_span(document)
    if len(document.window.steps) < 2 or span is None:
        return f"wall {format_ns(document.window.wall_ns)}"
    spread = f", {format_ns(span.low_ns)} to {format_ns(span.high_ns)}" if span.count > 1 else ""
    return f"step {format_ns(span.median_ns)} (median of {span.count} steady of {len(document.window.steps)}{spread})"


def shown_step_words(document: Document, step: int | None) -> str:
    """Which stretch of time a waterfall is of."""
    if step is None:
        steps = len(document.window.steps)
        return "the whole window" if steps < 2 else f"the whole window, {steps} steps"
    name = clean(document.window.steps[step].name)
    return f"{name}, the median steady step" if step == shown_step(document) else name


def totals_words(document: Document) -> list[str]:
    """The totals that are known, one phrase each."""
    totals = document.totals
    row = device_row(document, main_device(document))
    is_cpu = row is not None and row.kind == "cpu"
    known = [
        (totals.flops_per_s, format_flops_per_s(totals.flops_per_s)),
        (totals.mfu, f"MFU {format_share(totals.mfu)}"),
        (totals.kernels or None, f"{totals.kernels} {'ops' if is_cpu else 'kernels'}"),  # none recorded, not none run
        (None if is_cpu else totals.launches or None, f"{totals.launches} launches"),
        (totals.host_lead_ns, f"host lead {format_ns(totals.host_lead_ns)}"),
        (totals.peak_memory_bytes, f"peak memory {format_bytes(totals.peak_memory_bytes)}"),
    ]
    return [words for value, words in known if value is not None]


def recording_words(document: Document) -> str | None:
    """What the profiler cost; None where it was not measured."""
    cost = document.recording
    if cost.step_plain_ns is None or cost.step_recorded_ns is None:
        return None
    plain, recorded = format_ns(cost.step_plain_ns), format_ns(cost.step_recorded_ns)
    return f"a step takes {plain} unrecorded, {recorded} recorded"


def coverage_words(document: Document) -> str | None:
    """How much of the kernel time has known work, and where there is none, why; None when nothing ran."""
    coverage = document.coverage
    if coverage.kernel_ns == 0:
        return None
    costed = format_share(coverage.costed_ns / coverage.kernel_ns)
    words = [f"{costed} of {format_ns(coverage.kernel_ns)} kernel time has known work"]
    if coverage.bounded_ns:
        words.append(f"{format_share(coverage.bounded_ns / coverage.kernel_ns)} only a bound")
    if coverage.linked_ns < coverage.kernel_ns:
        words.append(f"{format_share(coverage.linked_ns / coverage.kernel_ns)} is linked to an op")
    if coverage.out_of_window_ns:
        words.append(f"{format_ns(coverage.out_of_window_ns)} ran outside the window")
    return "; ".join(words)


def uncosted_words(document: Document, limit: int = _SHOWN_UNCOSTED) -> str | None:
    """The largest pieces of time without known work, by op; None when there are none."""
    rows = document.coverage.uncosted
    if not rows:
        return None
    by_op: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        by_op[short_op(row.op) if row.op else short_kernel(row.kernel), clean(row.reason)] += row.ns
    pieces = sorted(by_op.items(), key=lambda item: -item[1])
    is_one_reason = len({reason for _, reason in by_op}) == 1
    named = [
        f"{name} {format_ns(ns)}" + ("" if is_one_reason else f" ({reason})") for (name, reason), ns in pieces[:limit]
    ]
    rest = pieces[limit:]
    if rest:
        named.append(f"{len(rest)} more {format_ns(sum(ns for _, ns in rest))}")
    return ", ".join(named) + (f": {pieces[0][0][1]}" if is_one_reason else "")


def bound_words(row: KernelRow) -> str:
    """The row's kind of limit, or what stands in its place."""
    if "above-roof" in row.flags:
        return "above-roof"
    if row.bound == "memory" and "cache-resident" in row.flags:
        return "memory L2"
    return row.bound or "?"


def rate_words(row: KernelRow) -> str:
    """What the row achieves in the unit of its limit: bytes a second for memory and communication, else FLOPs.

    A row that is known to move and compute nothing has a dash.
    """
    if row.achieved_bytes_per_s == 0 and not row.achieved_flops_per_s:
        return "-"
    by_bytes = row.bound in ("memory", "communication") or not row.flops
    if by_bytes and row.achieved_bytes_per_s is not None:
        return format_bytes_per_s(row.achieved_bytes_per_s)
    return "?" if row.achieved_flops_per_s is None or by_bytes else format_flops_per_s(row.achieved_flops_per_s)


def shapes_words(row: KernelRow) -> str:
    """The shapes of the op's tensors: ``32x768 768x3072``; a list of tensors by its length; nothing if unrecorded."""
    if row.signature is None:
        return ""
    words = []
    for shape in row.signature.shapes:
        if not shape:
            continue
        is_list = isinstance(shape[0], list)
        words.append(f"({len(shape)} tensors)" if is_list else "x".join(map(str, shape)))
    return " ".join(words)


def line_words(row: KernelRow) -> str:
    """The file and line that most of the row's time was called from, and how many other lines there are.

    ``model.py:12``; ``model.py:8 def`` where the line is that of the function; ``model.py:12 +3``.
    """
    line = line_of(row)
    if line is None:
        return ""
    others = {place.line for place in row.places} - {line, None}
    words = re.sub(r" def .*", " def", file_line(line))
    return f"{words} +{len(others)}" if others else words
