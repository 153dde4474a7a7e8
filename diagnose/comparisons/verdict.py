"""The sentence that opens a comparison: slower, faster or neither, and the cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from diagnose.comparisons.quantities import is_plain
from diagnose.render.names import clean, fit, short_kernel, short_op
from diagnose.render.selection import PART_WORDS
from diagnose.schema import Document
from diagnose.tables.comparison import Change, Quantity
from diagnose.units import format_ns, format_share

_LONGEST_NAME: Final = 40
_ABOUT_ALL: Final = 0.1
_EXPLAINED: Final = 0.5
"""Where the recorded steps differ by less than this share of the unrecorded ones, they do not show the whole cause."""
_ALIKE: Final = 0.05
"""Ratios of two kernels' times that differ by less are the same slowdown."""
_EVERYTHING: Final = 0.8
"""The share of the kernel time that must have slowed down alike before one says that everything did."""


def decide(step: Quantity, changes: Sequence[Change], *, is_same: bool) -> str:
    """The verdict.

    Args:
        step: The step time of both.
        changes: Everything that owns time.
        is_same: Both recordings measured the very same.
    """
    if step.before is None or step.after is None or not step.before:
        return "nothing to compare: a step time is not known"
    times = f"{format_ns(step.before)} → {format_ns(step.after)} a step"
    if is_same:
        return f"no difference: {format_ns(step.before)} a step in both, and every part the same"
    if step.within_noise:
        return f"no difference beyond noise: {times} ({signed_share(step.relative)})"
    difference = step.after - step.before
    word = "slower" if difference > 0 else "faster"
    unknown = " (noise unknown)" if step.within_noise is None else ""
    return (
        f"{word} by {format_share(abs(difference) / step.before)}{unknown}: {times}; {cause_words(changes, difference)}"
    )


def cause_words(changes: Sequence[Change], difference_ns: float) -> str:
    """What the largest part of the difference comes from, by op or kind of waiting.

    Args:
        changes: Of the recorded step.
        difference_ns: Of the step time, which may be that of unrecorded steps.
    """
    sign = 1 if difference_ns > 0 else -1
    grouped: dict[str, list[Change]] = {}
    for change in changes:
        grouped.setdefault(name_of(change), []).append(change)
    sums = {name: sum(change.difference_ns for change in group) for name, group in grouped.items()}
    recorded = sum(sums.values())
    name = max(sums, key=lambda name: sign * sums[name], default=None)
    if name is None or sign * sums[name] <= 0:
        return "no part of the recorded step explains it"
    cause = f"{name} {signed_ns(sums[name])}{_detail(grouped[name])}, {_share_words(sums[name] / difference_ns)} of it"
    if sign * recorded < _EXPLAINED * abs(difference_ns):
        return f"the recorded steps differ by only {signed_ns(recorded)}, there mostly {cause}"
    return f"{_everything_words(changes, sign)}mostly {cause}"


def _share_words(share: float) -> str:
    if abs(share - 1) <= _ABOUT_ALL:
        return "all"
    return format_share(share) if share < 1 else "more than all"


def name_of(change: Change) -> str:
    """What a person calls it: a part of the waterfall in words, an op, else a kernel."""
    if change.part is not None:
        return PART_WORDS[change.part]  # type: ignore[index]  # its own module's names; a part of no kernel
    if change.op is not None:
        return fit(short_op(change.op), _LONGEST_NAME)
    return fit(short_kernel((change.kernels_after or change.kernels_before or ["?"])[0]), _LONGEST_NAME)


def _detail(group: Sequence[Change]) -> str:
    """What happened to it: new, gone, called more often, other shapes; else from what to what."""
    if group[0].part is not None:
        at = "" if group[0].op is None else f", most at {fit(short_op(group[0].op), _LONGEST_NAME)}"
        return f" ({format_ns(group[0].before_ns)} → {format_ns(group[0].after_ns)}{at}{_where(group)})"
    if all(change.status in ("new", "gone") for change in group):
        status = "new" if group[0].status == "new" else "gone"
        return f" ({status}{_where(group)})" if len({change.status for change in group}) == 1 else ""
    main = max(group, key=lambda change: abs(change.difference_ns))
    calls = [sum(value or 0 for value in side) for side in _calls(group)]
    if round(calls[0], 2) != round(calls[1], 2):
        return f" ({count_words(calls[0])} → {count_words(calls[1])} calls a step{_where(group)})"
    if main.shapes_before != main.shapes_after and main.shapes_before and main.shapes_after:
        return f" ({main.shapes_before} → {main.shapes_after}{_where(group)})"
    old, new = sum(change.before_ns for change in group), sum(change.after_ns for change in group)
    return f" ({format_ns(old)} → {format_ns(new)}{_where(group)})"


def _where(group: Sequence[Change]) -> str:
    place = max(group, key=lambda change: abs(change.difference_ns)).where
    return "" if place is None else f", {fit(clean(place), _LONGEST_NAME)}"


def _calls(group: Sequence[Change]) -> tuple[list[float | None], list[float | None]]:
    return [change.calls_before for change in group], [change.calls_after for change in group]


def _everything_words(changes: Sequence[Change], sign: int) -> str:
    """Says so where nearly all kernels took longer (or less) by the same factor: that is no kernel's doing."""
    pairs = [
        (change.kernel_before_ns, change.kernel_after_ns / change.kernel_before_ns)
        for change in changes
        if change.kernel_before_ns and change.kernel_after_ns and _is_same_work(change)
    ]
    whole = sum(change.kernel_before_ns or 0 for change in changes)
    if len(pairs) < 3 or not whole:
        return ""
    middle = _weighted_median(pairs)
    alike = sum(weight for weight, ratio in pairs if abs(ratio / middle - 1) <= _ALIKE)
    if alike < _EVERYTHING * whole or sign * (middle - 1) <= _ALIKE:
        return ""
    return f"all kernels take {middle:.2f} times as long (clocks, another device, a neighbour?), "


def _is_same_work(change: Change) -> bool:
    return change.calls_before == change.calls_after and change.shapes_before == change.shapes_after


def _weighted_median(pairs: Sequence[tuple[float, float]]) -> float:
    ordered = sorted(pairs, key=lambda pair: pair[1])
    half = sum(weight for weight, _ in ordered) / 2
    passed = 0.0
    for weight, ratio in ordered:
        passed += weight
        if passed >= half:
            return ratio
    return ordered[-1][1]


def noise_words(before: Document, after: Document, step: Quantity) -> str:
    """What the step times' noise is, and where it is unknown, why."""
    which = "unrecorded" if is_plain(before, after) else "steady"
    said = []
    sides = (("before", step.low_before, step.high_before), ("after", step.low_after, step.high_after))
    for side, low, high in sides:
        if low is None or high is None:
            said.append(f"unknown {side}: one {which} step")
        else:
            said.append(f"{which} steps {format_ns(low)} to {format_ns(high)} {side}")
    advice = "; several recorded steps, or diagnose.measure, would tell" if step.within_noise is None else ""
    return "; ".join(said) + advice


def signed_ns(ns: float) -> str:
    """``+1.40 ms``."""
    return f"{'+' if ns > 0 else ''}{format_ns(ns)}"


def signed_share(share: float | None) -> str:
    """``+15 %``; None, from nothing to something, ``?``."""
    return "?" if share is None else f"{'+' if share > 0 else ''}{format_share(share)}"


def count_words(count: float) -> str:
    """Calls a step: whole, or with one decimal where steps differ."""
    return f"{count:.0f}" if abs(count - round(count)) < 0.05 else f"{count:.1f}"
