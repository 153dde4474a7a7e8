"""A replay against the clock: a kernel made slower, the host delayed, each by a known amount; ``replay.json``.

    python -m benchmarks.gpu.replay --out DIR [--device cpu]

Each scenario runs a step in two settings and records the first. From that recording alone a replay predicts the second;
the clock says what it really took.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from benchmarks.gpu.environment import Options, chosen, each, options_of, why_unusable, write_result
from benchmarks.gpu.steps import Run, median, plain_ns, record_ours, repeats, warm_up

_DELAY_OP: Final = "diagnose_harness::delay"
_KERNELS: Final = 20
_RECORDED: Final = 3


@dataclass(frozen=True, slots=True)
class Scenario:
    """A step in two settings.

    Attributes:
        op: What differs between them.
        before, after: Make the step.
        host: The op's time is the host's; else it is its kernels'.
        added_ns: How much longer each call of the op takes after; None takes that from a recording of the second
            setting.
    """

    op: str
    before: Callable[[str, bool], Run]
    after: Callable[[str, bool], Run]
    host: bool = False
    added_ns: int | None = None


@torch.library.custom_op(_DELAY_OP, mutates_args=("x",))
def _delay(x: Tensor, ns: int) -> None:  # noqa: ARG001 - an op without a tensor has no device to run on
    """Keeps the host busy: a sleep would let its clock fall."""
    end = time.perf_counter_ns() + ns
    while time.perf_counter_ns() < end:
        pass


def _with_product(side: int, *, device: str) -> Run:
    """A product of a size between chains of small kernels."""
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    x = torch.rand(1 << 12, device=device)

    def run() -> None:
        for _ in range(_KERNELS):
            x.mul_(0.5)
        torch.mm(a, b)
        for _ in range(_KERNELS):
            x.add_(0.5)

    return torch.no_grad()(run)


def _with_delay(ns: int, elements: int, device: str) -> Run:
    """Kernels of some size, and the host busy before each."""
    x, told = torch.rand(elements, device=device), torch.zeros(1)

    def run() -> None:
        for _ in range(_KERNELS):
            torch.ops.diagnose_harness.delay(told, ns)
            x.mul_(0.999)

    return torch.no_grad()(run)


def _side(device: str, small: bool) -> int:
    return 256 if small else 1024 if torch.device(device).type == "cpu" else 4096


SCENARIOS: Final[dict[str, Scenario]] = {
    "kernel_slower": Scenario(
        "aten::mm",
        lambda device, small: _with_product(_side(device, small), device=device),
        lambda device, small: _with_product(2 * _side(device, small), device=device),
    ),
    # The device waits for the host: all of the delay is seen.
    "host_delayed_launch_bound": Scenario(
        _DELAY_OP,
        lambda device, _: _with_delay(20_000, 1 << 12, device),
        lambda device, _: _with_delay(40_000, 1 << 12, device),
        host=True,
        added_ns=20_000,
    ),
    # The host is ahead of the device: on a GPU most of the delay hides.
    "host_delayed_device_bound": Scenario(
        _DELAY_OP,
        lambda device, small: _with_delay(20_000, 1 << (16 if small else 28), device),
        lambda device, small: _with_delay(40_000, 1 << (16 if small else 28), device),
        host=True,
        added_ns=20_000,
    ),
}


def run(options: Options) -> dict[str, Any]:
    """Measures every scenario, and predicts it where a replay exists."""
    reason = why_unusable()
    if reason:
        raise SystemExit(f"replay: {reason}")
    return each(
        chosen(SCENARIOS, options),
        options,
        lambda name: measure(SCENARIOS[name], options),
        lambda rows: write_result(options, "replay", {"scenarios": rows}),
    )


def measure(scenario: Scenario, options: Options) -> dict[str, Any]:
    """Both settings by the clock, and the second as a replay of the first predicts it; in ns a step."""
    before, after = (make(options.device, options.is_small) for make in (scenario.before, scenario.after))
    times = repeats(options)
    measured = []
    for step in (before, after):
        warm_up(step, options.device)
        measured.append(median(plain_ns(step, options.device, times)))
    with tempfile.TemporaryDirectory(prefix="diagnose-gpu-") as folder:
        first, second = Path(folder) / "first.json", Path(folder) / "second.json"
        record_ours(before, first, _RECORDED)
        added = scenario.added_ns
        if added is None:
            record_ours(after, second, _RECORDED)
            added = _mean_ns(second, scenario.op) - _mean_ns(first, scenario.op)
        found = predicted_change(first, scenario, added)
    row: dict[str, Any] = {"before_ns": measured[0], "after_ns": measured[1], "added_ns_a_call": added}
    row["measured_change_ns"] = measured[1] - measured[0]
    return row | found


def _mean_ns(path: Path, op: str) -> int:
    """Time of a call of an op's kernel, on a CPU its own."""
    from diagnose.reading import read

    rows = [row for row in read(path).document.kernels if row.op == op]
    return sum(row.time_ns for row in rows) // sum(row.calls for row in rows)


def predicted_change(path: Path, scenario: Scenario, added_ns: int) -> dict[str, Any]:
    """How much longer a step gets, by a replay of its recording; a sentence where none can be had."""
    if importlib.util.find_spec("diagnose.replays.replayer") is None:
        return {"no_prediction": "there is no replay yet"}
    import numpy as np

    from diagnose.items import collect
    from diagnose.replays.replayer import Change, Replayer
    from diagnose.trace.chrome import read_trace

    recording = collect(read_trace(path).trace)
    replayer = Replayer(recording)
    trace, items = recording.trace, recording.items
    numbers = [index for index, name in enumerate(trace.strings) if name == scenario.op]
    rows = np.flatnonzero(np.isin(trace.ops.name, numbers))
    if scenario.host and not recording.is_cpu:
        mean = float((trace.ops.end[rows] - trace.ops.start[rows]).mean())
        change = Change(host=replayer.host_without(ops=rows, keep=1 + added_ns / mean))
    else:
        is_changed = np.isin(items.op, rows)
        change = Change(duration=items.duration + np.where(is_changed, added_ns, 0))
    saved = replayer.saving(change)
    if saved is None:
        return {"no_prediction": "; ".join(replayer.notes) or "the replay is not trusted"}
    return {"predicted_change_ns": -saved / len(recording.steps.names), "replay_error": replayer.error}


def main() -> int:
    run(options_of(__doc__ or ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
