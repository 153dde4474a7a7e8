"""What rules look at: the tables of one recording, with the questions that several rules ask of them.

A rule is a short function ``rule(case) -> list[Proposal]``. A proposal says what to change, out of which wall time that
would be won, and, as three changes of the recording, how much of it at worst, probably and at best. What the step would
be shorter by is not the rule's to say: ``pricing_of_findings`` asks the replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.distinct import distinct, is_any
from diagnose.items import KIND_KERNEL, KIND_SELF
from diagnose.places.places import Places, place_of_call, place_of_op
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change, Replayer
from diagnose.roofs.placing import Placed
from diagnose.schema import Bound, IdleRow, Interval, KernelRow, Step
from diagnose.trace.extras import Extras
from diagnose.trace.graphs import capture_starts
from diagnose.trace.host import skip
from diagnose.trace.tables import Ints
from diagnose.wall.host_causes import CAUSES, Stretches, causes_of
from diagnose.wall.phases import BACKWARD, OPTIMIZER, ItemPhases, item_phases
from diagnose.wall.timeline import Timeline
from diagnose.wall.waterfall import PARTS
from diagnose.work import Op, Work

KERNEL: Final = "kernel"
"""Part of a cell that is all of the wall time that a kernel row owns."""

MOST_PLACES: Final = 4
"""Places that a finding names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Something to change.

    Attributes:
        rule: Name of the rule, as in the report: ``launch-bound``.
        bound: The limit that it eases.
        title: What is wrong, in one line without figures that the report prints anyway.
        evidence: Numbers that a reader can check, units in the names.
        where: Lines, modules or ops.
        cells: The wall time that it would be won from, the surest first.
        low, mid, high: The recording changed, from the least to the most that may be hoped for.
        gap_ns: What its kernels could be shorter by, whoever hides it; None where none would be.
        advice: What to do: code to paste, where there is any.
        assumes: What has to hold, and what it costs (static shapes, accuracy, memory).
        beyond: A rule whose change is part of this one and easier to make: where that finds something, this one
            promises what it adds.
        multiplies: Its change does the same work faster (only durations differ), so it shortens what other findings
            leave of an item by the same share. Where two changes make less work, the better one counts alone.
    """

    rule: str
    bound: Bound
    title: str
    evidence: dict[str, float | int | str]
    where: Sequence[str]
    cells: Sequence[Cell]
    low: Change
    mid: Change
    high: Change
    gap_ns: Interval | None = None
    advice: str
    assumes: str
    beyond: str = ""
    multiplies: bool = False


@dataclass(frozen=True)
class Case:
    """One recording with everything that is known of it. Groups, items and ops are row numbers.

    Attributes:
        placed: Groups with their work and their place under the roof.
        timelines: Of each device.
        steps: Of the window.
        places: Where ops were called.
        exposed: Wall time that each group owns, ns [g].
        rows: The report's kernel rows, most time first.
        idle: The report's idle rows, most time first.
        extras: Our recorder's key, None in a foreign recording.
    """

    placed: Placed
    timelines: dict[int, Timeline]
    steps: Sequence[Step]
    places: Places
    exposed: Ints
    rows: Sequence[KernelRow]
    idle: Sequence[IdleRow]
    extras: Extras | None = None

    @cached_property
    def replayer(self) -> Replayer:
        """What a change is worth."""
        return Replayer(self.placed.recording)

    @cached_property
    def group_of(self) -> Ints:
        """Group of each item, -1 for what is carried over."""
        return self.placed.groups.of_item

    @cached_property
    def phases(self) -> ItemPhases:
        """Phase of each item."""
        return item_phases(self.placed.recording)

    @cached_property
    def is_training(self) -> bool:
        """Whether the recording has a backward pass or an optimizer."""
        return bool(np.isin(self.phases.phase, (BACKWARD, OPTIMIZER)).any())

    @cached_property
    def is_kernel(self) -> NDArray[np.bool_]:
        """Groups that compute or move on the device itself: no copies, collectives or sets [g]."""
        return np.isin(self.placed.groups.kind, (KIND_KERNEL, KIND_SELF))

    @property
    def is_cpu(self) -> bool:
        """Whether the host's ops are what was placed."""
        return self.placed.recording.is_cpu

    def per_step(self, count: float) -> float:
        """Of a count over the window, what falls to a step; one decimal."""
        return round(count / max(1, len(self.steps)), 1)

    @cached_property
    def wall_ns(self) -> int:
        """The window."""
        return sum(step.wall_ns for step in self.steps)

    @cached_property
    def step_ns(self) -> int:
        """The median steady step."""
        steady = sorted(step.wall_ns for step in self.steps if step.steady) or [self.wall_ns]
        return steady[(len(steady) - 1) // 2]

    def op(self, group: int) -> Op | None:
        """The call that a group's kernels belong to, None where unlinked or without recorded arguments."""
        signature = int(self.placed.groups.signature[group])
        return None if signature < 0 else self.placed.recording.trace.signatures[signature]

    def op_name(self, group: int) -> str:
        """Name of the innermost op, ``""`` where unlinked."""
        return self.placed.op(group) or ""

    def work(self, group: int) -> Work | None:
        """What one call must do."""
        return self.placed.work(group)

    def groups_where(self, holds: Callable[[int], bool]) -> list[int]:
        """Groups for which ``holds(group)``; groups are few, so a loop is fine."""
        return [group for group in range(len(self.placed.groups)) if holds(group)]

    def items_of(self, groups: Iterable[int]) -> NDArray[np.bool_]:
        """Which items belong to one of the groups [n]."""
        chosen = np.zeros(len(self.placed.groups) + 1, np.bool_)  # the last is group -1
        chosen[list(groups)] = True
        return chosen[self.group_of]

    def time_ns(self, groups: Iterable[int]) -> int:
        """Summed duration."""
        return int(self.placed.groups.time[list(groups)].sum())

    def calls(self, groups: Iterable[int]) -> int:
        """How often they ran in the window."""
        return int(self.placed.groups.calls[list(groups)].sum())

    def cells(self, groups: Iterable[int]) -> list[Cell]:
        """The wall time that the groups own, the largest first."""
        return [Cell(group, KERNEL) for group in sorted(groups, key=lambda group: -int(self.exposed[group]))]

    def idle_ns(self, *parts: str) -> int:
        """Wall time of some parts of the waterfall that no kernel owns, over all steps; the mean over devices."""
        columns = [PARTS.index(part) for part in parts]
        sums = [int(found.parts[:, columns].sum()) for found in self.timelines.values()]
        return sum(sums) // max(1, len(sums))

    def step_idle_ns(self, *parts: str) -> int:
        """What some parts of the waterfall own of the median steady step; the mean over devices."""
        columns = [PARTS.index(part) for part in parts]
        steady = [index for index, step in enumerate(self.steps) if step.steady] or list(range(len(self.steps)))
        by_step = np.sum([found.parts[:, columns].sum(axis=1) for found in self.timelines.values()], axis=0)
        owned = sorted(by_step[steady].tolist()) if len(self.timelines) else [0]
        return int(owned[(len(owned) - 1) // 2]) // max(1, len(self.timelines))

    @cached_property
    def host_causes(self) -> dict[str, Stretches]:
        """Host time by what held launching up, keyed by the part of the waterfall: ``idle_data``..."""
        return dict(zip(CAUSES, causes_of(self.placed.recording.trace, self.extras), strict=True))

    def host_without_cause(self, *parts: str, keep: float = 0.0) -> Ints:
        """Host intervals for a ``Change`` without what some causes of idle time took, but for the share ``keep``."""
        host = self.replayer.host
        for part in parts:
            host = self.replayer.host_without(spans=self.host_causes[part], keep=keep, host=host)
        return host

    def items_under(self, is_wanted: Callable[[str], bool]) -> NDArray[np.bool_]:
        """Which items were launched by an op, or inside an op, whose name is wanted [n]."""
        trace, op = self.placed.recording.trace, self.placed.recording.items.op
        names = distinct(trace.ops.name).tolist()
        wanted = is_any(trace.ops.name, [name for name in names if is_wanted(trace.strings[name])])
        inside = wanted | (skip(trace.ops.parent, wanted) >= 0)
        return (op >= 0) & inside[np.maximum(op, 0)] if len(inside) else np.zeros(len(op), np.bool_)

    def idle_places(self, part: str) -> list[str]:
        """Lines, modules, ops or calls that idle time of a part is to be blamed on, the most time first."""
        owned: dict[str, int] = {}
        for row in self.idle:
            label = row.line or row.module or row.op or row.call
            if row.part == part and label:
                owned[label] = owned.get(label, 0) + row.ns
        return sorted(owned, key=lambda label: -owned[label])[:MOST_PLACES]

    def place_of_call(self, call: int) -> str:
        """Where a runtime call was made: line, else module, else op; its own name where no op made it."""
        trace = self.placed.recording.trace
        op, at = int(trace.calls.op[call]), place_of_call(self.places, trace, call)
        return at.line or at.module or trace.strings[int(trace.ops.name[op] if op >= 0 else trace.calls.name[call])]

    @cached_property
    def holds_capture(self) -> bool:
        """Whether a device graph is captured inside the window: what was launched then says nothing of the step."""
        bounds = self.placed.recording.steps.boundaries
        starts = capture_starts(self.placed.recording.trace)
        return bool(((starts >= bounds[0]) & (starts < bounds[-1])).any())

    def is_in_window(self, time: Ints) -> NDArray[np.bool_]:
        """Which times, in ns, lie in the window [n]."""
        bounds = self.placed.recording.steps.boundaries
        inside: NDArray[np.bool_] = (time >= bounds[0]) & (time < bounds[-1])
        return inside

    def calls_mask(self, calls: Ints) -> NDArray[np.bool_]:
        """Rows of calls as a mask over all calls of the trace, as ``Change.unblocked`` wants them."""
        mask = np.zeros(len(self.placed.recording.trace.calls.name), np.bool_)
        mask[calls] = True
        return mask

    def scaled(self, factor: dict[int, float]) -> Ints:
        """Durations of the items, those of some groups multiplied by a factor each."""
        by_group = np.ones(len(self.placed.groups) + 1)
        by_group[list(factor)] = list(factor.values())
        return np.rint(self.replayer.duration * by_group[self.group_of]).astype(np.int64)

    def gone(self, groups: Iterable[int]) -> Change:
        """The recording without the groups: their kernels are not launched."""
        return Change(removed=self.items_of(groups))

    def where(self, groups: Iterable[int]) -> list[str]:
        """Where the groups were called, most time first: lines, else modules, else ops with their shapes' row."""
        trace, items = self.placed.recording.trace, self.placed.recording.items
        time: dict[str, int] = {}
        for group in groups:
            rows = np.flatnonzero(self.group_of == group)
            place = self.places.of_op[items.op[rows]] if len(self.places.of_op) else np.full(len(rows), -1)
            place = np.where(items.op[rows] >= 0, place, -1)
            for number in np.unique(place, return_counts=True)[0].tolist():
                ns = int(items.duration[rows[place == number]].sum())
                at = self.places.distinct[number] if number >= 0 else place_of_op(self.places, -1)
                name = trace.strings[int(self.placed.groups.name[group])]
                label = at.line or at.module or self.placed.op(group) or name
                time[label] = time.get(label, 0) + ns
        return sorted(time, key=lambda label: -time[label])[:MOST_PLACES]
