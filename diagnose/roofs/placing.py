"""Every group of items under the roof of its device."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from diagnose.costs import collective
from diagnose.items import KIND_COLLECTIVE, KIND_COPY, KIND_SELF, KIND_SET, Recording
from diagnose.kernel_names import copy_direction
from diagnose.limits import LIMITS, Limits
from diagnose.pricing.grouping import Groups
from diagnose.pricing.pricing import Priced
from diagnose.roofs.evidence import Surroundings, surroundings
from diagnose.roofs.hardware import Hardware
from diagnose.roofs.raised import with_raised_roofs
from diagnose.roofs.roofline import Kind, Placement, Question, place
from diagnose.work import Work

ABOVE_ROOF = "above-roof"
BOUND_NOT_TIGHT = "bound-not-tight"
"""The flags of a row whose work is not believed."""

UNDER_USED = "under-used"
"""The flag of a row far below its roof."""

_CACHED_OR_NOT: Final = frozenset((ABOVE_ROOF, "cache-resident", "maybe-cached", "ceiling-too-low"))
"""Flags of rows for which it matters what the cache may have held."""


class Placed(Struct, frozen=True):
    """All that is known of a recording's groups, by index of group.

    Attributes:
        recording: What ran.
        groups: The rows to be.
        priced: The work of items.
        hardware: What it ran on.
        placements: One a group.
    """

    recording: Recording
    groups: Groups
    priced: Priced
    hardware: Hardware
    placements: tuple[Placement, ...]

    def work(self, index: int) -> Work | None:
        """What one call of the group must do."""
        return _work(self.groups, self.priced, index)

    def kernel(self, index: int) -> str:
        """The name of what ran."""
        return self.recording.trace.strings[int(self.groups.name[index])]

    def op(self, index: int) -> str | None:
        """The op that launched it, None where unlinked."""
        name = int(self.groups.op_name[index])
        return self.recording.trace.strings[name] if name >= 0 else None

    def reasons(self, index: int) -> list[str]:
        """Why it stands where it stands, and why its work is unknown."""
        reason = int(self.priced.reason[self.groups.first[index]])
        unknown = [self.priced.reasons[reason]] if reason >= 0 and self.priced.reasons[reason] else []
        return [*self.placements[index].reasons, *unknown]

    def collective(self, index: int) -> collective.Metadata | None:
        """What is recorded of the collective that the group is; None for another kind, and where nothing is."""
        described = int(self.recording.items.metadata[self.groups.first[index]])
        is_one = self.groups.kind[index] == KIND_COLLECTIVE and described >= 0
        return self.recording.trace.metadata[described] if is_one else None

    def is_exact(self, index: int) -> bool:
        """Whether its work is known, is no bound, and is possible on its device."""
        work = self.work(index)
        return work is not None and not work.is_bound and ABOVE_ROOF not in self.placements[index].flags

    def is_bounded(self, index: int) -> bool:
        """Whether its work is a bound; a lower one that would have taken longer than it did is none."""
        work = self.work(index)
        is_lower = work is not None and work.flops is None
        is_disproved = is_lower and BOUND_NOT_TIGHT in self.placements[index].flags
        return work is not None and work.is_bound and not is_disproved


def place_groups(
    recording: Recording, groups: Groups, priced: Priced, hardware: Hardware, limits: Limits = LIMITS
) -> Placed:
    """Places every group; where the recording exceeds a roof that was only measured, again under the raised one."""
    placed = _placed(recording, groups, priced, hardware, limits)
    raised = with_raised_roofs(hardware, groups, placed.placements, limits)
    return placed if raised is None else _placed(recording, groups, priced, raised, limits)


def _placed(recording: Recording, groups: Groups, priced: Priced, hardware: Hardware, limits: Limits) -> Placed:
    around = surroundings(recording, groups, priced, hardware, limits)
    placements = []
    for index in range(len(groups)):
        question = _question(around, index)
        ceilings = hardware.ceilings.get(int(groups.device[index]))
        found = place(question, ceilings, limits)
        if ceilings is not None and _CACHED_OR_NOT.intersection(found.flags):
            question = replace(question, reuse=around.reuse(index, ceilings))
            found = place(question, ceilings, limits)
        if UNDER_USED in found.flags:
            found = place(replace(question, evidence=around.evidence(index)), ceilings, limits)
        placements.append(found)
    return Placed(recording, groups, priced, hardware, tuple(placements))


def _question(around: Surroundings, index: int) -> Question:
    recording, groups, hardware = around.recording, around.groups, around.hardware
    name = recording.trace.strings[int(groups.name[index])]
    described = int(recording.items.metadata[int(groups.first[index])])
    kind = _kind(int(groups.kind[index]), name)
    is_described = kind == "collective" and described >= 0
    op_name = int(groups.op_name[index])
    is_convolution = op_name >= 0 and "conv" in recording.trace.strings[op_name]
    return Question(
        kind=kind,
        work=_work(groups, around.priced, index),
        duration_ns=float(groups.time[index]) / float(groups.calls[index]),
        kernel_name=name,
        allow_tf32=hardware.convolution_tf32 if is_convolution else hardware.matmul_tf32,
        link_bytes=collective.link_bytes(recording.trace.metadata[described]) if is_described else None,
    )


def _work(groups: Groups, priced: Priced, index: int) -> Work | None:
    work = int(groups.work[index])
    return priced.works[work] if work >= 0 else None


def _kind(kind: int, name: str) -> Kind:
    if kind == KIND_COLLECTIVE:
        return "collective"
    if kind == KIND_SET:
        return "set"
    if kind == KIND_SELF:
        return "self"
    if kind != KIND_COPY:
        return "kernel"
    direction = copy_direction(name)
    if direction == "peer":
        return "peer_copy"
    return "copy" if direction in {None, "device_to_device"} else "host_copy"
