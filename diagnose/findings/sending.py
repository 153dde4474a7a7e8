"""What collectives move, and what of their time that takes: what several rules about communication ask.

A collective's kernel holds the transfer and any wait for a rank that comes later; which of the two its time was, only
the recordings of all ranks tell. A transfer is bracketed by the link's own ceiling (at least that long) and by the
best rate that a large message of the same kind and group size reaches in this recording (at most that long).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.costs.collective import link_bytes, message_bytes
from diagnose.findings.case import Case
from diagnose.findings.retiming import rate_of
from diagnose.items import KIND_COLLECTIVE
from diagnose.pricing.collective_kinds import kind_of
from diagnose.replays.replayer import Change
from diagnose.trace.tables import Ints
from diagnose.transfers import collective_kinds, named_kind
from diagnose.wall.phases import BACKWARD

LARGE_NS: Final = 20_000.0
"""A message that the link needs at least this long for is large: about what NCCL needs for no message at all over
eight ranks (its tuning table, quickest ring protocol in a node: 6.6 us and 0.6 us for each of 2 (n - 1) hops)."""

ONE_NODE: Final = 8
"""Ranks that fit a node of the boards with such links; between nodes the network counts, which no recording names."""

KERNEL_PARTS: Final = (
    "compute_roof", "compute_above_roof", "memory_roof", "memory_above_roof", "small_kernels", "uncosted",
)  # fmt: skip
"""Parts of the waterfall that own kernels hold."""

Nanoseconds = NDArray[np.float64]


class Sent(Struct, frozen=True):
    """Equal collectives: one group of the report.

    Attributes:
        group: Row.
        kind: ``all_reduce``...
        ranks: Of the process group.
        message: Bytes.
        crossed: Bytes over a link of this rank.
        dtype: Of the elements.
        elements: That go in.
        link_ns: What the link needs for them at its ceiling, None where that is unknown.
        shortest_ns: Its shortest call.
        is_backward: Whether it is launched in the backward pass.
    """

    group: int
    kind: str
    ranks: int
    message: int
    crossed: int
    dtype: str
    elements: int
    link_ns: float | None
    shortest_ns: float
    is_backward: bool

    @property
    def gathered(self) -> int:
        """Numbers that come out of a gather: its input once a rank."""
        return self.elements * self.ranks

    @property
    def is_large(self) -> bool:
        """Whether bandwidth, not latency, is what it should take."""
        return self.link_ns is not None and self.link_ns >= LARGE_NS


def sent(case: Case) -> list[Sent]:
    """The collectives whose size and ranks are recorded, and whose time their link allows, most time first."""
    found = []
    for group in range(len(case.placed.groups)):
        about = case.placed.collective(group)
        message = None if about is None else message_bytes(about)
        crossed = None if about is None else link_bytes(about)
        kind = None if about is None else kind_of(str(about.get("collective", "")))
        if about is None or not message or not crossed or kind is None or not case.placed.placements[group].is_believed:
            continue
        rows, rate = np.flatnonzero(case.group_of == group), rate_of(case, group, "link.peer")
        found.append(
            Sent(
                group=group,
                kind=kind,
                ranks=int(about["group_size"]),
                message=message,
                crossed=crossed,
                dtype=str(about.get("dtype", "")),
                elements=int(about["elements_in"]),
                link_ns=None if rate is None else 1e9 * crossed / rate,
                shortest_ns=float(case.replayer.duration[rows].min()),
                is_backward=int(case.phases.phase[rows[0]]) == BACKWARD,
            )
        )
    return sorted(found, key=lambda each: -case.time_ns([each.group]))


def best_bytes_per_s(found: Sequence[Sent], like: Sent) -> float | None:
    """The best bus bandwidth of a large message of one's kind and group size; None without one."""
    alike = [each for each in found if (each.kind, each.ranks) == (like.kind, like.ranks) and each.is_large]
    rates = [1e9 * each.crossed / each.shortest_ns for each in alike if each.shortest_ns > 0]
    return max(rates, default=None)


def transfer_ns(case: Case, found: Sequence[Sent], chosen: Sequence[Sent]) -> Nanoseconds:
    """What the transfer of each item took at most, 0 for others [n]: at the best rate seen, else its whole time."""
    total = np.zeros(len(case.group_of))
    for each in chosen:
        rate = best_bytes_per_s(found, each)
        most = np.inf if rate is None else 1e9 * each.crossed / rate
        total += case.items_of([each.group]) * np.minimum(case.replayer.duration, most)
    return total


def link_ns(case: Case, chosen: Sequence[Sent]) -> Nanoseconds:
    """What the link needs for each item at its ceiling, never more than it took; 0 for others [n]."""
    total = np.zeros(len(case.group_of))
    for each in chosen:
        total += case.items_of([each.group]) * np.minimum(case.replayer.duration, each.link_ns or 0.0)
    return total


def collective_groups(case: Case) -> list[int]:
    """Every collective that owns wall time, the largest first; also those of unknown size."""
    groups = [group for group in range(len(case.placed.groups)) if case.exposed[group] and _is_collective(case, group)]
    return sorted(groups, key=lambda group: -int(case.exposed[group]))


def main_kind(case: Case, groups: Sequence[int], weight: Ints) -> tuple[str, bool]:
    """The kind of collective that most of a time belongs to, and whether that is launched in the backward pass.

    Args:
        case: The recording.
        groups: Collectives.
        weight: The time of each item, ns [n].
    """
    names, metadata = collective_kinds(case.placed.recording), case.placed.recording.items.metadata
    sums: dict[tuple[str, bool], int] = {}
    for group in groups:
        first = int(case.placed.groups.first[group])
        kind = named_kind(case.placed.recording, int(metadata[first]), int(names[first]))
        key = kind, int(case.phases.phase[first]) == BACKWARD
        sums[key] = sums.get(key, 0) + int(weight[case.group_of == group].sum())
    return max(sums, key=lambda key: sums[key])


def _is_collective(case: Case, group: int) -> bool:
    return int(case.placed.groups.kind[group]) == KIND_COLLECTIVE


def free_ns(case: Case, exposed: Ints) -> int:
    """Time of own kernels beside which no transfer runs: all that could hide one. Of the window, the mean over devices.

    Args:
        case: The recording.
        exposed: What ``transfers.exposed_of`` gives [n].
    """
    items, groups = case.placed.recording.items, case.placed.groups
    is_transfer = np.array([found.bound == "communication" for found in case.placed.placements] + [False], np.bool_)
    hidden = (items.duration - exposed) * is_transfer[groups.of_item]
    return max(0, case.idle_ns(*KERNEL_PARTS) - int(hidden.sum()) // max(1, len(case.timelines)))


def shorter(case: Case, by: Nanoseconds | Ints) -> Change:
    """The recording with each item shorter by so much, never below nothing; longer where it is negative [n]."""
    return Change(duration=np.maximum(0, np.rint(case.replayer.duration - by)).astype(np.int64))
