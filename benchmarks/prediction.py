"""What `what_if` predicts on this CPU for another batch or dtype, beside what is measured then.

    python benchmarks/prediction.py [--out FILE]

Calibrates first (20 s). Each model is timed without the profiler and recorded at one batch; its predictions for other
batches and for bfloat16 are scaled to the unrecorded time and set beside the times of runs that really are so.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
# What is measured here is for this run alone.
os.environ["TORCH_DIAGNOSE_CACHE"] = tempfile.mkdtemp(prefix="prediction-")

import torch  # noqa: E402 - the cache is named above
from torch import nn  # noqa: E402

import diagnose  # noqa: E402

REPEAT = 15
FACTORS = (0.5, 2, 4, 8)


@dataclass(frozen=True)
class Model:
    """A forward pass: how to build it, its input for a batch, and the batch that is recorded."""

    name: str
    build: Callable[[], nn.Module]
    sample: Callable[[int], torch.Tensor]
    batch: int


MODELS = (
    Model(
        "MLP 1024-4096-1024, batch 128 (compute)",
        lambda: nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 1024)),
        lambda batch: torch.randn(batch, 1024),
        128,
    ),
    Model(
        "linear 4096-4096, batch 2 (weights)",
        lambda: nn.Sequential(nn.Linear(4096, 4096), nn.Linear(4096, 4096)),
        lambda batch: torch.randn(batch, 4096),
        2,
    ),
    Model(
        "20 layers of 64 (overhead)",
        lambda: nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(20))),
        lambda batch: torch.randn(batch, 64),
        8,
    ),
    Model(
        "transformer layer d=512, 4 x 128 tokens",
        lambda: nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True),
        lambda batch: torch.randn(batch, 128, 512),
        4,
    ),
    Model(
        "pointwise chain of 6 over 4 MiB (memory)",
        lambda: nn.Sequential(nn.Tanh(), nn.ReLU(), nn.Hardtanh(), nn.LeakyReLU(), nn.ReLU6(), nn.Hardswish()),
        lambda batch: torch.randn(batch, 1 << 18),
        4,
    ),
)


def timed_ns(model: nn.Module, x: torch.Tensor) -> float:
    """Median of unrecorded runs."""
    with torch.inference_mode():
        for _ in range(3):
            model(x)
        times = []
        for _ in range(REPEAT):
            began = time.perf_counter_ns()
            model(x)
            times.append(time.perf_counter_ns() - began)
    return statistics.median(times)


def compared(model: Model) -> list[tuple[str, str, float, tuple[float, float, float], float]]:
    """A row a question: model, change, unrecorded time before, predicted low, mid and high, measured; in ns."""
    network = model.build().eval()
    x = model.sample(model.batch)
    with torch.inference_mode():
        report = diagnose.measure(network, (x,), repeat=REPEAT, lines=False)
    before = timed_ns(network, x)
    rows = []
    for factor in FACTORS:
        if model.batch * factor < 1:
            continue
        measured = timed_ns(network, model.sample(int(model.batch * factor)))
        rows.append((f"batch x{factor:g}", report.what_if(batch=factor), measured))
    narrow = model.build().eval().to(torch.bfloat16)
    rows.append(("bfloat16", report.what_if(dtype="bfloat16"), timed_ns(narrow, x.to(torch.bfloat16))))
    scale = before / rows[0][1].tables.step_ns
    found = []
    for change, prediction, measured in rows:
        step = prediction.together.step_ns
        found.append((model.name, change, before, (scale * step.low, scale * step.mid, scale * step.high), measured))
    return found


def _ms(ns: float) -> str:
    return f"{ns / 1e6:.3f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the table there too")
    out = parser.parse_args().out
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a neighbour on the second core would stretch every op by a time slice
    diagnose.calibrate(quick=True, device="cpu")
    rows = [row for model in MODELS for row in compared(model)]
    lines = [
        f"# Predictions on a CPU, {time.strftime('%Y-%m-%d')}",
        "",
        f"benchmarks/prediction.py on {platform.machine()}, one thread, torch {torch.__version__};",
        f"times without the profiler, medians of {REPEAT}.",
        "",
        "| model | what if | before | predicted (from, to) | measured | error | inside |",
        "|---|---|---|---|---|---|---|",
    ]
    errors = []
    for name, change, before, (low, mid, high), measured in rows:
        error = mid / measured - 1
        errors.append((change.startswith("batch"), abs(error)))
        inside = "yes" if low <= measured <= high else "no"
        cells = [
            name, change, _ms(before), f"{_ms(mid)} ({_ms(low)}, {_ms(high)})", _ms(measured), f"{error:+.0%}", inside,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    for is_batch, what in ((True, "batch"), (False, "dtype")):
        chosen = [error for which, error in errors if which == is_batch]
        lines += ["", f"Median error, {what}: {statistics.median(chosen):.0%}; largest {max(chosen):.0%}."]
    text = "\n".join(lines) + "\n"
    print(text)
    if out is not None:
        out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
