"""Rules about launching: the device waits for launches, or spends its time between and inside tiny kernels."""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.findings import cpu_overhead, host_overhead, sync_overhead, training_overhead
from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.items import KIND_KERNEL
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change
from diagnose.replays.stream_chain import NEVER
from diagnose.trace.tables import Ints
from diagnose.wall.waterfall import PARTS

LAUNCH_SHARE: Final = 0.10
"""Of the step: below this, waiting for launches is not what holds it up (the verdict calls 10 points a lead, too)."""

SLOT_SHARE: Final = 0.01
"""Of the step: below this, gaps between queued kernels are not worth a graph."""

HOST_LEFT: Final = 0.10
"""Share of the host's time between a step's first and last launch that stays when a graph replaces it: guards, copies
of inputs into the graph's buffers, one launch. An assumption; the high estimate is without."""

SLOT_LEFT: Final = 0.25
"""Share of the gap between queued kernels that stays inside a graph. Published slots there are 0.9 to 1.3 us, about the
shortest kernel itself, against a floor and a gap of 2.0 to 3.0 us outside (FACTS of H100, A100, V100)."""

FEWEST_TINY: Final = 10
"""Kernels a step that must go before fusing them is worth a sentence."""

_MOST_CUTS: Final = 3
"""Places that are named among those that wait inside a step."""

_STATIC: Final = "tensors keep their shapes and addresses from step to step, and nothing inside reads a value back"

_POINTWISE: Final = "elementwise_kernel"
"""In the name of every pointwise kernel of torch (vectorized_, unrolled_, plain): those that Inductor fuses."""


def launch_bound(case: Case) -> list[Proposal]:
    """The device waits for late launches: record them once (a device graph), make fewer (compile), give each more work.

    low: compiled without graphs, half of the time in ops is gone, the Python between them stays. mid: a graph a step, a
    tenth of the host's time between first and last launch stays. high: the graph's launch is all that is left, and its
    kernels abut. Calls that wait for the device stay as they are in all three.
    """
    late_ns, slot_ns = case.step_idle_ns("idle_launch"), case.step_idle_ns("idle_slot")
    items = case.placed.recording.items
    launched = items.is_own & (items.call >= 0)
    if case.is_cpu or late_ns < LAUNCH_SHARE * case.step_ns or not launched.any() or case.holds_capture:
        return []
    low, mid, high = graph_changes(case)
    launches = len(distinct(items.call[launched])) / max(1, len(case.steps))
    busy_ns = case.step_idle_ns(*(part for part in PARTS if not part.startswith("idle_")))
    cutting = _waits_inside(case, launched)
    growth = case.step_ns / max(1, busy_ns + case.step_idle_ns("idle_queued"))  # something unrecorded may run there
    return [
        Proposal(
            rule="launch-bound",
            bound="overhead",
            title="the device waits for the host to launch kernels",
            evidence={
                "waiting_ns_per_step": late_ns,
                "waiting_share": round(late_ns / case.step_ns, 3),
                "launches_per_step": round(launches, 1),
                "gap_ns_per_step": slot_ns,
                "waiting_ns_per_launch": round(late_ns / max(1.0, launches)),
                "busy_ns_per_step": busy_ns,
                "blocking_calls_inside_per_step": case.per_step(len(cutting)),
            },
            where=case.idle_places("idle_launch"),
            cells=[Cell(None, f"idle_{part}") for part in ("launch", "slot", "sync", "queued")],
            low=low,
            mid=mid,
            high=high,
            advice=_graph_advice(case, growth),
            assumes=f"{_STATIC}; a graph keeps its own memory pool; the first steps compile and capture"
            + _cut_by(case, cutting)
            + _recording_cost(case),
        )
    ]


def graph_changes(case: Case) -> tuple[Change, Change, Change]:
    """What ``launch_bound`` proposes, the least first: compiled without graphs, a graph with guards, the bare graph."""
    items, replayer = case.placed.recording.items, case.replayer
    launched = items.is_own & (items.call >= 0)
    graph = replayer.graphed(launched, 0)
    assert graph.host is not None
    left = replayer.host - np.rint((1 - HOST_LEFT) * (replayer.host - graph.host)).astype(np.int64)
    ops = np.flatnonzero(case.placed.recording.trace.ops.parent < 0)
    return (
        Change(host=replayer.host_without(ops=ops, keep=0.5)),
        Change(host=left, slot=_graph_slot(case, launched)),
        graph,
    )


