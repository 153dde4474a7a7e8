"""Why real devices idled: busy and idle time recounted from the raw file, and what each recording is known for."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.items import collect
from diagnose.render.text import to_text
from diagnose.schema import Document
from diagnose.trace.chrome import read_trace
from diagnose.wall.launch_queue import launch_queue

ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
Interval = tuple[int, int]


@cache
def document_of(path: Path) -> Document:
    return analyse(read_trace(path))


@cache
def raw_events(path: Path) -> list[dict[str, Any]]:
    """The complete events as the file has them, times as text."""
    loaded = json.loads(gzip.decompress(path.read_bytes()), parse_float=str, parse_int=str)
    return [event for event in loaded["traceEvents"] if event.get("ph") == "X"]


def intervals(events: Iterable[dict[str, Any]], document: Document) -> list[Interval]:
    """In nanoseconds from the window's start, cut to the window."""
    epoch, wall = int(document.window.epoch_ns), document.window.wall_ns
    found = []
    for event in events:
        low = int(Decimal(event["ts"]) * 1000) - epoch
        high = low + int(Decimal(event["dur"]) * 1000)
        found.append((min(max(low, 0), wall), min(max(high, 0), wall)))
    return [(low, high) for low, high in found if high > low]


def merged(found: Iterable[Interval]) -> list[Interval]:
    union: list[Interval] = []
    for low, high in sorted(found):
        if union and low <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], high))
        else:
            union.append((low, high))
    return union


def length(found: Iterable[Interval]) -> int:
    return sum(high - low for low, high in found)


def parts_of(document: Document, device: str, step: int | None = None) -> dict[str, int]:
    return {row.part: row.ns for row in document.waterfall if row.step == step and row.device == device}


def idle_of(parts: dict[str, int]) -> dict[str, int]:
    return {part: ns for part, ns in parts.items() if part.startswith("idle")}


def test_busy_idle_and_overlapped_time_are_those_of_the_raw_file(real_trace: Path) -> None:
    document = document_of(real_trace)
    recorded = [event for event in raw_events(real_trace) if event.get("cat") in ON_DEVICE]
    if not recorded:
        pytest.skip("no device activity")
    by_device: dict[str, list[dict[str, Any]]] = {}
    for event in recorded:
        by_device.setdefault(event["args"]["device"], []).append(event)
    for device, events in by_device.items():
        found = intervals(events, document)
        busy = length(merged(found))
        parts = parts_of(document, f"cuda:{device}")
        assert sum(parts.values()) == document.window.wall_ns
        assert sum(idle_of(parts).values()) == document.window.wall_ns - busy
        exposed = sum(row.exposed_ns for row in document.kernels if row.device == f"cuda:{device}")
        assert exposed + parts.get("carried_over", 0) == busy
        overlapped = length(found) - busy
        assert overlapped >= 0
        if parts.get("carried_over", 0) == 0 and document.coverage.out_of_window_ns == 0 and len(by_device) == 1:
            assert sum(row.time_ns - row.exposed_ns for row in document.kernels) == overlapped


def test_the_hosts_own_busy_time_is_that_of_the_raw_file(trace_path: Callable[[str], Path]) -> None:
    path = trace_path("cpu_only_no_device")
    document = document_of(path)
    ops = [event for event in raw_events(path) if event.get("cat") == "cpu_op"]
    busy = length(merged(intervals(ops, document)))
    assert sum(idle_of(parts_of(document, "cpu")).values()) == document.window.wall_ns - busy


@pytest.mark.parametrize("name", ["a100_resnet_ddp_rank0", "v100_resnet_ddp_rank0"])
def test_exposed_collectives_are_those_that_no_kernel_hides(name: str, trace_path: Callable[[str], Path]) -> None:
    path = trace_path(name)
    document = document_of(path)
    kernels = [event for event in raw_events(path) if event.get("cat") == "kernel"]
    copies = [
        event for event in raw_events(path)
        if event.get("cat") == "gpu_memset" or (event.get("cat") == "gpu_memcpy" and "DtoD" in event["name"])
    ]  # fmt: skip
    is_nccl = [event["name"].startswith("nccl") for event in kernels]
    own = [event for event, nccl in zip(kernels, is_nccl, strict=True) if not nccl] + copies
    both = merged(intervals(kernels + copies, document))
    exposed = length(both) - length(merged(intervals(own, document)))
    assert parts_of(document, "cuda:0").get("exposed_communication", 0) == exposed
    # The A100 job waits for its all-reduces, the V100 job hides them behind its backward pass.
    assert (exposed > 0) == (name == "a100_resnet_ddp_rank0")


def test_phases_annotations_and_idle_rows_sum_to_the_waterfall(real_trace: Path) -> None:
    document = document_of(real_trace)
    whole: Counter[tuple[Any, ...]] = Counter()
    for row in document.waterfall:
        whole[row.device, row.step, row.part] += row.ns
    tables: dict[str, Counter[tuple[Any, ...]]] = {name: Counter() for name in ("phases", "annotations", "idle")}
    for name, table in tables.items():
        for row in getattr(document, name):
            table[row.device, getattr(row, "step", None), row.part] += row.ns
    window = Counter({key: ns for key, ns in whole.items() if key[1] is None})
    assert not document.phases or tables["phases"] == whole
    assert not document.annotations or tables["annotations"] == window
    assert tables["idle"] == Counter({key: ns for key, ns in window.items() if key[2].startswith("idle")})


