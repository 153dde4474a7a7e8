"""Sentences on what the host did to the step: which ops left the device idle, the phases, steps that stand out."""

from __future__ import annotations

from collections import defaultdict

from diagnose.render.names import clean, file_line, fit, short_op
from diagnose.render.selection import PART_WORDS, main_device
from diagnose.schema import Document, IdleRow
from diagnose.units import format_ns, format_share

_WORTH_NAMING = 0.01
"""Share of the window below which idle time needs no names, and a phase no word."""
_LONGEST_OP = 32
_JOINT = {"idle_launch": " ", "idle_queued": ": ", "idle_slot": ": "}
"""What stands between the part and the op that was late; what the rest held up came after it."""
_SHOWN = 3
_SHOWN_OUTLIERS = 2


def idle_words(document: Document) -> str | None:
    """The ops that left the main device idle longest, with their lines; None where it was hardly idle."""
    key = main_device(document)
    rows = [row for row in document.idle if (row.process_rank, row.device) == key]
    total = sum(row.ns for row in rows)
    if total < _WORTH_NAMING * max(1, document.window.wall_ns):
        return None
    by_cause: defaultdict[str, int] = defaultdict(int)
    is_cpu = key is not None and key[1] == "cpu"
    for row in rows:
        by_cause[_cause(row, is_cpu=is_cpu)] += row.ns
    largest = sorted(by_cause.items(), key=lambda item: -item[1])
    named = [f"{format_ns(ns)} {words}" for words, ns in largest[:_SHOWN]]
    rest = largest[_SHOWN:]
    if rest:
        named.append(f"{format_ns(sum(ns for _, ns in rest))} in {len(rest)} more places")
    steps = len(document.window.steps)
    return ("" if steps < 2 else f"in all {steps} steps ") + "; ".join(named)


def _cause(row: IdleRow, *, is_cpu: bool) -> str:
    """``launching addmm at model.py:12``."""
    words = PART_WORDS[row.part].removeprefix("idle: ")
    if is_cpu and row.part == "idle_launch":
        words = "Python"
    op = fit(short_op(row.op) if row.op else clean(row.call or ""), _LONGEST_OP)
    where = file_line(row.line)
    joint = " before " if is_cpu else " in " if row.part == "idle_sync" else _JOINT.get(row.part, " before ")
    return words + (f"{joint}{op}" if op else "") + (f" at {where}" if where else "")


def phase_words(document: Document) -> str | None:
    """Each phase's share of the window on the main device; None where no phase is known."""
    key = main_device(document)
    shares: defaultdict[str, float] = defaultdict(float)
    for row in document.phases:
        if row.step is None and (row.process_rank, row.device) == key:
            shares[row.phase or "no phase"] += row.share
    named = [f"{phase} {format_share(share)}" for phase, share in shares.items() if share >= _WORTH_NAMING]
    return ", ".join(named) if named and set(shares) != {"no phase"} else None


def outlier_words(document: Document) -> str | None:
    """The steady steps that stand out, and by which part they differ; None where none does."""
    spread = document.step_spread
    if spread is None or not spread.outliers:
        return None
    furthest = sorted(spread.outliers, key=lambda outlier: -abs(outlier.off_ns))
    named = []
    for outlier in furthest[:_SHOWN_OUTLIERS]:
        side = "over" if outlier.off_ns > 0 else "under"
        words = f"{clean(outlier.name)} is {format_ns(abs(outlier.off_ns))} {side} the median"
        if outlier.part is not None:
            more = "more" if outlier.part_ns > 0 else "less"
            words += f" ({format_ns(abs(outlier.part_ns))} {more} {PART_WORDS[outlier.part]})"
        named.append(words)
    rest = len(furthest) - len(named)
    return "; ".join(named) + (f"; {rest} more" if rest else "")
