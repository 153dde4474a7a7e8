"""The three lines that open every rendering: what limits the step, why that is believed, what to try first.

The verdict is the largest of the four kinds of the median steady step. When more time belongs to no kind than the
lead over the runner-up, or the recording itself cost more than that, it names both and says what would decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, structs

from diagnose.schema import BOUND_OF_PART, Bound, Finding, KernelRow, RecordingCost, Step, Verdict, WaterfallRow
from diagnose.units import format_ns, format_share

_KIND: Final[Mapping[Bound, str]] = {
    "compute": "compute",
    "memory": "memory bandwidth",
    "communication": "communication",
    "overhead": "overhead",
}
_NEXT: Final[Mapping[Bound, str]] = {
    "compute": "do fewer or cheaper operations: lower precision (bf16, TF32, fp8) where accuracy allows, larger tiles",
    "memory": "move fewer bytes: fuse chains of small ops (torch.compile), fused attention, lower precision",
    "communication": "overlap it with compute, send fewer or larger messages, pin host memory",
}
_NEXT_OVERHEAD: Final[Mapping[str, str]] = {
    "small_kernels": "make fewer, larger kernels: torch.compile, foreach or fused optimizers, a larger batch",
    "idle_launch": "launch less: torch.compile(mode='reduce-overhead') or CUDA graphs, a larger batch, fewer small ops",
    "idle_sync": "take out the synchronisation: .item(), .cpu(), printing or branching on a tensor, pageable copies",
    "idle_data": "load data ahead: DataLoader(num_workers=..., pin_memory=True, prefetch_factor=...)",
    "idle_allocator": "stop allocating in the step: warm up, reuse buffers, allocate with expandable_segments:True",
    "idle_compile": "warm up before the step that counts: compilation and loading happen once",
    "idle_gc": "keep the collector out of the step: gc.freeze() after setup, or gc.disable() and collect between steps",
    "idle_startup": "warm up before the step that counts: the device was being started",
    "idle_slot": "launch fewer kernels: each costs a slot even when queued; CUDA graphs, fusion (torch.compile)",
}
_WAITING_FOR: Final[Mapping[str, str]] = {
    "idle_launch": "for launches that came late",
    "idle_sync": "after synchronisations",
    "idle_data": "for data",
    "idle_allocator": "for allocations",
    "idle_compile": "for compiling or loading",
    "idle_gc": "for the garbage collector",
    "idle_startup": "for the device to start",
    "idle_slot": "between queued kernels",
}
_NOBODY: Final[Mapping[str, str]] = {
    "uncosted": "kernels without known work",
    "carried_over": "earlier work",
    "idle_profiler": "waiting for the profiler",
    "idle_dependency": "waiting for another stream",
    "idle_queued": "launched but not started",
    "idle_unknown": "idle, with no record of why",
}
_LONGEST_STATEMENT: Final = 6
_RECORD_SHAPES: Final = "record again with record_shapes=True: without shapes no kernel's work is known"
_UNDECIDED: Final[Mapping[str, str]] = {
    "uncosted": "price the uncosted kernels (they are listed under coverage)",
    "carried_over": "record from before the work is queued, or more steps",
    "idle_profiler": "record less (no stacks, no shapes) to see the step without the profiler",
    "idle_queued": "record from earlier on: something that is not in the recording kept the device",
    "idle_unknown": "record the host too (ProfilerActivity.CPU), from before the work is queued",
}
_NEXT_ON_CPU: Final[Mapping[str, str]] = {
    "compute": "do fewer operations, or let more cores do them; bfloat16 where this processor multiplies it faster",
    "memory": "move fewer bytes: fuse chains of small ops (torch.compile), work in place, smaller dtypes",
    "idle_launch": "run less Python between the ops: torch.compile, a larger batch, fewer small ops",
}
"""What replaces advice that only a device can follow."""
NO_SHAPES: Final = "shapes were not recorded"
"""The reason that pricing gives for an op without shapes."""
_NAMED_SHARE: Final = 0.005
"""A smaller share of the step decides nothing, and is not named in the verdict."""


class IdleCause(Struct, frozen=True):
    """Idle time of one part that one op is to be blamed for; ``name`` None where no op is known."""

    part: str
    name: str | None
    ns: int


def median_step(steps: Sequence[Step]) -> int:
    """Index of the steady step of median length (the lower one of two), of all steps if none is steady."""
    steady = [index for index, step in enumerate(steps) if step.steady] or list(range(len(steps)))
    by_length = sorted(steady, key=lambda index: (steps[index].wall_ns, index))
    return by_length[(len(by_length) - 1) // 2]


def decide(
    steps: Sequence[Step],
    waterfall: Sequence[WaterfallRow],
    kernels: Sequence[KernelRow],
    recording: RecordingCost,
    idle: Sequence[IdleCause] = (),
    is_capture: bool = False,
) -> Verdict:
    """The verdict over all devices of the median steady step.

    Args:
        steps: The window's steps.
        waterfall: Its parts.
        kernels: Most time first.
        recording: What recording cost.
        idle: Causes of idle time, largest first.
        is_capture: A device graph was captured inside the window: launches then run nothing, so nothing is concluded.
    """
    index = median_step(steps)
    rows = [row for row in waterfall if row.step == index]
    wall = sum(row.ns for row in rows)
    if not rows or wall == 0 or not any(row.ns for row in rows if not row.part.startswith("idle")):
        text, advice = "none: no device activity was recorded", "record again, with device activity"
        if kernels:
            text, advice = "none: what ran on the device ran outside the steps", "record whole steps"
        return Verdict(None, None, None, wall, text, "-", advice)
    kinds: dict[Bound, int] = dict.fromkeys(_KIND, 0)
    owned: dict[str, int] = {}
    for row in rows:
        owned[row.part] = owned.get(row.part, 0) + row.ns
    nobody = {part: ns for part, ns in owned.items() if BOUND_OF_PART[part] is None}
    for part, ns in owned.items():
        kind = BOUND_OF_PART[part]
        if kind is not None:
            kinds[kind] += ns
    if is_capture:
        text = "none: a device graph was captured inside the window, and captured launches run nothing"
        return Verdict(None, None, None, wall, text, "-", "record its replay; `--capture` names the ops of the replay")
    first, second = sorted(kinds, key=lambda kind: -kinds[kind])[:2]
    undecided = sum(nobody.values())
    share = kinds[first] / wall
    text = _sentence(kinds, (first, second), nobody, wall)
    if owned.get("idle_startup"):
        text = f"the device was started inside the window ({format_ns(owned['idle_startup'])}); {text}"
    cost = _recording_ns(recording)
    if cost is not None and cost > kinds[first] - kinds[second]:
        text += f"; recording itself added {format_ns(cost)} a step, more than the lead"
    known = kinds[first] > 0
    is_cpu = all(row.device == "cpu" for row in rows)
    # The causes and the kernels are of the whole window, the shares of its median step.
    where = f"; in all {len(steps)} steps" if len(steps) > 1 else ""
    return Verdict(
        bound=first if known else None,
        share=share if known else None,
        runner_up=second if kinds[second] > 0 else None,
        undecided_ns=undecided,
        verdict=text,
        why=_evidence(kernels, first, idle, is_cpu=is_cpu) + where if known else "no time has a known kind of limit",
        next=_advice(kinds, first, nobody, owned, lacks_shapes=_lacks_shapes(kernels), is_cpu=is_cpu),
    )


def _sentence(kinds: Mapping[Bound, int], two: tuple[Bound, Bound], nobody: Mapping[str, int], wall: int) -> str:
    first, second = two
    undecided = sum(nobody.values())
    if kinds[first] == 0:
        share = format_share(undecided / wall)
        return f"undecided: {share} of the step belongs to no kind of limit ({_named(nobody, wall)})"
    leading = f"{_KIND[first]} ({format_share(kinds[first] / wall)})"
    other = f" or {_KIND[second]} ({format_share(kinds[second] / wall)})" if kinds[second] else ""
    if undecided > kinds[first]:
        return f"undecided: {_named(nobody, wall)}; of the rest most is {leading}{other}"
    if undecided > kinds[first] - kinds[second]:
        return f"{leading}{other}, undecided: {_named(nobody, wall)}"
    runner_up = f", then {_KIND[second]} {format_share(kinds[second] / wall)}" if kinds[second] else ""
    return f"{_KIND[first]}-bound: {format_share(kinds[first] / wall)} of the step{runner_up}"


def _named(nobody: Mapping[str, int], wall: int) -> str:
    largest = sorted((part for part in nobody if nobody[part]), key=lambda part: -nobody[part])
    named = [part for part in largest[:3] if part == largest[0] or nobody[part] >= _NAMED_SHARE * wall]
    return ", ".join(f"{format_share(nobody[part] / wall)} {_NOBODY.get(part, part)}" for part in named)


def _recording_ns(recording: RecordingCost) -> int | None:
    if recording.step_plain_ns is None or recording.step_recorded_ns is None:
        return None
    return max(0, recording.step_recorded_ns - recording.step_plain_ns)


def _evidence(kernels: Sequence[KernelRow], bound: Bound, idle: Sequence[IdleCause], *, is_cpu: bool) -> str:
    """What took the most time of that kind: kernels, with how close they come to their roof, or waiting."""
    # A bound is no evidence: the kernel may do more than is known.
    mine = [row for row in kernels if row.bound == bound and "bounded" not in row.flags]
    total = sum(row.time_ns for row in mine)
    waits = [cause for cause in idle if BOUND_OF_PART.get(cause.part) == bound]
    waited = sum(cause.ns for cause in waits)
    if waited > total:
        return _waiting(waits, waited, is_cpu=is_cpu)
    if not mine:
        return "no kernel is of this kind; the time lies between kernels"
    top = mine[0]
    reached = "" if top.efficiency is None else f" at {format_share(top.efficiency)} of its roof"
    label = f"{top.op or top.kernel}, {format_ns(top.time_ns)}{reached}"
    if len(mine) == 1:
        return f"one kernel is of this kind: {label}"
    return f"{len(mine)} kernels of this kind take {format_ns(total)}; the largest, {label}"


def _waiting(waits: Sequence[IdleCause], waited: int, *, is_cpu: bool) -> str:
    by_part: dict[str, int] = {}
    for cause in waits:
        by_part[cause.part] = by_part.get(cause.part, 0) + cause.ns
    largest = sorted(by_part, key=lambda part: -by_part[part])[:2]
    words = {**_WAITING_FOR, "idle_launch": "in Python between ops"} if is_cpu else _WAITING_FOR
    parts = " and ".join(f"{format_ns(by_part[part])} {words[part]}" for part in largest)
    named = next((cause for cause in waits if cause.name is not None and cause.part == largest[0]), None)
    where = "" if named is None else f"; most at {named.name}, {format_ns(named.ns)}"
    what = "no op ran" if is_cpu else "the device had nothing to run"
    return f"{what} for {format_ns(waited)}: {parts}{where}"


def _lacks_shapes(kernels: Sequence[KernelRow]) -> bool:
    """Whether most of the time without known work lacks it because shapes were not recorded."""
    uncosted = [row for row in kernels if "uncosted" in row.flags]
    lacking = sum(row.time_ns for row in uncosted if NO_SHAPES in row.reasons)
    return 2 * lacking > sum(row.time_ns for row in uncosted)


def _advice(
    kinds: Mapping[Bound, int],
    first: Bound,
    nobody: Mapping[str, int],
    owned: Mapping[str, int],
    *,
    lacks_shapes: bool,
    is_cpu: bool,
) -> str:
    largest = max(nobody, key=lambda part: nobody[part], default=None)
    if largest is not None and nobody[largest] > kinds[first]:
        if largest == "uncosted" and lacks_shapes:
            return _RECORD_SHAPES
        return _UNDECIDED.get(largest, f"find out about {largest}")
    if first == "overhead":
        mine = [part for part in owned if BOUND_OF_PART[part] == "overhead"]
        most = max(mine, key=lambda part: owned[part])
        return _NEXT_ON_CPU.get(most, _NEXT_OVERHEAD[most]) if is_cpu else _NEXT_OVERHEAD[most]
    return _NEXT_ON_CPU.get(first, _NEXT[first]) if is_cpu else _NEXT[first]


def with_finding(verdict: Verdict, findings: Sequence[Finding]) -> Verdict:
    """The verdict whose last line is the finding that gives most; unchanged where more must be known before any."""
    if not findings or verdict.next in {_RECORD_SHAPES, *_UNDECIDED.values()}:
        return verdict
    first, code = findings[0], _first_statement(findings[0].advice)
    gives = first.recoverable_ns
    between = f" ({format_ns(gives.low)} to {format_ns(gives.high)})" if gives.low < gives.high else ""
    where = f", at {first.where[0]}" if first.where else ""
    saves = "saves" if gives.low else "may save"
    return structs.replace(
        verdict, next=f"{code}: {saves} about {format_ns(gives.mid)}{between} a step; {first.title}{where}"
    )


def _first_statement(advice: str) -> str:
    """The first thing to do, on one line, without its comment; a call may go over several lines."""
    lines = [line.split("  #")[0].strip() for line in advice.splitlines()]
    for count in range(1, 1 + min(len(lines), _LONGEST_STATEMENT)):
        text = " ".join(lines[:count])
        if text.count("(") == text.count(")"):
            return text.removesuffix(":")
    return lines[0].removesuffix(":")
