"""Hardware counters as Nsight Compute writes them with ``--csv``. The only module that knows its spellings.

Both pages are read: ``raw`` (a row a kernel, a column a metric, a second row with the units) and ``details`` (a row a
metric). Values come out in bytes, nanoseconds, percent and counts, whatever unit each was printed in. The loops are
over lines of that file: counting a kernel takes milliseconds, so such a file is short.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.errors import UsageError

Floats = NDArray[np.float64]

DURATION: Final = "gpu__time_duration.sum"
DRAM_READ: Final = "dram__bytes_read.sum"
DRAM_WRITTEN: Final = "dram__bytes_write.sum"
DRAM: Final = "dram__bytes.sum"
DRAM_RATE: Final = "dram__bytes.sum.per_second"
L2: Final = "lts__t_bytes.sum"
SM_THROUGHPUT: Final = "sm__throughput.avg.pct_of_peak_sustained_elapsed"
MEMORY_THROUGHPUT: Final = "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed"
DRAM_THROUGHPUT: Final = "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed"

_LABELS: Final[Mapping[tuple[str, bool], str]] = {
    ("Duration", False): DURATION,
    ("Compute (SM) Throughput", False): SM_THROUGHPUT,
    ("SM [%]", False): SM_THROUGHPUT,
    ("Memory Throughput", False): MEMORY_THROUGHPUT,
    ("Memory [%]", False): MEMORY_THROUGHPUT,
    ("DRAM Throughput", False): DRAM_THROUGHPUT,
    ("Memory Throughput", True): DRAM_RATE,
}
"""Metrics by their label on the details page, and whether the value is a rate: two have one label."""

_FACTS: Final = frozenset(
    (
        "ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Kernel Time", "Context", "Stream",
        "Block Size", "Grid Size", "Device", "CC", "Section Name",
    )
)  # fmt: skip
"""Columns of the raw page that are no metric."""

_PREFIXES: Final = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_TIMES_NS: Final = {
    "ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9, "nsecond": 1.0, "usecond": 1e3, "msecond": 1e6, "second": 1e9,
}  # fmt: skip
_BYTES: Final = re.compile(r"([KMGTP]?)bytes?")
_REFUSED: Final = "ERR_NVGPUCTRPERM"
_HEADER: Final = re.compile(r'^"?ID"?,')
_DECIMAL_COMMA: Final = re.compile(r"^\d[\d.]*,(\d{1,2}|\d{4,})$")
_CSV_FIELD_LIMIT: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Counters:
    """What was counted, a row a kernel launch, in the order of launches.

    Attributes:
        names: Kernels, as printed.
        grid, block: [n, 3], -1 where not printed.
        process, device: Numbers, -1 where not printed.
        metrics: Nsight Compute's own metric name to values [n]: bytes, ns, percent or counts; nan where not counted.
        notes: What was odd about the file.
    """

    names: tuple[str, ...]
    grid: NDArray[np.int64]
    block: NDArray[np.int64]
    process: NDArray[np.int64]
    device: NDArray[np.int64]
    metrics: Mapping[str, Floats]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def metric(self, name: str) -> Floats:
        """A metric's values [n]; all nan where the file does not have it."""
        return self.metrics.get(name, np.full(len(self.names), np.nan))

    def dram_bytes(self) -> Floats:
        """Traffic of the device's memory, read and written [n]; from a rate and a duration if that is all there is."""
        both = self.metric(DRAM_READ) + self.metric(DRAM_WRITTEN)
        rate = self.metric(DRAM_RATE) * self.metric(DURATION) / 1e9
        return np.where(np.isfinite(both), both, np.where(np.isfinite(self.metric(DRAM)), self.metric(DRAM), rate))


def parse_counters(text: str, label: str = "the counters") -> Counters:
    """Reads what ``ncu --csv`` printed, its own messages and the program's output among it.

    Args:
        text: The file's content.
        label: What to call the file in messages.

    Raises:
        UsageError: It is no such output, or holds no kernel; where the counters were refused, that is said.
    """
    rows: list[_Row] = []
    skipped = 0
    try:
        for header, lines in _tables(text):
            found, bad = _kernels(header, lines)
            rows += found
            skipped += bad
    except csv.Error as error:
        raise UsageError(f"{label}: cannot be read as CSV: {error}") from error
    if not rows:
        if _REFUSED in text:
            raise UsageError(
                f"{label}: Nsight Compute was refused the counters ({_REFUSED}): ask for the permission, or run as root"
            )
        raise UsageError(f"{label}: holds no kernel counted by Nsight Compute (ncu --csv --page raw)")
    return _columns(rows, skipped)


