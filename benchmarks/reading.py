"""What reading a trace costs, beside `json.load` of the same file: whole processes, peak memory.

    python benchmarks/reading.py [--repeat N] [TRACE...]

Prints one row a file: medians of the time by the clock, and the least time of processors, which other programs on the
machine disturb less; the marks are held against the latter. Without arguments it takes the two traces of DESIGN
section 5 from DIAGNOSE_TRACES (default ../shared/traces).
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("v100_resnet_ddp_rank0", "mi300x_vllm_decode_graph_capture")
PROGRAMS = {
    "bare": ["-c", "import numpy"],
    "json.load": ["-c", "import gzip, json, sys; json.load(gzip.open(sys.argv[1]))"],
    "diagnose report": ["-m", "diagnose", "report"],
}


class Cost(NamedTuple):
    """Of a whole process: seconds by the clock, seconds of processors, peak megabytes."""

    wall: float
    busy: float
    memory: float


def run(program: list[str], trace: Path) -> Cost:
    """Runs one process to its end."""
    # An installed program has its bytecode; without this, a shell that forbids writing it would time the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *program, str(trace)], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    took = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, program)
    return Cost(took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def measure(trace: Path, repeat: int) -> dict[str, Cost]:
    """Median wall and memory, least processor time, by program; they take turns, so that noise meets all alike."""
    runs: dict[str, list[Cost]] = {name: [] for name in PROGRAMS}
    for program in PROGRAMS.values():
        run(program, trace)  # warm: bytecode written, file cached
    for _ in range(repeat):
        for name, program in PROGRAMS.items():
            runs[name].append(run(program, trace))
    return {
        name: Cost(
            statistics.median(one.wall for one in found),
            min(one.busy for one in found),
            statistics.median(one.memory for one in found),
        )
        for name, found in runs.items()
    }


def said(is_met: bool) -> str:
    """A mark as a word."""
    return "met" if is_met else "missed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="*", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    folder = Path(os.environ.get("DIAGNOSE_TRACES", ROOT.parent / "shared" / "traces"))
    traces = options.traces or [path for name in NAMES if (path := folder / f"{name}.json.gz").exists()]
    if not traces:
        print(f"no traces: name some, or set DIAGNOSE_TRACES (looked in {folder})", file=sys.stderr)
        return 2
    print(
        f"{'trace':36} {'JSON':>8} {'json.load: wall':>16} {'CPU':>7} {'report: wall':>13} {'CPU':>7} {'ratio':>6}"
        "   marks"
    )
    for trace in traces:
        size = len(gzip.decompress(trace.read_bytes())) / 1e6
        found = measure(trace, options.repeat)
        load, report = found["json.load"], found["diagnose report"]
        memory = (report.memory - found["bare"].memory) * 1.048576
        final = 0.25 + load.busy / 2
        print(
            f"{trace.name.removesuffix('.json.gz'):36} {size:5.1f} MB {load.wall:14.2f} s {load.busy:5.2f} s "
            f"{report.wall:11.2f} s {report.busy:5.2f} s {report.busy / load.busy:6.2f}   "
            f"first {said(report.busy <= load.busy)} ({load.busy:.2f} s), final {said(report.busy <= final)} "
            f"({final:.2f} s); {memory:.0f} MB: first {said(memory <= 4.5 * size + 100)} ({4.5 * size + 100:.0f}), "
            f"final {said(memory <= 2.5 * size + 100)} ({2.5 * size + 100:.0f})",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
