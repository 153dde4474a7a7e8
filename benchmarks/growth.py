"""How reading and analysing grow with a recording: seconds and memory an event, from 60 thousand events to 5 million.

    python benchmarks/growth.py [--full] [--repeat N] [--ranks N]

Writes synthetic recordings of training steps (ops in ops, launches, kernels, arrows), reports each in a process of its
own, and prints a row a size. Linear means that the last column stays near 1: seconds an event beside those of the size
before. Then the ranks: that many copies of a recording in one report, beside one alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = (60_000, 250_000, 1_000_000)
LARGEST = 5_000_000
RANK_EVENTS = 250_000
BLOCKS_A_STEP = 400
BLOCK_NS = 60_000
KERNELS = (
    ("ampere_sgemm_128x64_tn", 31_000),
    ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>", 9_000),
    ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512, true, 1, true>", 14_000),
)
HEADER = """{"schemaVersion": 1, "record_shapes": 1,
"deviceProperties": [{"id": 0, "name": "NVIDIA A100-SXM4-80GB", "totalGlobalMem": 85100000000,
"computeMajor": 8, "computeMinor": 0, "numSms": 108}],
"distributedInfo": {"backend": "nccl", "rank": %d, "world_size": 8},
"traceEvents": [
"""
STEP = (
    '{"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#%d", "pid": 1, "tid": 1, "ts": %s, "dur": %s, '
    '"args": {}}'
)
SHAPES = '"Input Dims": [[64, 1024], [1024, 1024]], "Input type": ["float", "float"], "Concrete Inputs": ["", ""]'
BLOCK = (
    '{"ph": "X", "cat": "cpu_op", "name": "aten::linear", "pid": 1, "tid": 1, "ts": %(linear)s, "dur": 50.125, '
    '"args": {"External id": %(outer)d, ' + SHAPES + "}},\n"
    '{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": %(mm)s, "dur": 40.5, '
    '"args": {"External id": %(inner)d, ' + SHAPES + "}},\n"
    '{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1, "ts": %(call)s, "dur": 6.25, '
    '"args": {"External id": %(inner)d, "correlation": %(inner)d}},\n'
    '{"ph": "s", "id": %(inner)d, "pid": 1, "tid": 1, "ts": %(call)s, "cat": "ac2g", "name": "ac2g"},\n'
    '{"ph": "X", "cat": "kernel", "name": "%(name)s", "pid": 0, "tid": 7, "ts": %(kernel)s, "dur": %(length)s, '
    '"args": {"External id": %(inner)d, "correlation": %(inner)d, "device": 0, "stream": 7, '
    '"grid": [16, 8, 1], "block": [128, 1, 1], "registers per thread": 122, "shared memory": 16384}},\n'
    '{"ph": "f", "id": %(inner)d, "pid": 0, "tid": 7, "ts": %(kernel)s, "cat": "ac2g", "name": "ac2g", "bp": "e"}'
)
EVENTS_A_BLOCK = 6


def microseconds(ns: int) -> str:
    """As Kineto writes it."""
    return f"{ns // 1000}.{ns % 1000:03d}"


def block(number: int, begin_ns: int) -> str:
    """Two ops, a launch, its kernel and the arrow between."""
    name, length = KERNELS[number % len(KERNELS)]
    return BLOCK % {
        "linear": microseconds(begin_ns),
        "mm": microseconds(begin_ns + 4_000),
        "call": microseconds(begin_ns + 12_000 + number % 7 * 311),
        "kernel": microseconds(begin_ns + 25_000 + number % 5 * 407),
        "length": microseconds(length + number % 11 * 53),
        "name": name,
        "outer": 2 * number + 1,
        "inner": 2 * number + 2,
    }


def write(path: Path, events: int, rank: int = 0) -> None:
    """A recording of about so many events."""
    epoch = 1_712_195_495_519_689_251
    count = events // EVENTS_A_BLOCK
    with path.open("w") as file:
        file.write(HEADER % rank)
        for first in range(0, count, BLOCKS_A_STEP):
            begin = epoch + first * BLOCK_NS
            blocks = range(first, min(count, first + BLOCKS_A_STEP))
            step = STEP % (first // BLOCKS_A_STEP, microseconds(begin), microseconds(len(blocks) * BLOCK_NS - 1_000))
            rows = [block(number, epoch + number * BLOCK_NS) for number in blocks]
            file.write((",\n" if first else "") + ",\n".join([step, *rows]))
        file.write("\n]}\n")


def run(program: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of processors, and peak megabytes of one whole process and its children."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, *program], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    took = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, program)
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def medians(program: list[str], repeat: int) -> tuple[float, float, float]:
    """Of each of what ``run`` gives."""
    seconds, busy, memory = zip(*(run(program) for _ in range(repeat)), strict=True)
    return statistics.median(seconds), statistics.median(busy), statistics.median(memory)


def sizes(folder: Path, counts: list[int], repeat: int) -> None:
    """One row a size."""
    _, _, bare = run(["-c", "import numpy"])
    print(
        f"{'events':>9} {'JSON':>9} {'wall':>8} {'CPU':>8} {'us/event':>9} {'memory':>9} {'x JSON':>7} {'B/event':>8}"
        "  growth"
    )
    before = None
    for count in counts:
        path = folder / f"{count}.json"
        write(path, count)
        size = path.stat().st_size / 1e6
        wall, busy, memory = medians(["-m", "diagnose", "report", str(path)], repeat)
        path.unlink()
        used = (memory - bare) * 1.048576
        growth = "" if before is None else f"{busy / count / before:.2f}"
        before = busy / count
        print(
            f"{count:>9} {size:6.1f} MB {wall:6.2f} s {busy:6.2f} s {1e6 * busy / count:>9.2f} {used:6.0f} MB "
            f"{used / size:>7.2f} {1e6 * used / count:>8.0f}  {growth}",
            flush=True,
        )


def ranks(folder: Path, count: int, repeat: int) -> None:
    """Many recordings in one report, beside one of them alone."""
    paths = [folder / f"rank{rank}.json" for rank in range(count)]
    write(paths[0], RANK_EVENTS)
    one, one_busy, _ = medians(["-m", "diagnose", "report", str(paths[0])], repeat)
    for rank, path in enumerate(paths):
        write(path, RANK_EVENTS, rank)
    many, many_busy, _ = medians(["-m", "diagnose", "report", *map(str, paths)], repeat)
    cores = len(os.sched_getaffinity(0))
    print(
        f"{count} ranks of {RANK_EVENTS} events on {cores} cores: {many:.2f} s wall, {many_busy:.2f} s CPU; one alone "
        f"{one:.2f} s, {one_busy:.2f} s CPU. A rank costs {many / count:.2f} s, {many / count / one:.2f} of one alone."
    )


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--full", action="store_true", help=f"{LARGEST} events too: 1.1 GB of JSON, minutes")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=8, help="how many recordings in one report; 0 for none")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="growth"))
    try:
        sizes(folder, [*SIZES, *([LARGEST] if options.full else [])], options.repeat)
        if options.ranks:
            ranks(folder, options.ranks, options.repeat)
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
