"""The roof as values: what a device can reach, by resource, and how each number was come by.

What is achievable is what the user states, else measured, else published for this very part, else the datasheet times
the share that was published for its family, else the datasheet. Efficiency and bounds use it; the datasheet beside it
is the limit above which an operation's work is not believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final, Literal

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from diagnose.devices.datasheet import DEVICES, DeviceSpec
from diagnose.devices.published import (
    KERNEL_FLOOR_S,
    KERNEL_GAP_S,
    L2_BYTES_PER_S,
    SHARES,
    SPECIAL_PER_CLOCK_PER_SM,
    Reached,
)
from diagnose.schema import Ceiling, Ridge

Ints = NDArray[np.int64]

MIN_KERNELS_FOR_FLOOR: Final = 100
"""Below this the first percentile is just the shortest kernel, which need not be an empty one."""

MIN_PAIRS_FOR_GAP: Final = 50
"""Enough queued pairs for a median that a few waits for other streams do not move."""

FLOOR_SLACK: Final = 1.25
"""A recording's shortest kernels may be this much longer than the longest known floor and still be taken for it."""

PCIE_BYTES_PER_S: Final = {3: 15.75e9, 4: 31.5e9, 5: 63.0e9, 6: 121e9}
"""16 lanes one way, line code deducted (PCI-SIG base specifications); None of it is protocol overhead."""


_LIKE_HALF: Final = frozenset(
    f"tensor.{dtype}" for dtype in ("bfloat16", "float16", "tfloat32", "float8", "float4", "int8")
)
"""Narrow types share the tensor cores' power limit, so one's share stands in for another's; wide ones do not."""


class Ceilings(Struct, frozen=True):
    """The roofs of one device.

    Attributes:
        device: Its key in the report: ``cuda:0``, ``cpu``.
        rows: One row a resource.
        l2_bytes: Capacity of the last cache before DRAM, None where unknown.
        sms: Streaming multiprocessors (AMD: compute units), None where unknown.
    """

    device: str
    rows: tuple[Ceiling, ...]
    l2_bytes: int | None = None
    sms: int | None = None

    def get(self, resource: str) -> Ceiling | None:
        """The row of ``resource``, None if there is none."""
        return next((row for row in self.rows if row.resource == resource), None)

    def rate(self, resource: str) -> float | None:
        """What is achievable of ``resource``, None if unknown."""
        row = self.get(resource)
        return None if row is None else row.achievable

    def ridge_points(self, *, datasheet: bool = False) -> list[Ridge]:
        """Where each compute roof leaves the DRAM slope: by what is achievable, or by the datasheet."""
        dram = self.get("dram")
        slope = None if dram is None else dram.datasheet if datasheet else dram.achievable
        if not slope:
            return []
        roofs = [row for row in self.rows if row.resource.startswith(("tensor.", "vector."))]
        rates = [(row.resource, row.datasheet if datasheet else row.achievable) for row in roofs]
        return [Ridge(self.device, resource, rate / slope) for resource, rate in rates if rate is not None]


def from_spec(device: str, spec: DeviceSpec) -> Ceilings:
    """The ceilings of a device with a row in the table, from its datasheet and what was published of it."""
    rates: dict[str, tuple[float, float]] = {resource: (rate, rate) for resource, rate in spec.flops_per_s.items()}
    if spec.dram_bytes_per_s is not None:
        rates["dram"] = (spec.dram_bytes_per_s, spec.dram_bytes_per_s)
    rates.update(spec.intervals)
    rows = [_rate_row(device, spec, resource, low_high) for resource, low_high in sorted(rates.items())]
    rows += [row for row in (_special(device, spec), _l2(device, spec)) if row is not None]
    rows += _links(device, spec)
    rows += _slots(device, spec)
    cache_bytes = spec.llc_bytes if spec.llc_bytes is not None else spec.l2_bytes
    return with_rows(Ceilings(device, tuple(rows), cache_bytes, spec.sms), _stated(device, spec))


def with_rows(ceilings: Ceilings, rows: Iterable[Ceiling]) -> Ceilings:
    """``ceilings`` with ``rows`` in place of those of the same resource (measured, or given by the user)."""
    given = {row.resource: row for row in rows}
    kept = tuple(_in_place(row, given.pop(row.resource, row)) for row in ceilings.rows)
    return replace(ceilings, rows=kept + tuple(given.values()))


