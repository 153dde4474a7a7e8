"""Rules about what keeps the host from launching: data, allocation, collection, compilation, the start of a device."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.distinct import distinct, is_any
from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import SMALLEST_SHARE, Rule
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change
from diagnose.trace.link import taken

_MOST_PLACES: Final = 3


def data_loading(case: Case) -> list[Proposal]:
    """The step waits for the next batch; on a CPU the ops that make it count too.

    Loading in W workers beside the step leaves, of T ns of loading, T / W less the rest of the step: low with 2
    workers, mid with 4, high: nothing is left. On a CPU workers and step share the cores: a step is never shorter than
    all work over all cores. The rest of it keeps torch's threads busy: all (low), half of the others (mid), one (high);
    what loading does outside ops is work too: all of it (low), half (mid), none, files and the network (high).
    """
    steps, loading = max(1, len(case.steps)), _loading(case)
    idle_ns, ops_ns = case.step_idle_ns("idle_data"), int(case.replayer.duration[loading].sum()) // steps
    waiting_ns = idle_ns + ops_ns
    if waiting_ns < SMALLEST_SHARE * case.step_ns:
        return []
    rest_ns, groups = max(0, case.step_ns - waiting_ns), _mostly(case, loading)
    has_workers = any("MultiProcessingDataLoader" in text for text in case.placed.recording.trace.strings)
    cores, threads = _cores(case)

    def beside(workers: float, busy: float, outside: float) -> Change:
        shared_ns = (ops_ns + outside * idle_ns + rest_ns * min(busy, cores)) / cores
        left_ns = max(0.0, waiting_ns / workers - rest_ns, shared_ns - rest_ns)
        return Change(host=case.host_without_cause("idle_data", keep=min(1.0, left_ns / waiting_ns)))

    return [
        Proposal(
            rule="data-loading",
            bound="overhead",
            title="the step waits for the next batch",
            evidence={
                "waiting_ns_per_step": waiting_ns,
                "waiting_share": round(min(1.0, waiting_ns / case.step_ns), 3),
                "rest_of_step_ns": rest_ns,
                "loads_in_workers": "yes" if has_workers else "no",
                **({"cores": round(cores), "threads": round(threads)} if math.isfinite(cores) else {}),
            },
            where=case.where(groups) if groups else case.idle_places("idle_data"),
            cells=[Cell(None, "idle_data"), *case.cells(groups), Cell(None, "idle_launch")],
            low=beside(2, threads, 1.0),
            mid=beside(4, (1 + threads) / 2, 0.5),
            high=beside(math.inf, 1, 0.0),
            advice=_loader_advice(has_workers=has_workers, pinned="" if case.is_cpu else "pin_memory=True, "),
            assumes="as many free cores as workers, and the file system keeps up; handing a batch over costs nothing",
        )
    ]


def _cores(case: Case) -> tuple[float, float]:
    """Cores that a CPU's step and its workers share, and torch's threads; no limit where none is known."""
    facts = None if case.extras is None else case.extras.cpu
    if not case.is_cpu or facts is None or not facts.physical_cores:
        return math.inf, 1.0
    return float(facts.physical_cores), float(facts.threads or 1)


def _loader_advice(*, has_workers: bool, pinned: str) -> str:
    if not has_workers:
        return f"loader = DataLoader(dataset, batch_size, num_workers=4, {pinned}persistent_workers=True)"
    return (
        f"loader = DataLoader(dataset, batch_size, num_workers=2 * workers, prefetch_factor=4, {pinned}\n"
        "                    persistent_workers=True)   # and less work in __getitem__: decode and resize once"
    )


def _loading(case: Case) -> NDArray[np.bool_]:
    """On a CPU: items that run while the next batch is made [n]."""
    items, ops = case.placed.recording.items, case.placed.recording.trace.ops
    inside = np.zeros(len(items.op), np.bool_)
    if not case.is_cpu:
        return inside
    thread, start, end = case.host_causes["idle_data"]
    op_thread, op_start = taken(ops.thread, items.op), taken(ops.start, items.op)
    for one in distinct(thread).tolist():
        mine = np.flatnonzero(thread == one)
        mine = mine[np.argsort(start[mine], kind="stable")]
        place = np.searchsorted(start[mine], op_start, side="right") - 1
        until = np.maximum.accumulate(end[mine])
        inside |= (op_thread == one) & (place >= 0) & (op_start < until[np.maximum(place, 0)])
    return inside & items.is_own & (items.op >= 0)


def _mostly(case: Case, chosen: NDArray[np.bool_]) -> list[int]:
    """Groups most of whose time is that of chosen items."""
    duration, count = case.replayer.duration, len(case.placed.groups)
    owned = chosen & (case.group_of >= 0)
    mine = np.bincount(case.group_of[owned], duration[owned], minlength=count)
    return [group for group in distinct(case.group_of[owned]).tolist() if 2 * mine[group] > case.time_ns([group])]


def allocation(case: Case) -> list[Proposal]:
    """The step asks the driver for memory instead of the caching allocator; cudaFree even waits for the device.

    low: half of the calls' time stays. mid: all of it goes. high: nothing waits for the device because of them either.
    """
    waiting_ns = case.step_idle_ns("idle_allocator")
    if waiting_ns < SMALLEST_SHARE * case.step_ns or case.step_idle_ns("idle_startup") or case.holds_capture:
        return []
    trace = case.placed.recording.trace
    _, start, end = case.host_causes["idle_allocator"]
    calls = np.flatnonzero(case.is_in_window(trace.calls.start) & is_any(trace.calls.start, start))
    names = sorted({trace.strings[name] for name in distinct(trace.calls.name[calls]).tolist()})
    is_host = any("Host" in name for name in names)
    host = case.host_without_cause("idle_allocator")
    key = "PYTORCH_HIP_ALLOC_CONF" if any(name.startswith("hip") for name in names) else "PYTORCH_CUDA_ALLOC_CONF"
    advice = f"{key}=expandable_segments:True python train.py\n"
    advice += "# no torch.cuda.empty_cache() in the loop; the largest batch first"
    if is_host:
        advice = "buffer = torch.empty(shape, pin_memory=True)   # once, outside the loop\n"
        advice += "buffer.copy_(x); x = buffer.to(device, non_blocking=True)"
    return [
        Proposal(
            rule="allocation",
            bound="overhead",
            title="memory is allocated from the driver inside the step",
            evidence={
                "waiting_ns_per_step": waiting_ns,
                "calls_per_step": round(len(calls) / max(1, len(case.steps)), 1),
                "call_ns": int((end - start).sum()) // max(1, len(start)),
                "calls": ", ".join(names[:3]),
            },
            where=case.idle_places("idle_allocator"),
            cells=[Cell(None, "idle_allocator"), Cell(None, "idle_sync")],
            low=Change(host=case.host_without_cause("idle_allocator", keep=0.5)),
            mid=Change(host=host),
            high=Change(host=host, unblocked=case.calls_mask(calls)),
            advice=advice,
            assumes="the step repeats with the same sizes, so that the cache can serve it; it keeps that memory",
        )
    ]


def garbage_collection(case: Case) -> list[Proposal]:
    """Python's cyclic collector stops the launching thread.

    low: half of its runs stay (generations 0 and 1 left on). mid and high: it runs between steps only.
    """
    waiting_ns = case.step_idle_ns("idle_gc")
    _, start, end = case.host_causes["idle_gc"]
    inside = case.is_in_window(start)
    if waiting_ns < SMALLEST_SHARE * case.step_ns or not inside.any():
        return []
    gone = Change(host=case.host_without_cause("idle_gc"))
    return [
        Proposal(
            rule="garbage-collection",
            bound="overhead",
            title="Python's garbage collector stops the launching thread",
            evidence={
                "waiting_ns_per_step": waiting_ns,
                "runs": int(inside.sum()),
                "longest_run_ns": int((end - start)[inside].max()),
            },
            where=[],
            cells=[Cell(None, "idle_gc")],
            low=Change(host=case.host_without_cause("idle_gc", keep=0.5)),
            mid=gone,
            high=gone,
            advice="gc.freeze()    # after the model is built: what lives forever is not looked at again\n"
            "gc.disable()   # and in the loop, where waiting hurts nobody: if step % 1000 == 0: gc.collect()",
            assumes="reference cycles hold little memory between two collections",
        )
    ]


def compilation(case: Case) -> list[Proposal]:
    """Kernels are compiled or modules loaded in a step that counts.

    low: half of it comes back (other shapes). mid and high: it happens once, before the steps that count.
    """
    waiting_ns = case.step_idle_ns("idle_compile")
    if waiting_ns < SMALLEST_SHARE * case.step_ns or case.holds_capture:
        return []
    gone = Change(host=case.host_without_cause("idle_compile"))
    advice = "for _ in range(3): step()   # warm up, then record: diagnose.profile(wait=1, warmup=2, active=3)"
    if len(case.steps) > 1:
        advice = "model = torch.compile(model, dynamic=True)   # or pad inputs to a few sizes\n"
        advice += "# TORCH_LOGS=recompiles python train.py   says which guard failed"
    return [
        Proposal(
            rule="compilation",
            bound="overhead",
            title="code is compiled or loaded inside the step",
            evidence={"waiting_ns_per_step": waiting_ns, "waiting_share": round(waiting_ns / case.step_ns, 3)},
            where=case.idle_places("idle_compile"),
            cells=[Cell(None, "idle_compile")],
            low=Change(host=case.host_without_cause("idle_compile", keep=0.5)),
            mid=gone,
            high=gone,
            advice=advice,
            assumes="later steps meet the same shapes; a step that is compiled once costs nothing in a long run",
        )
    ]


def warm_up(case: Case) -> list[Proposal]:
    """The device is started inside the window, with the first allocations: not what a step costs.

    low: the start itself. mid and high: with it what is allocated, compiled and loaded for the first time.
    """
    parts = ("idle_startup", "idle_allocator", "idle_compile")
    started_ns = case.step_idle_ns("idle_startup")
    if started_ns < SMALLEST_SHARE * case.step_ns:
        return []
    gone = Change(host=case.host_without_cause(*parts))
    return [
        Proposal(
            rule="warm-up",
            bound="overhead",
            title="the device is started inside the window",
            evidence={
                "start_ns": started_ns,
                "allocating_ns": case.step_idle_ns("idle_allocator"),
                "compiling_ns": case.step_idle_ns("idle_compile"),
            },
            where=case.idle_places("idle_startup"),
            cells=[Cell(None, part) for part in parts],
            low=Change(host=case.host_without_cause("idle_startup")),
            mid=gone,
            high=gone,
            advice="with diagnose.profile(wait=1, warmup=2, active=3) as p:\n    for batch in loader:\n"
            "        train_step(batch)\n        p.step()",
            assumes="the program runs many steps; a first step's cost is paid once",
        )
    ]


RULES: Final[tuple[Rule, ...]] = (
    data_loading,
    allocation,
    garbage_collection,
    compilation,
    warm_up,
)
