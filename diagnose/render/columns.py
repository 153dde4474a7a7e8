"""The tables of a report as flat records: the columns of the CSV file and of the DataFrames, units in their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from diagnose.places.module_tree import module_tree
from diagnose.schema import Document, KernelRow, Place

Kind = Literal["int", "float", "text", "flag", "list"]
Record = dict[str, Any]

KERNEL_COLUMNS: Final[Mapping[str, Kind]] = {
    "place": "int", "process_rank": "int", "device": "text", "kernel": "text", "op": "text",
    "shapes": "list", "dtypes": "list", "strides": "list", "calls": "int", "time_ns": "int", "exposed_ns": "int",
    "share_of_kernel_time": "float", "flops_per_call": "int", "special_ops_per_call": "int",
    "bytes_read_per_call": "int", "bytes_written_per_call": "int", "extra_bytes_per_call": "int", "math": "text",
    "arithmetic_intensity_flops_per_byte": "float", "achieved_flops_per_s": "float", "achieved_bytes_per_s": "float",
    "roof_ns_per_call": "float", "datasheet_roof_ns_per_call": "float", "efficiency": "float", "bound": "text",
    "flags": "list", "reasons": "list", "cost_source": "text", "gap_low_ns": "int", "gap_mid_ns": "int",
    "gap_high_ns": "int", "module": "text", "line": "text", "caller": "text", "phase": "text", "place_count": "int",
}  # fmt: skip
"""``module``, ``line``, ``caller`` and ``phase`` are of the place with most time, out of ``place_count``."""

WATERFALL_COLUMNS: Final[Mapping[str, Kind]] = {
    "process_rank": "int", "device": "text", "step": "int", "part": "text", "bound": "text", "ns": "int",
    "share_of_wall": "float",
}  # fmt: skip

STEP_COLUMNS: Final[Mapping[str, Kind]] = {
    "step": "int", "name": "text", "start_ns": "int", "wall_ns": "int", "steady": "flag",
}  # fmt: skip

CEILING_COLUMNS: Final[Mapping[str, Kind]] = {
    "device": "text", "resource": "text", "unit": "text", "achievable": "float", "datasheet": "float", "low": "float",
    "high": "float", "origin": "text", "source": "text",
}  # fmt: skip

FINDING_COLUMNS: Final[Mapping[str, Kind]] = {
    "rule": "text", "bound": "text", "title": "text", "recoverable_low_ns": "int", "recoverable_mid_ns": "int",
    "recoverable_high_ns": "int", "gap_low_ns": "int", "gap_mid_ns": "int", "gap_high_ns": "int", "where": "list",
    "advice": "text", "assumes": "text",
}  # fmt: skip

UNCOSTED_COLUMNS: Final[Mapping[str, Kind]] = {
    "op": "text", "kernel": "text", "calls": "int", "ns": "int", "reason": "text",
}  # fmt: skip

COMMUNICATION_COLUMNS: Final[Mapping[str, Kind]] = {
    "process_rank": "int", "device": "text", "collective": "text", "memory": "text", "group": "text",
    "group_description": "text", "group_size": "int", "calls": "int", "bytes": "int", "time_ns": "int",
    "exposed_ns": "int", "overlapped_ns": "int", "link": "text", "link_bytes_per_s": "float",
    "achieved_bytes_per_s": "float", "efficiency": "float", "latency_share": "float", "note": "text",
}  # fmt: skip

MODULE_COLUMNS: Final[Mapping[str, Kind]] = {
    "module": "text", "depth": "int", "calls": "int", "time_ns": "int", "own_time_ns": "int",
    "share_of_kernel_time": "float", "flops": "int", "bytes_accessed": "int", "gap_ns": "int", "gap_of_ns": "int",
}  # fmt: skip
"""One row a module with what is inside it; ``module`` is NA for what was called outside any."""

_SECONDS: Final = frozenset({"kernel_floor", "kernel_gap", "launch_call"})


def kernel_records(document: Document) -> list[Record]:
    """One flat record a kernel row, as ranked."""
    return [_kernel_record(row) for row in document.kernels]


def _kernel_record(row: KernelRow) -> Record:
    place = max(row.places, key=lambda place: place.time_ns) if row.places else Place(None, None, None, None, 0, 0)
    values = {**_fields(row), **_fields(place), "calls": row.calls, "time_ns": row.time_ns, "place": row.place}
    for name in ("flops", "special_ops", "bytes_read", "bytes_written", "extra_bytes", "roof_ns", "datasheet_roof_ns"):
        values[f"{name}_per_call"] = values[name]
    values["share_of_kernel_time"] = row.share
    values["arithmetic_intensity_flops_per_byte"] = row.arithmetic_intensity
    values["place_count"] = len(row.places)
    values |= _interval(row.gap_ns, "gap")
    for name in ("shapes", "dtypes", "strides"):
        values[name] = getattr(row.signature, name) if row.signature else None
    return {name: values[name] for name in KERNEL_COLUMNS}


def _waterfall_records(document: Document) -> list[Record]:
    return [{**_fields(row), "share_of_wall": row.share} for row in document.waterfall]


def _step_records(document: Document) -> list[Record]:
    return [{**_fields(step), "step": index} for index, step in enumerate(document.window.steps)]


def _ceiling_records(document: Document) -> list[Record]:
    return [{**_fields(row), "unit": _unit_of(row.resource)} for row in document.ceilings]


def _unit_of(resource: str) -> str:
    if resource in _SECONDS:
        return "s"
    return "bytes/s" if resource in ("dram", "l2") or resource.startswith(("link.", "cache.")) else "flops/s"


def _finding_records(document: Document) -> list[Record]:
    return [
        {**_fields(row), **_interval(row.recoverable_ns, "recoverable"), **_interval(row.gap_ns, "gap")}
        for row in document.findings
    ]


def _uncosted_records(document: Document) -> list[Record]:
    return [_fields(row) for row in document.coverage.uncosted]


def _communication_records(document: Document) -> list[Record]:
    return [_fields(row) for row in document.communication]


def _module_records(document: Document) -> list[Record]:
    return [
        {**_fields(node), "module": node.path, "own_time_ns": node.own_ns, "share_of_kernel_time": node.share}
        for node in module_tree(document)
    ]


def _fields(row: msgspec.Struct) -> Record:
    return msgspec.structs.asdict(row)


def _interval(interval: msgspec.Struct | None, name: str) -> Record:
    return {f"{name}_{end}_ns": None if interval is None else getattr(interval, end) for end in ("low", "mid", "high")}


TABLES: Final[Mapping[str, tuple[Mapping[str, Kind], Callable[[Document], list[Record]]]]] = {
    "kernels": (KERNEL_COLUMNS, kernel_records),
    "waterfall": (WATERFALL_COLUMNS, _waterfall_records),
    "steps": (STEP_COLUMNS, _step_records),
    "ceilings": (CEILING_COLUMNS, _ceiling_records),
    "findings": (FINDING_COLUMNS, _finding_records),
    "coverage": (UNCOSTED_COLUMNS, _uncosted_records),
    "modules": (MODULE_COLUMNS, _module_records),
    "communication": (COMMUNICATION_COLUMNS, _communication_records),
}
"""Every table by name: its columns and its records. ``coverage`` is the time without known work."""