@dataclass(slots=True)
class _Row:
    facts: dict[str, str]
    values: dict[str, str]
    units: dict[str, str]


def _tables(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Each header with the lines that belong to it; several runs may stand one after the other."""
    header: list[str] | None = None
    lines: list[str] = []
    for line in text.removeprefix("\ufeff").splitlines():
        if _HEADER.match(line):
            if header is not None:
                yield header, lines
            header, lines = _csv([line])[0], []
        elif header is not None and line and not line.startswith("=="):
            lines.append(line)
    if header is not None:
        yield header, lines


def _csv(lines: Sequence[str]) -> list[list[str]]:
    # A kernel's name may be longer than csv's own limit, which is the process's: it is put back.
    before = csv.field_size_limit(_CSV_FIELD_LIMIT)
    try:
        # Line by line: no field has a line break, and a quote that the program printed must not swallow what follows.
        return [next(csv.reader([line]), []) for line in lines]
    finally:
        csv.field_size_limit(before)


def _kernels(header: list[str], lines: list[str]) -> tuple[list[_Row], int]:
    """The kernels of one table, and how many rows had another width (lines that the program itself printed)."""
    whole = [row for row in _csv(lines) if len(row) == len(header)]
    skipped = len(lines) - len(whole)
    records = [dict(zip(header, row, strict=True)) for row in whole]
    return (_from_details(records) if "Metric Name" in header else _from_raw(records)), skipped


def _from_raw(records: Sequence[dict[str, str]]) -> list[_Row]:
    units: dict[str, str] = {}
    found = []
    for record in records:
        if not record.get("ID"):
            units = record
            continue
        values = {name: value for name, value in record.items() if name not in _FACTS}
        found.append(_Row(record, values, units))
    return found


def _from_details(records: Sequence[dict[str, str]]) -> list[_Row]:
    found: dict[tuple[str | None, str | None], _Row] = {}
    for record in records:
        key = (record.get("Process ID"), record["ID"])
        row = found.setdefault(key, _Row(record, {}, {}))
        label, unit = record["Metric Name"], record.get("Metric Unit", "")
        name = _LABELS.get((label, "/" in unit), label)
        if name:
            row.values[name] = record.get("Metric Value", "")
            row.units[name] = unit
    return list(found.values())


def _columns(rows: list[_Row], skipped: int) -> Counters:
    metrics: dict[str, Floats] = {}
    has_decimal_comma = any(_DECIMAL_COMMA.match(value) for row in rows for value in row.values.values())
    for index, row in enumerate(rows):
        for name, text in row.values.items():
            value = _number(text, has_decimal_comma=has_decimal_comma)
            scale = _scale(row.units.get(name, ""))
            if value is None or scale is None:
                continue
            column = metrics.setdefault(name, np.full(len(rows), np.nan))
            column[index] = value * scale
    notes = (f"counters: {skipped} lines are no row of the table",) if skipped else ()
    return Counters(
        names=tuple(row.facts.get("Kernel Name", "") for row in rows),
        grid=np.array([_extent(row.facts.get("Grid Size", "")) for row in rows], np.int64),
        block=np.array([_extent(row.facts.get("Block Size", "")) for row in rows], np.int64),
        process=np.array([_whole(row.facts.get("Process ID", "")) for row in rows], np.int64),
        device=np.array([_whole(row.facts.get("Device", "")) for row in rows], np.int64),
        metrics=metrics,
        notes=notes,
    )


def _number(text: str, *, has_decimal_comma: bool) -> float | None:
    """A value as printed, with the separators of the machine's language; None for ``n/a``, text, and less than 0."""
    text = text.strip()
    text = text.replace(".", "").replace(",", ".") if has_decimal_comma else text.replace(",", "")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and value >= 0 else None


def _scale(unit: str) -> float | None:
    """What a value of this unit is multiplied with to be in bytes, ns, or as it is; None for an unknown time unit."""
    over, _, under = unit.strip().partition("/")
    if under:
        is_per_second = under in ("s", "second")
        found = _scale(over)
        if found is None or is_per_second:
            return found
        return found / _TIMES_NS[under] * 1e9 if under in _TIMES_NS else found
    size = _BYTES.fullmatch(over)
    if size:
        return _PREFIXES[size.group(1)]
    if over in _TIMES_NS:
        return _TIMES_NS[over]
    return None if over.endswith("second") else 1.0


def _extent(text: str) -> tuple[int, int, int]:
    """``(128, 1, 1)`` -> its numbers."""
    numbers = [int(each) for each in re.findall(r"\d{1,12}", text)[:3]]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else (-1, -1, -1)


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,15}", text) else -1
