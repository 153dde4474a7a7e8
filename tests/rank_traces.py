"""Recordings of a job's ranks, built by hand: each rank computes until it arrives, then all leave together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.builders import EPOCH_US, TraceBuilder, launched

STEP_US = 10_000
MOVING_US = 50


def rank_trace(
    rank: int, arrivals_us: Sequence[Sequence[int]], *, ahead_us: int = 0, world: int | None = None,
    is_late_by_host: bool = False, group: str | None = "0", **others: object,
) -> TraceBuilder:  # fmt: skip
    """One rank's recording.

    Args:
        rank: Which.
        arrivals_us: For each step when each rank arrives at its all-reduce, from the step's start [steps][ranks].
        ahead_us: How far its clock is ahead.
        world: Ranks of the job; those of ``arrivals_us`` if None.
        is_late_by_host: The device idles until then instead of computing.
        group: The process group's name, None to leave it out.
        others: Of each collective.
    """
    trace = TraceBuilder(epoch_us=EPOCH_US + ahead_us)
    size = len(arrivals_us[0]) if world is None else world
    trace.distributed(rank, size)
    tensor = ((1024, 1024), "bfloat16")
    for step, ready in enumerate(arrivals_us):
        at = step * STEP_US
        trace.step(step, at, STEP_US)
        begin, mine = at + 20, at + ready[rank]
        if is_late_by_host:
            launched(trace, "aten::mm", [tensor, tensor], begin, 10, kernel="nvjet_tst_64x8")
            launched(trace, "aten::item", None, mine - 15, 10, kernel="late_kernel")
        else:
            launched(trace, "aten::mm", [tensor, tensor], begin, mine - begin - 5, kernel="nvjet_tst_64x8")
        named = {} if group is None else {"Process Group Name": group}
        trace.collective(
            mine, at + max(ready) + MOVING_US - mine, elements=1_000_000, ranks=size,
            correlation=trace.launch(at + 15, 3), **{**named, **others},
        )  # fmt: skip
    return trace


def written(folder: Path, traces: dict[int, TraceBuilder], name: str = "rank{}.json.gz") -> list[Path]:
    """The recordings as files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [trace.write(folder / name.format(rank)) for rank, trace in traces.items()]