def kernel_slots(case: Case) -> list[Proposal]:
    """Kernels are queued in time, yet a gap lies between each two: only a graph or fewer kernels take it away.

    low: half of the gaps' time stays; mid: a quarter, as inside device graphs; high: none.
    """
    slot_ns = case.step_idle_ns("idle_slot")
    items = case.placed.recording.items
    launched = items.is_own & (items.call >= 0)
    is_slow_host = case.step_idle_ns("idle_launch") >= LAUNCH_SHARE * case.step_ns
    if case.is_cpu or is_slow_host or slot_ns < SLOT_SHARE * case.step_ns or not launched.any() or case.holds_capture:
        return []
    kernels = int(launched.sum()) / max(1, len(case.steps))
    return [
        Proposal(
            rule="kernel-slots",
            bound="overhead",
            title="gaps between queued kernels add up",
            evidence={
                "gap_ns_per_step": slot_ns,
                "kernels_per_step": round(kernels, 1),
                "gap_ns_per_kernel": round(slot_ns / max(1.0, kernels)),
            },
            where=case.idle_places("idle_slot"),
            cells=[Cell(None, "idle_slot")],
            low=Change(slot=_graph_slot(case, launched, 0.5)),
            mid=Change(slot=_graph_slot(case, launched)),
            high=Change(slot=np.where(launched, 0, -1)),
            advice=_graph_advice(case, None),
            assumes=f"{_STATIC}; fewer, larger kernels (fusion, a larger batch) do the same",
        )
    ]


def tiny_kernels(case: Case) -> list[Proposal]:
    """Runs of pointwise kernels with less work than fills the shortest kernel: one fused kernel does the same.

    A run is neighbours on one stream without another kernel between them; the longest of it stays. low: the others'
    launch calls and device time go; mid: also half of their ops' host time; high: all of it.
    """
    if case.is_cpu:
        return []
    gone, longest = _runs_of_tiny(case)
    per_step = int(gone.sum()) / max(1, len(case.steps))
    if per_step < FEWEST_TINY:
        return []
    items, replayer = case.placed.recording.items, case.replayer
    ops = distinct(items.op[gone & (items.op >= 0)])
    groups = distinct(case.group_of[gone]).tolist()
    merged = Change(duration=longest, removed=gone)
    floor_ns = max((placement.floor_ns or 0.0 for placement in case.placed.placements), default=0.0)
    return [
        Proposal(
            rule="tiny-kernels",
            bound="overhead",
            title="runs of small pointwise kernels that one kernel could do",
            evidence={
                "kernels_to_fuse_per_step": round(per_step, 1),
                "runs_per_step": round(_runs(gone) / max(1, len(case.steps)), 1),
                "mean_kernel_ns": round(float(items.duration[gone].mean())),
                "kernel_floor_ns": round(floor_ns),
            },
            where=case.where(groups),
            cells=[*case.cells(groups), Cell(None, "idle_slot"), Cell(None, "idle_launch")],
            low=merged,
            mid=replace(merged, host=replayer.host_without(ops=ops, keep=0.5)),
            high=replace(merged, host=replayer.host_without(ops=ops)),
            advice="model = torch.compile(model)  # fuses neighbouring pointwise ops into one kernel",
            assumes="neighbours on the stream work on the same tensors, and nothing else needs what lies between them; "
            "the first call compiles",
        )
    ]


def _runs_of_tiny(case: Case) -> tuple[NDArray[np.bool_], Ints]:
    """Items that a fused kernel makes superfluous, and all durations with each run's longest on its first one."""
    placed, items, activities = case.placed, case.placed.recording.items, case.placed.recording.trace.activities
    tiny = [
        placed.placements[group].bound == "overhead"
        and placed.placements[group].is_believed
        and placed.groups.kind[group] == KIND_KERNEL
        and _POINTWISE in placed.kernel(group)
        for group in range(len(placed.groups))
    ]
    is_tiny = np.array([*tiny, False], np.bool_)[case.group_of]
    order = np.lexsort((activities.start, activities.stream, activities.device))
    key = np.stack([activities.device, activities.stream, items.step])[:, order]
    flag = is_tiny[order]
    begins = np.concatenate([[True], (np.diff(key) != 0).any(axis=0) | (np.diff(flag.astype(np.int8)) != 0)])
    first = np.flatnonzero(begins[: len(order)])
    duration = items.duration.copy()
    gone = np.zeros(len(order), np.bool_)
    if len(first):
        longest = np.maximum.reduceat(items.duration[order], first)
        heads = first[flag[first]]
        duration[order[heads]] = longest[flag[first]]
        gone[order] = flag & ~begins
    return gone, duration