def test_alexnet_names_its_synchronisations_and_its_start_up(trace_path: Callable[[str], Path]) -> None:
    document = document_of(trace_path("a100_alexnet_train_sync"))
    assert parts_of(document, "cuda:0")["idle_startup"] == pytest.approx(30e9, rel=0.05)
    assert document.verdict.verdict.startswith("the device was started inside the window")
    listed = {(row.call, row.op): row for row in document.synchronizations}
    assert listed["cudaStreamSynchronize", "aten::copy_"].count == 16
    assert sum(row.count for row in document.synchronizations if row.call == "cudaDeviceSynchronize") == 5
    awaited = [row for row in document.synchronizations if row.call == "cudaDeviceSynchronize" and row.awaited]
    assert [row.awaited_op for row in awaited] == ["aten::addmm"]
    sync = sum(row.idle_ns for row in document.synchronizations)
    assert sync == parts_of(document, "cuda:0")["idle_sync"] > 50e6


@pytest.mark.parametrize("name", ["h100_bert_small_b1", "h100_vit_bf16_b4"])
def test_launch_bound_models_are_overhead_bound_and_their_idle_time_is_explained(
    name: str, trace_path: Callable[[str], Path]
) -> None:
    document = document_of(trace_path(name))
    idle = idle_of(parts_of(document, "cuda:0"))
    assert document.verdict.bound == "overhead"
    assert sum(idle.values()) > 0.5 * document.window.wall_ns
    assert idle.get("idle_unknown", 0) + idle.get("idle_queued", 0) < 0.05 * sum(idle.values())
    by_op: Counter[str | None] = Counter()
    for row in document.idle:
        by_op[row.op] += row.ns
    assert by_op.most_common(1)[0][0] == "aten::addmm"
    assert "Idle: " in to_text(document)


def test_a_device_that_runs_behind_its_host_hardly_idles_and_then_between_kernels(
    trace_path: Callable[[str], Path],
) -> None:
    document = document_of(trace_path("v100_resnet_ddp_rank0"))
    for step, row in enumerate(document.window.steps):
        if row.steady:
            idle = idle_of(parts_of(document, "cuda:0", step))
            assert sum(idle.values()) < 0.02 * row.wall_ns
            assert idle["idle_slot"] > 0.9 * sum(idle.values())
    queue = launch_queue(collect(read_trace(trace_path("v100_resnet_ddp_rank0")).trace), 0)
    assert 1000 < queue.depth.max() <= 1024  # CUDA's own limit


def test_on_rocm_the_slot_lies_inside_the_kernels_and_no_host_is_blamed(trace_path: Callable[[str], Path]) -> None:
    """Its records abut (FACTS, section 4), so that what idle time there is was launched long before."""
    document = document_of(trace_path("mi300x_resnet_train_checkpoint"))
    for step, row in enumerate(document.window.steps):
        if row.steady:
            idle = idle_of(parts_of(document, document.kernels[0].device, step))
            assert sum(idle.values()) < 0.01 * row.wall_ns
            assert set(idle) <= {"idle_slot", "idle_queued"}


def test_the_replays_apparent_idle_time_is_queued(trace_path: Callable[[str], Path]) -> None:
    document = document_of(trace_path("mi300x_vllm_decode_graph_replay"))
    idle = idle_of(parts_of(document, document.kernels[0].device))
    assert idle["idle_queued"] == pytest.approx(7.85e6, rel=0.01)
    assert idle["idle_queued"] > 0.9 * sum(idle.values())
    assert "idle_sync" not in idle


PHASES = {
    "a100_resnet_ddp_rank0": {"forward", "backward", "optimizer", None},
    "v100_resnet_ddp_rank0": {"forward", "backward", "optimizer"},
    "mi300x_resnet_train_checkpoint": {"forward", "backward", "optimizer", None},
    "a100_ranks_sampled_rank0": {"forward", "backward", "optimizer", "data", None},
    "cpu_only_no_device": {"forward", "backward", "optimizer", "data", None},
    "b200_vllm_moe_tp8_rank0": {"prefill", None},
    "mi300x_vllm_decode_graph_replay": {"decode"},
}


@pytest.mark.parametrize("name", PHASES)
def test_phases_are_told_apart(name: str, trace_path: Callable[[str], Path]) -> None:
    document = document_of(trace_path(name))
    shares: Counter[str | None] = Counter()
    for row in document.phases:
        if row.step is None:
            shares[row.phase] += row.share
    assert set(shares) == PHASES[name]
    if "resnet" in name:
        # A backward pass is two products for the forward pass's one, an optimizer reads and writes weights once.
        kernels: Counter[str | None] = Counter()
        for row in document.phases:
            if row.step is not None and not row.part.startswith(("idle", "exposed", "carried")):
                kernels[row.phase] += row.ns
        assert kernels["backward"] > 1.5 * kernels["forward"] > 10 * kernels["optimizer"]