def _stated(device: str, spec: DeviceSpec) -> list[Ceiling]:
    """What the user says is reached, beside the datasheet's figure where there is one."""
    sheet = {"dram": spec.dram_bytes_per_s, "link.peer": spec.link_bytes_per_s, **spec.flops_per_s}
    return [
        Ceiling(device, resource, rate, sheet.get(resource), None, None, "user", spec.source)
        for resource, rate in spec.stated.items()
    ]


def with_measured(ceilings: Ceilings, rows: Iterable[Ceiling]) -> Ceilings:
    """``ceilings`` with what was measured; what the user states stays."""
    stated = {row.resource for row in ceilings.rows if row.origin == "user"}
    return with_rows(ceilings, [row for row in rows if row.resource not in stated])


def _in_place(old: Ceiling, new: Ceiling) -> Ceiling:
    """The maker's figure stays beside a measured one."""
    return new if new.datasheet is not None else msgspec.structs.replace(new, datasheet=old.datasheet)


def _rate_row(device: str, spec: DeviceSpec, resource: str, rate: tuple[float, float]) -> Ceiling:
    reached, origin = _share(spec, resource)
    # Where sources differ, the lower rate is what every part has; the higher one is the limit of belief.
    low, high = rate[0] * reached.low, rate[1] * reached.high
    return Ceiling(
        device=device,
        resource=resource,
        achievable=rate[0] * reached.mid,
        datasheet=rate[1],
        low=low if low < high else None,
        high=high if low < high else None,
        origin=origin,
        source=f"{spec.source}; {reached.source}" if reached.source else spec.source,
    )


def _share(spec: DeviceSpec, resource: str) -> tuple[Reached, Literal["published", "family", "datasheet"]]:
    own = SHARES.get(spec.name, {})
    if resource in own:
        return own[resource], "published"
    family = _family_shares(spec.architecture)
    stand_ins = ("tensor.bfloat16", "tensor.float16") if resource in _LIKE_HALF else ()
    for table, key in [(family, resource)] + [(table, key) for table in (own, family) for key in stand_ins]:
        if key in table:
            found = table[key]
            return replace(found, source=f"share of the family's {key}: {found.source}"), "family"
    return Reached(1.0, 1.0, ""), "datasheet"


@cache
def _family_shares(architecture: str) -> dict[str, Reached]:
    """By resource, the range over all parts of an architecture for which a share was published."""
    shares: dict[str, list[Reached]] = {}
    for spec in DEVICES:
        if spec.architecture == architecture:
            for resource, reached in SHARES.get(spec.name, {}).items():
                shares.setdefault(resource, []).append(reached)
    return {
        resource: Reached(
            min(each.low for each in found),
            max(each.high for each in found),
            "; ".join(dict.fromkeys(each.source for each in found)),
        )
        for resource, found in shares.items()
    }


def _special(device: str, spec: DeviceSpec) -> Ceiling | None:
    per_clock = SPECIAL_PER_CLOCK_PER_SM.get(spec.architecture)
    if per_clock is None or spec.sms is None or spec.clock_hz is None:
        return None
    rate = per_clock * spec.sms * spec.clock_hz
    source = f"{per_clock:g} a clock and SM x {spec.sms} SMs x {spec.clock_hz / 1e6:g} MHz, the vector units' top clock"
    return Ceiling(device, "special", rate, rate, None, None, "datasheet", source)


def _l2(device: str, spec: DeviceSpec) -> Ceiling | None:
    reached = L2_BYTES_PER_S.get(spec.name)
    if reached is not None:
        return _value_row(device, "l2", reached, reached.mid)
    alike = next((other for other in DEVICES if other.name in L2_BYTES_PER_S and _same_chip(spec, other)), None)
    if alike is None:
        return None
    found = L2_BYTES_PER_S[alike.name]
    own = Reached(found.low, found.high, f"of the {alike.name}, the same chip: {found.source}")
    return _value_row(device, "l2", own, own.mid, "family")


def _same_chip(spec: DeviceSpec, other: DeviceSpec) -> bool:
    """Whether the two have as many SMs of one architecture at one clock: then their caches are as fast."""
    known = None not in (spec.sms, spec.clock_hz)
    return known and (spec.architecture, spec.sms, spec.clock_hz) == (other.architecture, other.sms, other.clock_hz)


