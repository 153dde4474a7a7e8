"""The communication table: collectives and copies, how long, how much of it alone, and how close to their link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from msgspec import Struct

from diagnose.costs import collective
from diagnose.distinct import distinct
from diagnose.items import KIND_COLLECTIVE, KIND_COPY, Recording
from diagnose.kernel_names import copy_direction, is_pageable, read_name
from diagnose.pricing.collective_kinds import kind_of
from diagnose.pricing.grouping import unique_rows
from diagnose.roofs.placing import Placed
from diagnose.schema import CommunicationRow
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints

_MOST_PARENTS: Final = 8
"""How far above a launch the op of a collective is looked for."""
_MOSTLY: Final = 0.5
"""Above this share of its time a row is called held against latency."""


class _Sum(Struct):
    """One row while it is added up; ``None`` in a sum of bytes once an addend is not known."""

    memory: Literal["pageable", "pinned"] | None = None
    calls: int = 0
    time_ns: int = 0
    exposed_ns: int = 0
    message: int | None = 0
    crossed: int = 0
    crossed_ns: int = 0
    roof_ns: float = 0.0
    roofed_ns: int = 0
    small_ns: int | None = 0
    unsized: int = 0
    too_fast: int = 0


class _Cell(Struct, frozen=True):
    """Items of one kernel row, collective description and kind: everything that a row adds up."""

    group: int
    metadata: int
    calls: int
    time_ns: int
    exposed_ns: int


_Key = tuple[int, str, str | None, str | None, int | None, Literal["pageable", "pinned"] | None]


def communication_rows(placed: Placed) -> list[CommunicationRow]:
    """One row a device, kind of transfer and process group, most time first."""
    sums: dict[_Key, _Sum] = {}
    kinds = collective_kinds(placed.recording)
    for cell, kind in _cells(placed, kinds):
        key = _key(placed, cell, kind)
        _add(placed, cell, sums.setdefault(key, _Sum(key[-1])))
    rows = [_row(placed, key, found) for key, found in sums.items()]
    return sorted(rows, key=lambda row: (-row.time_ns, row.collective, row.group or ""))


def exposed_of(placed: Placed) -> Ints:
    """Of each transfer's time, ns in which no own kernel of its device ran; 0 for what is no transfer [n].

    Unlike the waterfall's ``exposed_communication``, two transfers at once are both exposed.
    """
    items, groups = placed.recording.items, placed.groups
    # The last entry is for group -1: carried over, neither a transfer of this window nor an own kernel.
    is_group = np.array([found.bound == "communication" for found in placed.placements] + [False], np.bool_)
    is_transfer = is_group[groups.of_item]
    is_own = (groups.of_item >= 0) & ~is_transfer
    exposed = np.zeros(len(items.name), np.int64)
    spans = items.spans
    for device in distinct(items.device[is_transfer]).tolist():
        here = items.device[spans.row] == device
        busy = here & is_own[spans.row]
        moving = here & is_transfer[spans.row]
        start, end = spans.start[moving], spans.end[moving]
        hidden = _covered(spans.start[busy], spans.end[busy], start, end)
        np.add.at(exposed, spans.row[moving], end - start - hidden)
    return exposed


def _covered(start: Ints, end: Ints, begun: Ints, ended: Ints) -> Ints:
    """How much of each stretch [begun, ended] the union of the intervals [start, end] covers."""
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    if not len(start):
        return np.zeros(len(begun), np.int64)
    reach = np.maximum.accumulate(end)
    begins = np.concatenate([[True], start[1:] > reach[:-1]])
    first = np.flatnonzero(begins)
    merged_start, merged_end = start[first], reach[np.concatenate([first[1:] - 1, [len(start) - 1]])]
    before = np.concatenate([[0], np.cumsum(merged_end - merged_start)])

    def until(time: Ints) -> Ints:
        place = np.searchsorted(merged_start, time, side="right") - 1
        inside = np.minimum(time, merged_end[np.maximum(place, 0)]) - merged_start[np.maximum(place, 0)]
        return np.where(place >= 0, before[np.maximum(place, 0)] + np.maximum(inside, 0), 0)

    return until(ended) - until(begun)


def collective_kinds(recording: Recording) -> Ints:
    """What each item is as a collective: string id of a name that ``kind_of`` knows, -1 for no collective [n].

    What it says of itself, else the nearest op around its launch that is a collective's, else its own name. (Old
    NCCL names every exchange SendRecv.)
    """
    items, trace = recording.items, recording.trace
    found = np.full(len(items.name), -1, np.int64)
    rows = np.flatnonzero(items.kind == KIND_COLLECTIVE)
    found[rows] = items.name[rows]
    op = items.op[rows]
    for _ in range(_MOST_PARENTS):
        rows, op = rows[op >= 0], op[op >= 0]
        if not rows.size:
            break
        name = trace.ops.name[op]
        distinct, index = np.unique(name, return_inverse=True)
        is_one = np.array(["::" in trace.strings[one] and kind_of(trace.strings[one]) is not None for one in distinct])
        is_found = is_one[index.reshape(-1)]
        found[rows[is_found]] = name[is_found]
        rows, op = rows[~is_found], taken(trace.ops.parent, op[~is_found])
    return found


def named_kind(recording: Recording, metadata: int, name: int) -> str:
    """The kind of one collective, from its description and what ``collective_kinds`` found."""
    trace = recording.trace
    said = str(trace.metadata[metadata].get("collective", "")) if metadata >= 0 else ""
    text = trace.strings[name] if name >= 0 else ""
    kernel = read_name(text).collective if text else None
    return kind_of(said) or kind_of(text) or (kernel if kernel is not None else "other")


def _cells(placed: Placed, kinds: Ints) -> list[tuple[_Cell, int]]:
    """The distinct (row of the kernel table, description, kind), with what their items add up to."""
    items, of_item = placed.recording.items, placed.groups.of_item
    is_group = np.array([found.bound == "communication" for found in placed.placements] + [False], np.bool_)
    rows = np.flatnonzero(is_group[of_item])
    if not rows.size:
        return []
    exposed = exposed_of(placed)
    first, cell = unique_rows([of_item[rows], items.metadata[rows], kinds[rows]])
    sums = np.zeros((len(first), 3), np.int64)
    np.add.at(sums, cell, np.stack([np.ones(len(rows), np.int64), items.duration[rows], exposed[rows]], axis=1))
    heads = rows[first]
    return [
        (_Cell(group, metadata, *counts), kind)
        for group, metadata, counts, kind in zip(
            of_item[heads].tolist(), items.metadata[heads].tolist(), sums.tolist(), kinds[heads].tolist(), strict=True
        )
    ]


def _key(placed: Placed, cell: _Cell, kind: int) -> _Key:
    groups, trace = placed.groups, placed.recording.trace
    device = int(groups.device[cell.group])
    if groups.kind[cell.group] == KIND_COPY:
        name = placed.kernel(cell.group)
        pageable = is_pageable(name)
        memory: Literal["pageable", "pinned"] | None
        memory = None if pageable is None else "pageable" if pageable else "pinned"
        return device, copy_direction(name) or "copy", None, None, None, memory
    about = trace.metadata[cell.metadata] if cell.metadata >= 0 else {}
    group, said, size = about.get("group"), about.get("group_description"), about.get("group_size")
    return (
        device, named_kind(placed.recording, cell.metadata, kind), None if group is None else str(group),
        str(said) if said else None, size if isinstance(size, int) and size > 0 else None, None,
    )  # fmt: skip


def _amounts(placed: Placed, cell: _Cell) -> tuple[int | None, int | None]:
    """Bytes of one call's message, and of those that cross a link of this rank."""
    if placed.groups.kind[cell.group] == KIND_COLLECTIVE:
        about = placed.recording.trace.metadata[cell.metadata] if cell.metadata >= 0 else None
        return (None, None) if about is None else (collective.message_bytes(about), collective.link_bytes(about))
    work = placed.work(cell.group)
    moved = None if work is None else work.bytes_written
    return moved, moved


