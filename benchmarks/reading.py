"""What reading a trace costs, beside `json.load` of the same file: whole processes, medians, peak memory.

    python benchmarks/reading.py [--repeat N] [TRACE...]

Prints one row a file. Without arguments it takes the two traces of DESIGN section 5 from DIAGNOSE_TRACES (default
../shared/traces).
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

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("v100_resnet_ddp_rank0", "mi300x_vllm_decode_graph_capture")
PROGRAMS = {
    "bare": ["-c", "import numpy"],
    "json.load": ["-c", "import gzip, json, sys; json.load(gzip.open(sys.argv[1]))"],
    "diagnose report": ["-m", "diagnose", "report"],
}


def run(program: list[str], trace: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of one whole process."""
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
    return took, used.ru_maxrss / 1024


def measure(trace: Path, repeat: int) -> dict[str, tuple[float, float]]:
    """Medians by program; the programs take turns, so that noise meets all alike."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    for program in PROGRAMS.values():
        run(program, trace)  # warm: bytecode written, file cached
    for _ in range(repeat):
        for name, program in PROGRAMS.items():
            runs[name].append(run(program, trace))
    return {
        name: (statistics.median(t for t, _ in found), statistics.median(m for _, m in found))
        for name, found in runs.items()
    }


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
    print(f"{'trace':36} {'JSON':>8} {'json.load':>10} {'report':>8} {'ratio':>6}   first / final mark; memory")
    for trace in traces:
        size = len(gzip.decompress(trace.read_bytes())) / 1e6
        found = measure(trace, options.repeat)
        load, report = found["json.load"][0], found["diagnose report"][0]
        memory = found["diagnose report"][1] - found["bare"][1]
        final = 0.25 + load / 2
        print(
            f"{trace.name.removesuffix('.json.gz'):36} {size:5.1f} MB {load:8.2f} s {report:6.2f} s "
            f"{report / load:6.2f}   {'met' if report <= load else 'missed'} ({load:.2f} s) / "
            f"{'met' if report <= final else 'missed'} ({final:.2f} s); "
            f"{memory:.0f} MB of {4.5 * size + 100:.0f} / {2.5 * size + 100:.0f} MB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
