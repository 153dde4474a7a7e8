"""Records every workload: a trace of a few steps, plain times before and after, what recording cost.

    python -m benchmarks.gpu.record --out DIR [--device cpu] [--quick] [--only NAME ...]

Writes ``record.json`` and ``traces/NAME.json.gz``. What an earlier run left there is not run again, so that a run that
ran out of time can be continued. Where the package cannot be imported, torch's own profiler records one step, and
``python -m benchmarks.gpu.compare`` can read it elsewhere.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.cut import TooLargeError, cut
from benchmarks.gpu.environment import Options, chosen, each, kept_rows, options_of, say, why_unusable, write_result
from benchmarks.gpu.steps import Run, median, plain_ns, record_bare, record_ours, repeats, warm_up
from benchmarks.gpu.workloads import QUICK, WORKLOADS

_STEPS = 3
_MOST_BYTES = 2_000_000
"""Of one trace as it is kept; goldens are cut further."""


def run(options: Options) -> dict[str, Any]:
    """Records the workloads that are wanted."""
    reason = why_unusable()
    how = "torch.profiler alone" if reason else "diagnose.live.session.measured"
    if reason:
        say(f"record: {reason}: one bare step each")
    (options.out / "traces").mkdir(parents=True, exist_ok=True)
    names = chosen(WORKLOADS, options, QUICK)
    return each(
        names,
        options,
        lambda name: record_one(name, options, is_bare=reason is not None),
        lambda rows: write_result(options, "record", {"how": how, "steps": rows}),
        kept_rows(options, "record"),
    )


def record_one(name: str, options: Options, *, is_bare: bool) -> dict[str, Any]:
    """One workload's times in ns and its trace."""
    torch.manual_seed(0)
    workload = WORKLOADS[name]
    unavailable = workload.unavailable(options.device)
    if unavailable:
        return {"unavailable": unavailable}
    step = workload.make(options.device, options.is_small)
    warm_up(step.run, options.device)
    before = plain_ns(step.run, options.device, repeats(options))
    with tempfile.TemporaryDirectory(prefix="diagnose-gpu-") as folder:
        path = Path(folder) / "trace.json"
        if is_bare:
            record_bare(step.run, options.device, path)
        else:
            record_ours(step.run, path, _STEPS)
        content = path.read_bytes()
    row: dict[str, Any] = {
        "plain_ns": median(before),
        "plain_after_ns": median(plain_ns(step.run, options.device, repeats(options))),
        "plain_all_ns": before,
        "closed_form_flops": None if step.flops is None else dict(step.flops),
        "closed_form_bytes": step.bytes,
        "built_to_be": step.bound,
        "recorded_steps": 1 if is_bare else _STEPS,
    }
    if step.flops and not name.endswith(("_compiled", "_graph")):
        row["torch_counter_flops"] = torch_counter(step.run)
    return row | _kept(content, options.out / "traces" / f"{name}.json.gz")


_TORCH_FAMILIES = {"convolution": "convolution", "attention": "attention", "mm": "matmul"}


def torch_counter(run: Run) -> dict[str, int]:
    """FLOPs of one step by family, as torch's own counter has them."""
    from torch.utils.flop_counter import FlopCounterMode

    found: Counter[str] = Counter()
    with FlopCounterMode(display=False) as mode:
        run()
    for op, flops in mode.get_flop_counts().get("Global", {}).items():
        name = str(op)
        found[next((family for part, family in _TORCH_FAMILIES.items() if part in name), name)] += flops
    return dict(found)


def _kept(content: bytes, path: Path) -> dict[str, Any]:
    try:
        packed = cut(content, _MOST_BYTES)
    except TooLargeError as error:
        return {"trace": None, "why_no_trace": str(error)}
    path.write_bytes(packed)
    json.loads(gzip.decompress(packed))  # a trace that cannot be read again is found out here, not on another machine
    return {"trace": path.name, "trace_bytes": len(packed)}


def main() -> int:
    run(options_of(__doc__ or ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
