"""Advice against the clock: a change is made, measured, and put beside what was predicted for it; ``advise.json``.

    python -m benchmarks.gpu.advise --out DIR [--quick] [--only PAIR ...] [--device cpu]

A pair is a step and the same step changed. The first is recorded; a finding of that report whose rule the pair names,
or a ``what_if``, is the prediction. Where there is no such rule yet the pair is measured all the same, and the
prediction appears here when the rule does.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.gpu.environment import Options, chosen, each, options_of, why_unusable, write_result
from benchmarks.gpu.steps import Run, median, plain_ns, record_ours, repeats, warm_up
from benchmarks.gpu.workloads import WORKLOADS, dtype_of

_RECORDED: Final = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """A step and the same step with one piece of advice taken.

    Attributes:
        before, after: Make the step.
        rules: Parts of the names of findings that give this advice.
        what_if: Arguments of ``Report.what_if`` that ask for it.
        items: How many times as much the changed step gets done.
        needs_gpu: Pointless elsewhere.
    """

    before: Callable[[str, bool], Run]
    after: Callable[[str, bool], Run]
    rules: tuple[str, ...]
    what_if: Mapping[str, Any] | None = None
    items: int = 1
    needs_gpu: bool = False


def _workload(name: str) -> Callable[[str, bool], Run]:
    return lambda device, small: WORKLOADS[name].make(device, small).run


def _attention(fused: bool, device: str, small: bool) -> Run:
    length = 65 if small else 4096
    q, k, v = (torch.randn(1, 16, length, 64, device=device, dtype=dtype_of(device)) for _ in range(3))
    if fused:
        return torch.no_grad()(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v))
    return torch.no_grad()(lambda: torch.softmax(q * 0.125 @ k.transpose(-1, -2), -1) @ v)


def _chain(is_compiled: bool, device: str, small: bool) -> Run:
    x = torch.randn(1 << (12 if small else 26), device=device)

    def run() -> torch.Tensor:
        return x.cos().mul(2).add(1).tanh().sigmoid()

    return torch.no_grad()(torch.compile(run) if is_compiled else run)


PAIRS: Final[dict[str, Pair]] = {
    "fused_attention": Pair(
        partial(_attention, False), partial(_attention, True), ("attention", "sdpa"), {"fuse": True}
    ),
    "fused_pointwise": Pair(partial(_chain, False), partial(_chain, True), ("fuse", "fusion", "pointwise", "compile")),
    "compiled_vit": Pair(_workload("vit_eager"), _workload("vit_compiled"), ("compile", "fuse", "fusion")),
    "compiled_prefill": Pair(_workload("prefill_eager"), _workload("prefill_compiled"), ("compile", "fuse", "fusion")),
    "graphed_decode": Pair(
        _workload("decode_b1_eager"), _workload("decode_b1_graph"), ("graph", "launch"), {"graph": True}, needs_gpu=True
    ),
    "batch_of_decode": Pair(
        _workload("decode_b1_eager"), _workload("decode_b8_eager"), ("batch",), {"batch": 8}, items=8
    ),
    "tf32": Pair(_workload("train_fused_fp32"), _workload("train_fused_tf32"), ("tf32", "precision"), needs_gpu=True),
    "bfloat16": Pair(
        _workload("train_fused_fp32"), _workload("train_fused_bf16"), ("dtype", "autocast", "precision"),
        {"dtype": "bfloat16"},
    ),
    "foreach_optimizer": Pair(_workload("train_plain_bf16"), _workload("train_foreach_bf16"), ("optimizer", "foreach")),
    "fused_optimizer": Pair(_workload("train_foreach_bf16"), _workload("train_fused_bf16"), ("optimizer", "fused")),
}  # fmt: skip

QUICK: Final = ("fused_attention", "graphed_decode", "tf32")


def run(options: Options) -> dict[str, Any]:
    """Measures the pairs that are wanted."""
    reason = why_unusable()
    if reason:
        raise SystemExit(f"advise: {reason}")
    return each(
        chosen(PAIRS, options, QUICK),
        options,
        lambda name: measure(PAIRS[name], options),
        lambda rows: write_result(options, "advise", {"pairs": rows}),
    )


def measure(pair: Pair, options: Options) -> dict[str, Any]:
    """Medians in ns before and after, what was gained for the same work, and what was predicted."""
    if pair.needs_gpu and options.on_cpu:
        return {"unavailable": "needs a GPU"}
    torch.manual_seed(0)
    times: list[float] = []
    for make in (pair.before, pair.after):
        step = make(options.device, options.is_small)
        warm_up(step, options.device)
        times.append(median(plain_ns(step, options.device, repeats(options))))
        del step
    gained = times[0] * pair.items - times[1]
    row: dict[str, Any] = {"before_ns": times[0], "after_ns": times[1], "items": pair.items, "gained_ns": gained}
    row["gained_share"] = gained / (times[0] * pair.items)
    step = pair.before(options.device, options.is_small)
    warm_up(step, options.device)
    return row | {"prediction": predicted(step, pair)}


def predicted(step: Run, pair: Pair) -> dict[str, Any] | str:
    """What the report of the unchanged step promises for this change, in ns a step."""
    from diagnose.reading import read

    with tempfile.TemporaryDirectory(prefix="diagnose-gpu-") as folder:
        path = Path(folder) / "before.json"
        record_ours(step, path, _RECORDED)
        report = read(path)
    steps = max(1, len(report.document.window.steps))
    said = of_findings(report.document.findings, pair.rules)
    if said is not None:
        return said | {"steps": steps}
    asked = of_what_if(report, pair.what_if)
    return "no prediction yet" if asked is None else asked


def of_findings(findings: list[Any], rules: tuple[str, ...]) -> dict[str, Any] | None:
    """The largest finding whose rule's name has one of the parts."""
    fitting = [each for each in findings if any(part in each.rule for part in rules)]
    if not fitting:
        return None
    best = max(fitting, key=lambda each: each.recoverable_ns.mid)
    gain = best.recoverable_ns
    return {"rule": best.rule, "low_ns": gain.low, "mid_ns": gain.mid, "high_ns": gain.high}


def of_what_if(report: Any, question: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What ``Report.what_if`` answers, where there is such a method and it takes the question."""
    ask = getattr(report, "what_if", None)
    if ask is None or question is None:
        return None
    try:
        return {"what_if": dict(question), "answer": str(ask(**question))[:400]}
    except Exception as error:  # noqa: BLE001 - another question of this pair, or the finding, may be answered
        return {"what_if": dict(question), "error": f"{type(error).__name__}: {str(error)[:200]}"}


def main() -> int:
    run(options_of(__doc__ or ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
