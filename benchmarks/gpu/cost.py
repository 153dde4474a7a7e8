"""What recording costs: a step plain, under torch.profiler alone, and under ``diagnose.profile``; ``cost.json``.

    python -m benchmarks.gpu.cost --out DIR [--quick] [--device cpu]

Both recorders have the same options. The three take turns, so that noise meets all alike. Beside the steps' times stand
what leaving the block takes, and the kernels' own times under either recorder.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.environment import Options, chosen, each, options_of, why_unusable, write_result
from benchmarks.gpu.steps import Run, bare_profiler, median, plain_ns, repeats, sync, warm_up
from benchmarks.gpu.workloads import WORKLOADS

LAUNCH_BOUND: Final = ("decode_b1_eager", "train_foreach_bf16")
LARGE: Final = ("prefill_eager", "kernel_gemm_float32", "resnet_eager")


def run(options: Options) -> dict[str, Any]:
    """Costs of the workloads that are wanted."""
    reason = why_unusable()
    if reason:
        raise SystemExit(f"cost: {reason}")
    names = chosen((*LAUNCH_BOUND, *LARGE), options, (LAUNCH_BOUND[0], LARGE[0]))
    return each(
        names,
        options,
        lambda name: cost_of(name, options),
        lambda rows: write_result(options, "cost", {"steps": rows}),
    )


def cost_of(name: str, options: Options) -> dict[str, Any]:
    """Medians in ns of one workload, over turns of the three."""
    step = WORKLOADS[name].make(options.device, options.is_small)
    warm_up(step.run, options.device)
    times = repeats(options)
    plain: list[int] = []
    bare: list[tuple[list[int], int, int]] = []
    ours: list[tuple[list[int], int, int]] = []
    for _ in range(2 if options.is_small else 4):
        plain += plain_ns(step.run, options.device, times)
        bare.append(_under_torch(step.run, options.device, times))
        ours.append(_under_ours(step.run, options.device, times))
    row = {"plain_ns": median(plain)}
    for label, turns in (("torch_profiler", bare), ("diagnose", ours)):
        row[f"{label}_step_ns"] = median([value for steps, _, _ in turns for value in steps])
        row[f"{label}_exit_ns"] = median([leaving for _, leaving, _ in turns])
        row[f"{label}_kernel_ns_a_step"] = median([kernel for _, _, kernel in turns]) / times
    row["more_than_torch_profiler"] = row["diagnose_step_ns"] / row["torch_profiler_step_ns"] - 1
    row["plain_spread"] = statistics.pstdev(plain) / row["plain_ns"]
    return row


def _under_torch(run: Run, device: str, times: int) -> tuple[list[int], int, int]:
    """Steps, leaving the block, and kernel time in all, in ns."""
    with bare_profiler(device) as profiler:
        steps = plain_ns(run, device, times)
        sync(device)
        leaving = time.perf_counter_ns()
    left = time.perf_counter_ns() - leaving
    with tempfile.TemporaryDirectory(prefix="diagnose-gpu-") as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return steps, left, _kernel_ns(path)


def _under_ours(run: Run, device: str, times: int) -> tuple[list[int], int, int]:
    from diagnose.live.session import profile

    with profile() as session:
        steps = plain_ns(run, device, times)
        sync(device)
        leaving = time.perf_counter_ns()
    left = time.perf_counter_ns() - leaving
    with tempfile.TemporaryDirectory(prefix="diagnose-gpu-") as folder:
        path = Path(folder) / "trace.json"
        session.save(path)
        return steps, left, _kernel_ns(path)


def _kernel_ns(path: Path) -> int:
    """Time of all kernels of a recording; on a CPU of all ops' own time."""
    from diagnose.reading import read

    return read(path).document.coverage.kernel_ns


def main() -> int:
    run(options_of(__doc__ or ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