def _runs(gone: NDArray[np.bool_]) -> int:
    """How many runs of neighbours there are."""
    return int((gone & ~np.concatenate([[False], gone[:-1]])).sum())


def _graph_slot(case: Case, launched: NDArray[np.bool_], share: float = SLOT_LEFT) -> Ints:
    """Nanoseconds between neighbours: a share of the device's usual gap; 0 where that is not known."""
    slot = np.full(len(launched), -1, np.int64)
    for device in distinct(case.placed.recording.items.device[launched]).tolist():
        ceilings = case.placed.hardware.ceilings.get(device)
        gap_s = (None if ceilings is None else ceilings.rate("kernel_gap")) or 0.0
        slot[launched & (case.placed.recording.items.device == device)] = round(share * gap_s * 1e9)
    return slot


def _waits_inside(case: Case, launched: NDArray[np.bool_]) -> Ints:
    """Calls that wait for the device between a step's first launch and its last, which no graph can hold."""
    recording = case.placed.recording
    if recording.links is None or not launched.any():
        return np.zeros(0, np.int64)
    step, start = recording.items.step[launched], recording.trace.calls.start
    first, last = np.full(int(step.max()) + 1, np.iinfo(np.int64).max), np.full(int(step.max()) + 1, NEVER)
    np.minimum.at(first, step, start[recording.items.call[launched]])
    np.maximum.at(last, step, start[recording.items.call[launched]])
    rows = np.flatnonzero(recording.links.is_blocking)
    at = np.searchsorted(recording.steps.starts, start[rows], side="right") - 1
    at = np.clip(at, 0, len(first) - 1)
    inside: Ints = rows[(start[rows] > first[at]) & (start[rows] < last[at])]
    return inside


def _graph_advice(case: Case, growth: float | None) -> str:
    """Code for the case at hand; ``growth`` is how much longer the step is than the device's own work."""
    trace = case.placed.recording.trace
    names = {trace.strings[name].split("::")[0] for name in case.placed.groups.op_name.tolist() if name >= 0}
    lines = ['model = torch.compile(model, mode="reduce-overhead")  # device graphs']
    if "vllm" in names or "_C" in names:
        lines = ["llm = LLM(model, enforce_eager=False)  # vLLM then replays device graphs: no --enforce-eager"]
        lines.append("# and no step of more tokens than the largest of compilation_config's cudagraph_capture_sizes")
    elif case.is_training:
        lines.append("# or without compiling: model = torch.cuda.make_graphed_callables(model, (sample_input,))")
    else:
        lines += ["# or without compiling:", "graph, static_x = torch.cuda.CUDAGraph(), x.clone()"]
        lines += ["model(static_x)  # what is made at the first call cannot be captured"]
        lines += ["with torch.cuda.graph(graph):", "    y = model(static_x)", "static_x.copy_(x); graph.replay()"]
    if growth is not None and growth >= 2:
        lines.append(f"# or a larger batch: work up to x{growth:.0f} fits into the same step while the device waits")
    return "\n".join(lines)


def _cut_by(case: Case, calls: Ints) -> str:
    """What waits inside the step do to a graph."""
    places = list(dict.fromkeys(case.place_of_call(call) for call in calls.tolist()))[:_MOST_CUTS]
    return "" if not places else f"; no graph can hold what waits for the device, so it has to go: {', '.join(places)}"


def _recording_cost(case: Case) -> str:
    """What recording itself added to the launches, as far as it is known."""
    extras = case.extras
    plain, recorded = (None, None) if extras is None else (extras.step_plain_ns, extras.step_recorded_ns)
    if plain is None or recorded is None:
        is_slowed = extras is None and case.placed.recording.trace.has_stacks
        return "; recorded with Python's stacks, which slow the host: without them there is less to win" * is_slowed
    if recorded <= 1.05 * plain:
        return ""
    return (
        f"; recording made the step {recorded / plain:.1f} times as long, mostly here: unrecorded there is less to win"
    )


RULES: Final[tuple[Rule, ...]] = (
    launch_bound,
    kernel_slots,
    tiny_kernels,
    *training_overhead.RULES,
    *sync_overhead.RULES,
    *host_overhead.RULES,
    *cpu_overhead.RULES,
)
