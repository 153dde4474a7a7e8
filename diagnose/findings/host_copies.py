"""Rules about copies between host and device: pageable memory, copies in line with kernels, constants sent again."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.findings.retiming import all_but_first, gap_of, ns_per_step, rate_of
from diagnose.findings.sending import Nanoseconds, free_ns, shorter
from diagnose.items import KIND_COPY, KIND_KERNEL
from diagnose.kernel_names import copy_direction, is_pageable
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change
from diagnose.trace.link import taken
from diagnose.transfers import exposed_of

STAGED_BYTES: Final = 1 << 16
"""A pageable copy up to this goes through the driver's own buffer and does not wait for the device (CUDA, "API
synchronization behavior": copies of 64 KB or less)."""

PINNED_SHARE: Final = 0.8
"""Of the bus's rate that a large copy of pinned memory reaches: 25 of PCIe 4's 31.5 GB/s."""

LEAST_SHARE: Final = 0.5
"""Of the bus's rate that pinned memory surely reaches, beside other traffic and from a far socket too."""

WORTH_OVERLAP_BYTES: Final = 1 << 20
"""A smaller copy takes latency: there is nothing to hide."""

AGAIN: Final = 4
"""Equal small copies a step from one place: with fewer, each may be the batch's own."""


def pageable_bandwidth(case: Case) -> list[Proposal]:
    """Copies of pageable host memory, which the driver moves piece by piece through a buffer of its own.

    Only the copies' own time: what the host loses by waiting for them is a finding of its own, about overhead. Low: at
    half of the bus's rate. Mid: as fast as pinned memory. High: other work runs beside them too, as far as there is
    any.
    """
    groups = [group for group in _host_copies(case) if is_pageable(case.placed.kernel(group))]
    large = _large(case, groups, STAGED_BYTES + 1)
    groups = [group for group in groups if (large & case.items_of([group])).any()]
    bus = rate_of(case, groups[0], "link.host") if groups else None
    if bus is None:
        return []
    size, duration = case.placed.recording.items.bytes, case.replayer.duration
    low, mid = (np.maximum(0.0, duration - 1e9 * size / bus / share) * large for share in (LEAST_SHARE, PINNED_SHARE))
    high = np.maximum(mid, _hidden(case, large))
    has_inward = any(_direction(case, group) == "host_to_device" for group in groups)
    return [
        Proposal(
            rule="pageable-bandwidth",
            bound="communication",
            title="copies of pageable host memory, at a fraction of the bus's rate",
            evidence={
                "copies_per_step": case.per_step(int(large.sum())),
                "bytes_per_step": round(case.per_step(int(size[large].sum()))),
                "copies_ns_per_step": ns_per_step(case, duration[large].sum()),
                "bytes_per_s": round(1e9 * int(size[large].sum()) / max(1, int(duration[large].sum()))),
                "bus_bytes_per_s": round(bus),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=shorter(case, low),
            mid=shorter(case, mid),
            high=shorter(case, high),
            gap_ns=gap_of(case, float(low.sum()), float(mid.sum()), float(high.sum())),
            advice=_PINNED if has_inward else _PINNED_OUTWARD,
            assumes="pinned memory is taken from the host's own and cannot be paged out; the host must not change it "
            "before the copy is done",
        )
    ]


def copies_in_line(case: Case) -> list[Proposal]:
    """Large copies of pinned memory to the device on the stream of the kernels, where these wait for them.

    They could run beside the kernels of the step before, as far as these have time without communication. Low: half of
    what is exposed, mid and high: all of it (mid as far as kernels cover it).
    """
    streams = _kernel_streams(case)
    groups = [
        group
        for group in _host_copies(case)
        if _direction(case, group) == "host_to_device" and not is_pageable(case.placed.kernel(group))
    ]
    chosen = _large(case, groups, WORTH_OVERLAP_BYTES) & streams
    groups = [group for group in groups if (chosen & case.items_of([group])).any()]
    exposed, covered = exposed_of(case.placed) * chosen, _hidden(case, chosen)
    if not groups or not covered.any():
        return []
    return [
        Proposal(
            rule="copies-in-line",
            bound="communication",
            title="copies to the device run on the kernels' stream, nothing beside them",
            evidence={
                "copies_per_step": case.per_step(int(chosen.sum())),
                "bytes_per_step": round(case.per_step(int(case.placed.recording.items.bytes[chosen].sum()))),
                "copies_ns_per_step": ns_per_step(case, case.replayer.duration[chosen].sum()),
                "exposed_ns_per_step": ns_per_step(case, exposed.sum()),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=shorter(case, covered / 2),
            mid=shorter(case, covered),
            high=shorter(case, exposed),
            advice=_PREFETCHED,
            assumes="the next batch is there a step early, and takes memory on the device beside this one",
        )
    ]


def constants_copied_again(case: Case) -> list[Proposal]:
    """Small copies to the device, equal in size and place, several times a step: constants made on the host.

    All but the first a step would go. Low: their time on the device. Mid: their launches too. High: the host does not
    wait either, and does not run their ops.
    """
    groups = [group for group in _host_copies(case) if _is_again(case, group)]
    if not groups:
        return []
    again = all_but_first(case, case.items_of(groups), case.group_of)
    op = case.placed.recording.items.op[again]
    rows = case.items_of(groups)
    return [
        Proposal(
            rule="constants-copied-again",
            bound="communication",
            title="the same small tensors are copied to the device several times a step",
            evidence={
                "copies_per_step": case.per_step(int(rows.sum())),
                "bytes_each": int(case.placed.recording.items.bytes[rows].max()),
                "copies_ns_per_step": ns_per_step(case, case.replayer.duration[rows].sum()),
            },
            where=case.where(groups),
            cells=[*case.cells(groups), Cell(None, "idle_launch"), Cell(None, "idle_sync")],
            low=shorter(case, case.replayer.duration * again),
            mid=Change(removed=again),
            high=Change(
                removed=again,
                unblocked=_calls(case, again),
                host=case.replayer.host_without(ops=distinct(op[op >= 0])),
            ),
            advice="self.register_buffer('constant', torch.tensor(values), persistent=False)  # in __init__, once\n"
            "torch.full((), value, device=x.device)  # where the value changes: made on the device, nothing is copied",
            assumes="the values do not change from call to call",
        )
    ]


_PINNED: Final = (
    "loader = torch.utils.data.DataLoader(dataset, pin_memory=True, ...)\nbatch = batch.to('cuda', non_blocking=True)"
)
_PINNED_OUTWARD: Final = (
    "host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)  # once\n"
    "host.copy_(result, non_blocking=True)\n"
    "done = torch.cuda.Event(); done.record()  # done.synchronize() before the values are read"
)
_PREFETCHED: Final = (
    "side = torch.cuda.Stream()\n"
    "with torch.cuda.stream(side):  # while this step computes\n"
    "    following = following.to('cuda', non_blocking=True)\n"
    "torch.cuda.current_stream().wait_stream(side); following.record_stream(torch.cuda.current_stream())"
)


def _host_copies(case: Case) -> list[int]:
    """Groups of copies between host and device, most time first."""
    groups = [
        group
        for group in range(len(case.placed.groups))
        if int(case.placed.groups.kind[group]) == KIND_COPY
        and _direction(case, group) in ("host_to_device", "device_to_host")
    ]
    return sorted(groups, key=lambda group: -case.time_ns([group]))


def _direction(case: Case, group: int) -> str | None:
    return copy_direction(case.placed.kernel(group))


def _large(case: Case, groups: list[int], least_bytes: int) -> NDArray[np.bool_]:
    return case.items_of(groups) & (case.placed.recording.items.bytes >= least_bytes)


def _hidden(case: Case, chosen: NDArray[np.bool_]) -> Nanoseconds:
    """The exposed time of the copies that kernels without communication beside them could cover [n]."""
    everything = exposed_of(case.placed)
    exposed = everything * chosen
    alone_ns = int(exposed.sum())
    share = min(1.0, free_ns(case, everything) / alone_ns) if alone_ns else 0.0
    return np.asarray(exposed * share, np.float64)


def _calls(case: Case, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The calls that launched the items [calls of the trace]."""
    found = np.zeros(len(case.placed.recording.trace.calls.name), np.bool_)
    call = case.placed.recording.items.call[chosen]
    found[call[call >= 0]] = True
    return found


def _kernel_streams(case: Case) -> NDArray[np.bool_]:
    """Items on a stream on which kernels of the window ran too [n]."""
    items, stream = case.placed.recording.items, case.placed.recording.trace.activities.stream
    if case.is_cpu:
        return np.zeros(len(items.name), np.bool_)
    lane = items.device * (int(stream.max(initial=0)) + 2) + stream
    return np.isin(lane, distinct(lane[(items.kind == KIND_KERNEL) & (case.group_of >= 0)]))


def _is_again(case: Case, group: int) -> bool:
    """Whether a group is small copies of one size to the device, from one place, several times in every step."""
    items = case.placed.recording.items
    rows = np.flatnonzero(case.group_of == group)
    size = items.bytes[rows]
    is_one = _direction(case, group) == "host_to_device" and 0 < size.min() == size.max() <= STAGED_BYTES
    return bool(is_one and len(rows) >= AGAIN * max(1, len(case.steps)) and len(distinct(_place(case, rows))) == 1)


def _place(case: Case, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return taken(case.places.of_op, case.placed.recording.items.op[rows])


RULES: Final[tuple[Rule, ...]] = (pageable_bandwidth, copies_in_line, constants_copied_again)