def _links(device: str, spec: DeviceSpec) -> list[Ceiling]:
    rates = {
        "link.peer": (spec.link_bytes_per_s, spec.source),
        "link.host": (PCIE_BYTES_PER_S.get(spec.pcie_generation or 0), f"PCIe {spec.pcie_generation}, 16 lanes"),
    }
    return [
        Ceiling(device, resource, rate, rate, None, None, "datasheet", source)
        for resource, (rate, source) in rates.items()
        if rate is not None
    ]


def _slots(device: str, spec: DeviceSpec) -> list[Ceiling]:
    rows = []
    floor = KERNEL_FLOOR_S.get(spec.architecture)
    if floor is not None:
        rows.append(_value_row(device, "kernel_floor", floor, floor.low))
    gap = KERNEL_GAP_S.get(spec.architecture)
    if gap is not None:
        rows.append(_value_row(device, "kernel_gap", gap, gap.mid))
    return rows


def _value_row(
    device: str,
    resource: str,
    reached: Reached,
    achievable: float,
    origin: Literal["published", "family"] = "published",
) -> Ceiling:
    is_range = reached.low < reached.high
    low, high = (reached.low, reached.high) if is_range else (None, None)
    return Ceiling(device, resource, achievable, None, low, high, origin, reached.source)


def recorded_floor_ns(durations_ns: Ints) -> float | None:
    """The first percentile of a device's kernel durations; None where there are too few.

    It is an upper bound of the floor: a recording of large kernels only says nothing about small ones.
    """
    if len(durations_ns) < MIN_KERNELS_FOR_FLOOR:
        return None
    return float(np.percentile(durations_ns, 1, method="lower"))


def recorded_gap_ns(
    stream: Ints, start: Ints, end: Ints, launch_end: Ints, is_kernel: NDArray[np.bool_] | None = None
) -> float | None:
    """The median idle time between successive kernels of one stream, the second of which was queued in time.

    A copy or a set between two kernels is no idle time, and kernels that overlap (programmatic dependent launches)
    say nothing of what lies between those that do not.

    Args:
        stream: Of each activity of one device, in any order.
        start: ns.
        end: ns.
        launch_end: When the activity's launch call returned, -1 where it was not recorded.
        is_kernel: Which of them are kernels; None for all.
    """
    order = np.lexsort((start, stream))
    stream, start, end, launch_end = stream[order], start[order], end[order], launch_end[order]
    kernel = np.ones(len(order), np.bool_) if is_kernel is None else is_kernel[order]
    gaps = start[1:] - end[:-1]
    is_pair = (stream[1:] == stream[:-1]) & kernel[1:] & kernel[:-1] & (gaps >= 0)
    was_queued = is_pair & (launch_end[1:] >= 0) & (launch_end[1:] <= end[:-1])
    return float(np.median(gaps[was_queued])) if int(was_queued.sum()) >= MIN_PAIRS_FOR_GAP else None


def with_recording(ceilings: Ceilings, floor_ns: float | None, gap_ns: float | None) -> Ceilings:
    """``ceilings`` with the kernel floor and gap of the recording itself, where it can tell.

    A recorded floor replaces the table's if it is shorter, or not longer than the longest floor known for the device
    (without a row: for any device): beyond that the recording merely has no small kernels.
    """
    rows = []
    table = ceilings.get("kernel_floor")
    if floor_ns is not None and 0 < floor_ns <= FLOOR_SLACK * _longest_floor_ns(table):
        source = "1st percentile of this recording's kernel durations"
        rows.append(_recording_row(ceilings.device, "kernel_floor", floor_ns, source))
    if gap_ns is not None:
        source = "median gap of this recording's queued kernels"
        rows.append(_recording_row(ceilings.device, "kernel_gap", gap_ns, source))
    return with_rows(ceilings, rows)


def _longest_floor_ns(table: Ceiling | None) -> float:
    if table is None:
        return 1e9 * max(each.high for each in KERNEL_FLOOR_S.values())
    return 1e9 * (table.achievable if table.high is None else table.high)


def _recording_row(device: str, resource: str, value_ns: float, source: str) -> Ceiling:
    return Ceiling(device, resource, value_ns / 1e9, None, None, None, "recording", source)
