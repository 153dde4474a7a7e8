"""Counts every workload's kernels with Nsight Compute: DRAM and L2 bytes, operations by pipe, throughput, duration.

    python -m benchmarks.gpu.count --out DIR [--quick] [--only NAME ...]

Writes ``count.json`` and ``counters/NAME.csv`` (``ncu --csv --page raw``). Caches and clocks are left alone. Where the
counters are refused, that is said once and nothing else is tried; on a CPU only the marked step itself is tried.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.environment import Options, chosen, each, find_ncu, kept_rows, options_of, say, write_result
from benchmarks.gpu.workloads import QUICK, WORKLOADS

METRICS: Final = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "lts__t_bytes.sum",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed",
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__inst_executed_pipe_tensor.sum",
    "sm__inst_executed_pipe_xu.sum",
    "smsp__sass_thread_inst_executed_op_ffma_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_fadd_pred_on.sum",
    "smsp__sass_thread_inst_executed_op_fmul_pred_on.sum",
)
"""One that a device lacks is printed as n/a and costs nothing else. Fewer passes disturb less: no more than needed."""

_REFUSED: Final = re.compile(r"ERR_NVGPUCTRPERM|LibraryNotLoaded|insufficient privileges", re.IGNORECASE)
_ONE_SECONDS: Final = 150.0
_HOST_COLUMNS: Final = ("Process Name", "Host Name")


class RefusedError(RuntimeError):
    """The counters may not be read here; asking for another workload is no use."""


def run(options: Options) -> dict[str, Any]:
    """Counts the workloads that are wanted."""
    names = chosen(WORKLOADS, options, QUICK)
    ncu = find_ncu()
    why = "counters are a GPU's" if options.on_cpu else None if ncu else "Nsight Compute (ncu) is not installed"
    if why:
        say(f"count: {why}; each marked step is run without it")
    (options.out / "counters").mkdir(parents=True, exist_ok=True)
    refused: list[str] = []

    def one(name: str) -> dict[str, Any]:
        unavailable = WORKLOADS[name].unavailable(options.device)
        if unavailable or refused:
            return {"unavailable": unavailable or refused[0]}
        if ncu is None or why:
            return {**_uncounted(name, options), "unavailable": why}
        try:
            return count_one(ncu, name, options)
        except RefusedError as error:
            refused.append(str(error))
            return {"unavailable": str(error)}

    kept = {name: row for name, row in kept_rows(options, "count").items() if "unavailable" not in row}
    return each(names, options, one, lambda rows: write_result(options, "count", _body(rows, refused, why)), kept)


def _body(rows: dict[str, Any], refused: list[str], why: str | None) -> dict[str, Any]:
    return {"metrics": METRICS, "refused": refused[0] if refused else why, "steps": rows}


def command(ncu: str, name: str, options: Options, log: Path) -> list[str]:
    """What is run for one workload."""
    return [
        ncu, "--profile-from-start", "off", "--target-processes", "all", "--cache-control", "none",
        "--clock-control", "none", "--csv", "--page", "raw", "--print-units", "base", "--log-file", str(log),
        "--force-overwrite",
        "--metrics", ",".join(METRICS), *_marked(name, options),
    ]  # fmt: skip


def _marked(name: str, options: Options) -> list[str]:
    small = ["--small"] if options.is_small else []
    return [sys.executable, "-m", "benchmarks.gpu.mark", name, "--device", options.device, *small]


def count_one(ncu: str, name: str, options: Options) -> dict[str, Any]:
    """Counts one workload; raises RefusedError where the device does not let it."""
    log = options.out / "counters" / f"{name}.csv"
    done = subprocess.run(
        command(ncu, name, options, log), capture_output=True, text=True, timeout=_ONE_SECONDS, check=False
    )
    text = log.read_text(errors="replace") if log.is_file() else ""
    said = f"{text}\n{done.stdout}\n{done.stderr}"
    refused = _REFUSED.search(said)
    if refused and '"ID"' not in text:
        log.unlink(missing_ok=True)
        raise RefusedError(f"Nsight Compute was refused the counters ({refused.group()})")
    if '"ID"' not in text:
        log.unlink(missing_ok=True)
        raise RuntimeError(f"ncu ended with {done.returncode}: {_last_line(said)}")
    log.write_text(without_host(text))
    return {"kernels": sum(line.startswith('"') and not line.startswith(('"ID"', '""')) for line in text.splitlines())}


def without_host(text: str) -> str:
    """The table alone, without the names of the machine and its programs."""
    import csv
    import io

    lines = [line for line in text.splitlines() if line.startswith('"')]
    rows = list(csv.reader(lines))
    hidden = [rows[0].index(name) for name in _HOST_COLUMNS if rows and name in rows[0]]
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for index, row in enumerate(rows):
        writer.writerow(["" if index and place in hidden else each for place, each in enumerate(row)])
    return out.getvalue()


def _uncounted(name: str, options: Options) -> dict[str, Any]:
    """The marked step without Nsight Compute: that at least can be tried anywhere."""
    from benchmarks.gpu.steps import mark_for_counters

    mark_for_counters(WORKLOADS[name].make(options.device, options.is_small).run, options.device)
    return {"ran": True}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def main() -> int:
    run(options_of(__doc__ or ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
