"""The page's facts, findings and smaller tables, as words for the template."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from diagnose.render.names import clean, fit, short_kernel, short_op
from diagnose.render.selection import device_row, main_device, steady_span
from diagnose.render.words import bound_words, device_words, line_words, rate_words
from diagnose.schema import Ceiling, Document, Finding, KernelRow
from diagnose.units import format_bytes, format_bytes_per_s, format_flops_per_s, format_ns, format_share

_PRINTED_KERNELS: Final = 40
_SHOWN_UNCOSTED: Final = 50
_LONGEST_NAME: Final = 90
_FENCE: Final = re.compile(r"```[a-zA-Z]*\n?")
_LONGEST_CODE: Final = 4000
_UNITS: Final[tuple[tuple[str, Callable[[float], str]], ...]] = (
    ("_ns", format_ns), ("bytes_per_s", format_bytes_per_s), ("flops_per_s", format_flops_per_s),
    ("bytes", format_bytes), ("share", format_share), ("efficiency", format_share), ("mfu", format_share),
)  # fmt: skip
"""How a number is said whose name ends so."""
_NANOSECONDS: Final = re.compile(r"_ns(?=_per_|$)")

_SECONDS: Final = ("kernel_floor", "kernel_gap", "launch_call")


@dataclass(frozen=True, slots=True)
class Fact:
    """One number of the page's head; ``more`` says how it is meant."""

    label: str
    value: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of advice: prose, or code to copy."""

    is_code: bool
    text: str


@dataclass(frozen=True, slots=True)
class Card:
    """A finding in words."""

    bound: str
    title: str
    saves: str
    range: str
    evidence: list[tuple[str, str]]
    where: list[str]
    advice: list[Passage]
    assumes: str


@dataclass(frozen=True, slots=True)
class CeilingLine:
    """A roof in words."""

    device: str
    resource: str
    achievable: str
    datasheet: str
    origin: str
    source: str


def facts(document: Document) -> list[Fact]:
    """Device, step and totals; what is unknown stands as ``?`` where a reader looks for it, else is left out."""
    totals, cost = document.totals, document.recording
    row = device_row(document, main_device(document))
    is_cpu = row is not None and row.kind == "cpu"
    found = [Fact("device", device_words(document) or "none"), _step(document)]
    found += [
        Fact("achieved", format_flops_per_s(totals.flops_per_s), "known arithmetic over wall time"),
        Fact("MFU", format_share(totals.mfu), "of the datasheet's peak"),
    ]
    if totals.peak_memory_bytes is not None:
        found.append(Fact("peak memory", format_bytes(totals.peak_memory_bytes)))
    if totals.kernels:
        found.append(Fact("ops" if is_cpu else "kernels", f"{totals.kernels:,}"))
    if totals.launches and not is_cpu:
        found.append(Fact("launches", f"{totals.launches:,}"))
    if totals.host_lead_ns is not None:
        found.append(Fact("host lead", format_ns(totals.host_lead_ns), "how far launches run ahead"))
    if cost.step_plain_ns is not None and cost.step_recorded_ns is not None:
        more = f"a step takes {format_ns(cost.step_plain_ns)} unrecorded, {format_ns(cost.step_recorded_ns)} recorded"
        ratio = format_share(cost.step_recorded_ns / cost.step_plain_ns - 1) if cost.step_plain_ns else "?"
        found.append(Fact("recording cost", ratio, more))
    return found


def _step(document: Document) -> Fact:
    span, steps = steady_span(document), document.window.steps
    if len(steps) < 2 or span is None:
        return Fact("wall", format_ns(document.window.wall_ns))
    spread = f", {format_ns(span.low_ns)} to {format_ns(span.high_ns)}" if span.count > 1 else ""
    return Fact("step", format_ns(span.median_ns), f"median of {span.count} steady of {len(steps)}{spread}")


def finding_cards(document: Document) -> list[Card]:
    """The findings, most recoverable first as the report has them."""
    return [_card(finding) for finding in document.findings]


def _card(finding: Finding) -> Card:
    saves, evidence = finding.recoverable_ns, finding.evidence.items()
    return Card(
        finding.bound,
        clean(finding.title),
        format_ns(saves.mid),
        f"{format_ns(saves.low)} to {format_ns(saves.high)}",
        [(_label(name), _evidence(name, value)) for name, value in evidence],
        [fit(clean(place), 200) for place in finding.where[:12]],
        passages(finding.advice),
        clean(finding.assumes),
    )


def _label(name: str) -> str:
    """What a number is; its unit stands with the number."""
    return clean(_NANOSECONDS.sub("", name).replace("_", " "))


def _evidence(name: str, value: float | str) -> str:
    """A value with the unit that its name has, at its end or before what it is counted by (``gap_ns_per_kernel``)."""
    if isinstance(value, str):
        return fit(clean(value), 300)
    counted = name if name.endswith("_per_s") else name.partition("_per_")[0]
    for ending, words in _UNITS:
        if counted.endswith(ending):
            return words(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def passages(advice: str) -> list[Passage]:
    """Prose, and code: between fences, indented by four, or all of it where it is Python.

    Line breaks stay, other control characters go.
    """
    if _is_python(advice):
        return [Passage(True, _clean_lines(advice))]
    found: list[Passage] = []
    for index, piece in enumerate(_FENCE.split(advice)):
        if index % 2:
            found.append(Passage(True, piece))
        else:
            found += _indented(piece)
    kept = [Passage(passage.is_code, _clean_lines(passage.text)) for passage in found]
    return [passage for passage in kept if passage.text.strip()]


def _is_python(text: str) -> bool:
    """Whether it can be pasted as it is: statements, not a word that happens to be a name. Nothing is run."""
    if len(text) > _LONGEST_CODE:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return bool(body) and not any(isinstance(part, ast.Expr) and isinstance(part.value, ast.Name) for part in body)


def _indented(text: str) -> list[Passage]:
    found: list[Passage] = []
    for line in text.splitlines():
        is_code = line.startswith("    ")
        shown = line[4:] if is_code else line
        if found and found[-1].is_code == is_code:
            found[-1] = Passage(is_code, f"{found[-1].text}\n{shown}")
        else:
            found.append(Passage(is_code, shown))
    return found


def _clean_lines(text: str) -> str:
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    # Indentation is Python's grammar: `clean` would take it away.
    return "\n".join(" " * (len(line) - len(line.lstrip())) + clean(line) for line in lines)


def printed_rows(rows: Sequence[KernelRow]) -> list[tuple[str, ...]]:
    """The first kernels for paper, and for a reader without scripts."""
    return [
        (
            str(row.place), fit(short_kernel(row.kernel), _LONGEST_NAME), short_op(row.op), bound_words(row),
            format_ns(row.time_ns), format_share(row.share), str(row.calls), format_share(row.efficiency),
            rate_words(row), line_words(row),
        )
        for row in rows[:_PRINTED_KERNELS]
    ]  # fmt: skip


def left_out_words(document: Document, rows: Sequence[KernelRow]) -> str:
    """How much the page does not show; nothing where it shows every kernel."""
    count = len(document.kernels) - len(rows)
    share = sum(row.share for row in document.kernels) - sum(row.share for row in rows)
    return (
        f"{count} kernels with {format_share(max(0.0, share))} of the kernel time are in the JSON report only."
        if count
        else ""
    )


def uncosted_lines(document: Document) -> list[tuple[str, str, str, str]]:
    """Time without known work: name, time, calls and reason, most time first."""
    rows = sorted(document.coverage.uncosted, key=lambda row: -row.ns)[:_SHOWN_UNCOSTED]
    return [
        (
            fit(short_op(row.op) if row.op else short_kernel(row.kernel), _LONGEST_NAME),
            format_ns(row.ns), f"{row.calls:,}", clean(row.reason),
        )
        for row in rows
    ]  # fmt: skip


def ceiling_lines(document: Document) -> list[CeilingLine]:
    """The roofs, each with what it rests on."""
    return [
        CeilingLine(
            clean(row.device), clean(row.resource), _rate(row, row.achievable),
            "" if row.datasheet is None else _rate(row, row.datasheet), row.origin, clean(row.source),
        )
        for row in document.ceilings
    ]  # fmt: skip


def _rate(row: Ceiling, value: float) -> str:
    if row.resource in _SECONDS:
        return format_ns(1e9 * value)
    is_traffic = row.resource in ("dram", "l2") or row.resource.startswith(("link.", "cache."))
    return format_bytes_per_s(value) if is_traffic else format_flops_per_s(value)