def _add(placed: Placed, cell: _Cell, total: _Sum) -> None:
    message, crossed = _amounts(placed, cell)
    placement = placed.placements[cell.group]
    total.calls += cell.calls
    total.time_ns += cell.time_ns
    total.exposed_ns += cell.exposed_ns
    total.message = None if total.message is None or message is None else total.message + message * cell.calls
    total.unsized += cell.calls if message is None else 0
    if crossed is not None:
        total.crossed += crossed * cell.calls
        total.crossed_ns += cell.time_ns
    if placement.roof_ns is not None:
        total.roof_ns += placement.roof_ns * cell.calls
        total.roofed_ns += cell.time_ns
    total.too_fast += cell.calls if "above-roof" in placement.flags else 0
    is_small = _is_small(placed, cell, crossed)
    total.small_ns = (
        None if total.small_ns is None or is_small is None else total.small_ns + cell.time_ns * int(is_small)
    )


def _link(kind: str) -> str:
    """The resource that a collective or a copy of this direction goes over."""
    return "link.peer" if kind not in ("host_to_device", "device_to_host", "host_to_host") else "link.host"


def _is_small(placed: Placed, cell: _Cell, crossed: int | None) -> bool | None:
    """Whether a message takes the link less time than the shortest activity lasts: then latency is all there is."""
    ceilings = placed.hardware.ceilings.get(int(placed.groups.device[cell.group]))
    is_copy = placed.groups.kind[cell.group] == KIND_COPY
    direction = copy_direction(placed.kernel(cell.group)) or "copy" if is_copy else "collective"
    rate = None if ceilings is None else ceilings.rate(_link(direction))
    floor = None if ceilings is None else ceilings.rate("kernel_floor")
    return None if not rate or floor is None or crossed is None else crossed / rate < floor


