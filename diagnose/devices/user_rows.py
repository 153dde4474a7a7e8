"""Rows of the device table that the user keeps in a file: what a device is, and what it reaches.

[[device]]
name = "NVIDIA H300"                # as its driver reports it; a name of the table changes that row
sms = 160                           # all but the name may be left out
compute_capability = [11, 0]
memory_bytes = 288e9
l2_bytes = 134217728
dram_bytes_per_s = 8e12
link_bytes_per_s = 9e11             # to peers, one way
source = "the vendor's preliminary data sheet"
[device.flops_per_s]                # dense
"tensor.bfloat16" = 2.5e15
[device.achievable]                 # what is reached, where you know it: resources as in `diagnose devices NAME`
"tensor.bfloat16" = 2.0e15
dram = 7e12
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from diagnose.devices.datasheet import DEVICES, DeviceSpec
from diagnose.errors import UsageError

_COUNTS: Final = frozenset(("sms", "memory_bytes", "l2_bytes", "pcie_generation"))
_RATES: Final = frozenset(("dram_bytes_per_s", "clock_hz", "link_bytes_per_s"))
_TEXTS: Final = frozenset(("name", "architecture", "source"))
_TABLES: Final = frozenset(("flops_per_s", "achievable"))
_KEYS: Final = _COUNTS | _RATES | _TEXTS | _TABLES | {"aliases", "compute_capability"}
_ARITHMETIC: Final = re.compile(r"(?:tensor|vector)\.[a-z]+\d+")
_OTHERS: Final = frozenset(
    ("dram", "l2", "special", "link.peer", "link.host", "kernel_floor", "kernel_gap", "launch_call")
)
_RESOURCE_OF: Final = {"dram_bytes_per_s": "dram", "link_bytes_per_s": "link.peer"}


def default_path() -> Path:
    """Where the user's rows lie unless another file is given."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "torch-diagnose" / "devices.toml"


def user_rows(path: str | os.PathLike[str] | None = None) -> tuple[DeviceSpec, ...]:
    """The rows of a file, by default of ``default_path``, which need not exist.

    Raises:
        UsageError: The file cannot be read, or holds what is no row.
    """
    file = default_path() if path is None else Path(path)
    try:
        changed = file.stat().st_mtime_ns
    except OSError as error:
        if path is None:
            return ()
        raise UsageError(f"{file}: cannot be read ({error.strerror or error})") from error
    return _read(file, changed)


@lru_cache(maxsize=8)
def _read(file: Path, changed: int) -> tuple[DeviceSpec, ...]:
    del changed  # part of the cache's key only
    import tomllib  # slow to import, and most people have no rows of their own

    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{file}: is no TOML file of devices ({error})") from error
    tables = found.get("device", [])
    if set(found) - {"device"} or not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise UsageError(f"{file}: holds [[device]] tables and nothing else")
    rows = [_row(table, f"{file}: device {number}") for number, table in enumerate(tables, 1)]
    names = [name.casefold() for row in rows for name in row.names]
    if len(set(names)) < len(names):
        raise UsageError(f"{file}: two rows have one name")
    return tuple(rows)


def _row(table: Mapping[str, Any], where: str) -> DeviceSpec:
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise UsageError(f"{where}: {unknown[0]!r} is none of {', '.join(sorted(_KEYS))}")
    name = table.get("name")
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{where}: has no name")
    where = f"{where} ({name[:60]!r})"
    given: dict[str, Any] = {key: _text(table[key], where, key) for key in _TEXTS & set(table)}
    given |= {key: round(_positive(table[key], where, key)) for key in _COUNTS & set(table)}
    given |= {key: _positive(table[key], where, key) for key in _RATES & set(table)}
    given |= {"aliases": _aliases(table["aliases"], where)} if "aliases" in table else {}
    if "compute_capability" in table:
        given["compute_capability"] = _capability(table["compute_capability"], where)
    rates = _rates(table.get("flops_per_s", {}), where, "flops_per_s")
    reached = _rates(table.get("achievable", {}), where, "achievable")
    stated = {resource: given[key] for key, resource in _RESOURCE_OF.items() if key in given} | rates | reached
    base = next((row for row in DEVICES if name.casefold() in {each.casefold() for each in row.names}), None)
    return _merged(base, given, rates, stated)


def _merged(
    base: DeviceSpec | None, given: Mapping[str, Any], rates: Mapping[str, float], stated: Mapping[str, float]
) -> DeviceSpec:
    """``given`` in place of what the table says; where it says nothing, all else is unknown."""
    start = base if base is not None else _unknown(given["name"])
    return replace(
        start,
        **{"source": "the user's device file", **given, "name": start.name},
        flops_per_s={**start.flops_per_s, **rates},
        intervals={key: value for key, value in start.intervals.items() if key not in stated},
        stated=dict(stated),
    )


def _unknown(name: str) -> DeviceSpec:
    blank: dict[str, Any] = dict.fromkeys(DeviceSpec.__struct_fields__)
    vendor = next((vendor for vendor in ("AMD", "Intel") if name.startswith(vendor)), "NVIDIA")
    return DeviceSpec(
        **blank
        | {"name": name, "aliases": (), "vendor": vendor, "architecture": "", "flops_per_s": {}, "intervals": {}}
        | {"source": "", "stated": {}}
    )


def _text(value: object, where: str, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {key} is no text")
    return value


def _positive(value: object, where: str, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise UsageError(f"{where}: {key} is no positive number")
    return float(value)


def _aliases(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: aliases is no list of names")
    return tuple(_text(each, where, "aliases") for each in value)


def _capability(value: object, where: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(type(each) is int and each >= 0 for each in value):
        raise UsageError(f"{where}: compute_capability is no pair like [9, 0]")
    return value[0], value[1]


def _rates(value: object, where: str, key: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {key} is no table of resource and rate")
    for resource in value:
        is_known = _ARITHMETIC.fullmatch(resource) or (key == "achievable" and resource in _OTHERS)
        if not is_known:
            raise UsageError(f"{where}: {key}: {resource!r} is no resource (as in tensor.bfloat16)")
    return {resource: _positive(rate, where, f"{key}.{resource}") for resource, rate in value.items()}
