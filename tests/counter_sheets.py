"""Synthetic output of ``ncu --csv``, both pages, spelled as Nsight Compute spells it. No counter in it was measured.

sheet = Sheet()
sheet.kernel("relu_kernel", read=4_000, written=4_000)
sheet.raw()
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

RAW = {
    "dram__bytes_read.sum": "byte", "dram__bytes_write.sum": "byte", "gpu__time_duration.sum": "ns",
    "lts__t_bytes.sum": "byte", "sm__throughput.avg.pct_of_peak_sustained_elapsed": "%",
    "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed": "%",
}  # fmt: skip
HEAD = ("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Block Size", "Grid Size",
        "Device", "CC")  # fmt: skip


@dataclass
class Launch:
    name: str
    values: dict[str, str]
    grid: Sequence[int]
    block: Sequence[int]
    process: int
    device: int


@dataclass
class Sheet:
    """Counted launches in order; ``units`` changes what a metric is printed in, for all of them."""

    launches: list[Launch] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=lambda: dict(RAW))

    def kernel(  # everything that a row may say
        self, name: str, *, read: float | str | None = None, written: float | str | None = None,
        ns: float | str | None = None, l2: float | str | None = None, sm: float | None = None,
        memory: float | None = None, grid: Sequence[int] = (264, 1, 1), block: Sequence[int] = (256, 1, 1),
        process: int = 4242, device: int = 0,
    ) -> None:  # fmt: skip
        given = dict(zip(RAW, (read, written, ns, l2, sm, memory), strict=True))
        values = {
            key: each if isinstance(each, str) else f"{each:,}" for key, each in given.items() if each is not None
        }
        self.launches.append(Launch(name, values, grid, block, process, device))

    def _facts(self, index: int) -> list[str]:
        each = self.launches[index]
        place = [str(index), str(each.process), "python3.12", "127.0.0.1", each.name, "1", "7"]
        return [*place, _extent(each.block), _extent(each.grid), str(each.device), "9.0"]

    def raw(self) -> str:
        """The raw page, between messages of the tool and of the program."""
        metrics = [name for name in self.units if any(name in each.values for each in self.launches)]
        rows = [[*HEAD, *metrics], [""] * len(HEAD) + [self.units[name] for name in metrics]]
        rows += [
            self._facts(index) + [each.values.get(name, "n/a") for name in metrics]
            for index, each in enumerate(self.launches)
        ]
        return "==PROF== Connected to process 4242\nloss 0.5\n" + _written(rows) + "==PROF== Disconnected\n"

    def details(self) -> str:
        """The details page with ``--metrics``: a row a metric."""
        rows = [[*HEAD, "Section Name", "Metric Name", "Metric Unit", "Metric Value"]]
        rows += [
            [*self._facts(index), "Command line profiler metrics", name, self.units[name], value]
            for index, each in enumerate(self.launches)
            for name, value in each.values.items()
        ]
        return "==PROF== Connected to process 4242\n" + _written(rows)


def _extent(numbers: Sequence[int]) -> str:
    return f"({', '.join(map(str, numbers))})"


def _written(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue()