def _row(placed: Placed, key: _Key, total: _Sum) -> CommunicationRow:
    device, kind, group, description, size, memory = key
    link = _link(kind)
    ceilings = placed.hardware.ceilings.get(device)
    rate = None if ceilings is None else ceilings.rate(link)
    has_roof = total.roofed_ns == total.time_ns and total.time_ns > 0
    small = None if total.small_ns is None or not total.time_ns else total.small_ns / total.time_ns
    return CommunicationRow(
        process_rank=placed.recording.trace.process_rank,
        device=placed.hardware.keys[device],
        collective=kind,
        memory=memory,
        group=group,
        group_description=description,
        group_size=size,
        calls=total.calls,
        bytes=total.message,
        time_ns=total.time_ns,
        exposed_ns=total.exposed_ns,
        overlapped_ns=total.time_ns - total.exposed_ns,
        link=None if rate is None else link,
        link_bytes_per_s=rate,
        achieved_bytes_per_s=total.crossed / (total.crossed_ns / 1e9) if total.crossed_ns and total.crossed else None,
        efficiency=total.roof_ns / total.time_ns if has_roof else None,
        latency_share=small,
        note=_note(total, small),
    )


def _note(total: _Sum, small: float | None) -> str | None:
    """What a reader of the row must know."""
    is_small = small is not None and small > _MOSTLY
    said: Sequence[str | None] = (
        "pageable host memory: the call waits for the copy; pin it to overlap" if total.memory == "pageable" else None,
        f"the size of {total.unsized} of {total.calls} calls was not recorded" if total.unsized else None,
        f"{total.too_fast} calls are faster than the link's datasheet" if total.too_fast else None,
        "small messages, held against latency: send fewer and larger ones" if is_small else None,
    )
    words = [word for word in said if word is not None]
    return "; ".join(words) or None
