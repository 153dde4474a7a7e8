"""Rules about what keeps the host from launching; times in microseconds, prices worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import Rule, findings_of
from diagnose.findings.host_overhead import (
    allocation,
    compilation,
    data_loading,
    garbage_collection,
    warm_up,
)
from diagnose.findings.sync_overhead import pageable_copies, synchronisation
from diagnose.schema import Finding, Interval
from tests.builders import EPOCH_US, TraceBuilder

LOADER = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"


def case_of(built: TraceBuilder) -> Case:
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def found(built: TraceBuilder, rule: Rule) -> Finding | None:
    rows = findings_of(case_of(built), [rule])
    assert len(rows) <= 1
    return rows[0] if rows else None


def waiting(rounds: int, *, idle_us: int = 60) -> TraceBuilder:
    """A kernel of 100 us, then the host reads a value back and goes on ``idle_us`` after it has returned."""
    built, at = TraceBuilder(), 0
    for _ in range(rounds):
        built.op("aten::relu", at, 6)
        built.kernel("relu", at + 5, 100, correlation=built.launch(at + 1, 2))
        built.op("aten::_local_scalar_dense", at + 8, 102)
        built.launch(at + 10, 97, name="cudaStreamSynchronize")
        at += 110 + idle_us
    built.op("aten::relu", at, 6)
    built.kernel("relu", at + 5, 100, correlation=built.launch(at + 1, 2))
    built.step(0, 0, at + 105)
    return built


def test_waits_for_values_are_priced_by_a_host_that_runs_ahead() -> None:
    finding = found(waiting(2), synchronisation)
    assert finding is not None
    # As it is: 2 x 170 + 105 = 445 us. Nothing waits: the call takes its own 5 us, so the second kernel is launched at
    # 1 + 78 and starts when the first ends, at 105; the third follows at 205 and ends at 305.
    assert finding.recoverable_ns.mid == 445_000 - 305_000
    # With the last wait of the step: 105 + 100 + 2 (its return) + 3 + 60 + 5 + 100 = 375.
    assert finding.recoverable_ns.low == 445_000 - 375_000
    assert finding.evidence["waits_per_step"] == 2
    assert finding.evidence["waited_for"] == "relu"
    assert finding.evidence["in_call_ns_per_step"] == 2 * 97_000
    assert ".item()" in finding.title


def test_one_wait_a_step_may_be_needed_and_then_gives_nothing() -> None:
    finding = found(waiting(1), synchronisation)
    assert finding is not None
    assert finding.recoverable_ns.low == 0 < finding.recoverable_ns.mid


def test_a_host_that_waits_because_the_device_is_the_bottleneck_loses_nothing() -> None:
    built = TraceBuilder()
    for number in range(4):
        built.op("aten::mm", 10 * number, 6)
        built.kernel("mm", 10 + 100 * number, 100, correlation=built.launch(10 * number + 1, 2))
    built.launch(50, 361, name="cudaDeviceSynchronize")
    built.step(0, 0, 411)
    assert found(built, synchronisation) is None


def test_an_explicit_synchronize_gets_advice_of_its_own() -> None:
    built = waiting(2)
    built.events = [event for event in built.events if event["name"] != "aten::_local_scalar_dense"]
    finding = found(built, synchronisation)
    assert finding is not None
    assert "cudaStreamSynchronize" in finding.title
    assert "torch.cuda.Event" in finding.advice


def copying(memory: str) -> TraceBuilder:
    """A kernel of 100 us; a copy to the device that its call waits for if the memory is pageable; 60 us later on."""
    built = TraceBuilder()
    for at in (0, 180):
        built.op("aten::relu", at, 6)
        built.kernel("relu", at + 5, 100, correlation=built.launch(at + 1, 2))
        built.op("aten::copy_", at + 8, 109)
        copy = built.launch(at + 10, 105, name="cudaMemcpyAsync")
        built.copy(f"Memcpy HtoD ({memory} -> Device)", at + 105, 8, size=8000, correlation=copy)
    built.op("aten::relu", 360, 6)
    built.kernel("relu", 365, 100, correlation=built.launch(361, 2))
    built.step(0, 0, 465)
    return built


def test_pageable_copies_that_let_the_device_run_dry_are_found_apart_from_values_read_back() -> None:
    finding = found(copying("Pageable"), pageable_copies)
    assert finding is not None
    assert finding.recoverable_ns.mid > 0
    assert "pin_memory" in finding.advice
    assert found(copying("Pageable"), synchronisation) is None


def test_pinned_copies_do_not_wait() -> None:
    assert found(copying("Pinned"), pageable_copies) is None


def loading(load_us: int, work_us: int, name: str = LOADER) -> TraceBuilder:
    """Three steps: a batch is loaded, then one kernel runs."""
    built = TraceBuilder()
    period = load_us + work_us
    for number in range(3):
        at = period * number
        built.step(number, at, period)
        built.annotation(name, at, load_us)
        built.op("aten::mm", at + load_us, 9)
        built.kernel("mm", at + load_us + 10, work_us - 10, correlation=built.launch(at + load_us + 2, 4))
        built.launch(at + load_us + 10, work_us - 10, name="cudaDeviceSynchronize")
    return built


def test_loading_that_workers_hide_behind_the_step_goes_whole() -> None:
    finding = found(loading(400, 600), data_loading)
    assert finding is not None
    # With two workers a batch takes 200 us of the 600 us that the step takes besides.
    assert finding.recoverable_ns.low == finding.recoverable_ns.high == 400_000
    assert "num_workers=4" in finding.advice


def test_loading_that_is_too_slow_for_workers_leaves_a_rest() -> None:
    finding = found(loading(900, 100), data_loading)
    assert finding is not None
    # 900 / 2 - 100 = 350 us are left with two workers, 900 / 4 - 100 = 125 with four.
    assert finding.recoverable_ns.low == pytest.approx(900_000 - 350_000, abs=2)
    assert finding.recoverable_ns.mid == pytest.approx(900_000 - 125_000, abs=2)
    assert finding.recoverable_ns.high == 900_000
    assert finding.evidence["rest_of_step_ns"] == 100_000


def test_a_loader_with_workers_is_told_to_have_more() -> None:
    finding = found(loading(400, 600, "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"), data_loading)
    assert finding is not None
    assert "prefetch_factor" in finding.advice


def test_loading_that_the_device_does_not_wait_for_is_no_finding() -> None:
    assert found(loading(1, 900), data_loading) is None


def calling(name: str, us: int) -> TraceBuilder:
    """Three steps, in each of which the launching thread makes such a call before it launches."""
    built = TraceBuilder()
    for number in range(3):
        at = 500 * number
        built.step(number, at, 500)
        built.launch(at + 1, us, name=name)
        built.op("aten::mm", at + us + 2, 9)
        built.kernel("mm", at + us + 12, 500 - us - 12, correlation=built.launch(at + us + 3, 4))
        built.launch(at + us + 11, 500 - us - 11, name="cudaDeviceSynchronize")
    return built


def test_allocation_inside_the_step_is_priced_by_its_calls() -> None:
    finding = found(calling("cudaMalloc", 100), allocation)
    assert finding is not None
    assert (finding.recoverable_ns.low, finding.recoverable_ns.mid) == (50_000, 100_000)
    assert (finding.evidence["calls_per_step"], finding.evidence["call_ns"]) == (1, 100_000)
    assert "expandable_segments" in finding.advice
    pinned = found(calling("cudaHostAlloc", 100), allocation)
    assert pinned is not None
    assert "pin_memory=True" in pinned.advice


def test_a_step_that_the_caching_allocator_serves_is_no_finding() -> None:
    assert found(calling("cudaPointerGetAttributes", 100), allocation) is None


def test_loading_code_inside_the_step_is_found_and_starting_the_device_is_another_matter() -> None:
    finding = found(calling("cuModuleLoadData", 200), compilation)
    assert finding is not None
    assert (finding.recoverable_ns.low, finding.recoverable_ns.mid) == (100_000, 200_000)
    assert found(calling("cuModuleLoadData", 200), warm_up) is None
    assert found(calling("cuDevicePrimaryCtxRetain", 200), compilation) is None


def test_a_device_that_is_started_inside_the_window_asks_for_a_warm_up() -> None:
    finding = found(calling("cuDevicePrimaryCtxRetain", 200), warm_up)
    assert finding is not None
    assert finding.recoverable_ns.mid == 200_000
    assert "warmup=2" in finding.advice


def collecting(us: int) -> TraceBuilder:
    """Three steps with a run of the collector while the device waits."""
    built = calling("cudaGetDevice", 200)
    runs = [[(EPOCH_US + 500 * number + 20) * 1000, us * 1000, 2] for number in range(3)]
    built.top["diagnose"] = {"version": 1, "gc_runs": runs}
    return built


def test_collections_that_stop_the_launching_thread_are_found() -> None:
    finding = found(collecting(120), garbage_collection)
    assert finding is not None
    assert (finding.recoverable_ns.low, finding.recoverable_ns.mid) == (60_000, 120_000)
    assert (finding.evidence["runs"], finding.evidence["longest_run_ns"]) == (3, 120_000)
    assert "gc.freeze()" in finding.advice


def test_short_collections_are_not_worth_a_sentence() -> None:
    assert found(collecting(1), garbage_collection) is None


def test_on_a_cpu_the_ops_that_make_the_batch_count_as_loading() -> None:
    built = TraceBuilder(None)
    built.step(0, 0, 1000)
    built.annotation(LOADER, 0, 400)
    built.op("aten::randn", 50, 300)
    built.op("aten::mm", 400, 600)
    finding = found(built, data_loading)
    assert finding is not None
    assert finding.evidence["waiting_ns_per_step"] == 400_000
    # Two workers take 200 us a batch, the rest of the step 600 us.
    assert finding.recoverable_ns.low == finding.recoverable_ns.high == 400_000
    assert finding.where == ["aten::randn"]
    assert "pin_memory" not in finding.advice  # there is no device to copy to


def loading_on_a_cpu(cores: int, threads: int) -> TraceBuilder:
    """600 us of making a batch, 400 us of work."""
    built = TraceBuilder(None)
    built.step(0, 0, 1000)
    built.annotation(LOADER, 0, 600)
    built.op("aten::stack", 0, 600)
    built.op("aten::mm", 600, 400)
    built.top["diagnose"] = {"version": 1, "cpu": {"physical_cores": cores, "threads": threads}}
    return built


def test_workers_on_a_cpu_take_cores_from_the_step() -> None:
    finding = found(loading_on_a_cpu(2, 2), data_loading)
    assert finding is not None
    # Two cores. The rest of the step on both: (600 + 2 x 400) / 2 = 700 us a step. On one and a half: 600; on one: 500.
    assert finding.recoverable_ns == Interval(300_000, 400_000, 500_000)
    assert (finding.evidence["cores"], finding.evidence["threads"]) == (2, 2)
    assert finding.evidence["loads_in_workers"] == "no"


def test_what_a_loader_waits_for_takes_no_core() -> None:
    built = loading_on_a_cpu(2, 2)
    built.events = [event for event in built.events if event["name"] != "aten::stack"]
    finding = found(built, data_loading)
    assert finding is not None
    # As above if all 600 us are work; with half of them (300 + 1.5 x 400) / 2 = 450; none: the other 400 us are left.
    assert finding.recoverable_ns == Interval(300_000, 550_000, 600_000)


def test_one_core_has_no_time_for_workers() -> None:
    assert found(loading_on_a_cpu(1, 1), data_loading) is None


def test_many_cores_hide_all_that_workers_can() -> None:
    finding = found(loading_on_a_cpu(16, 4), data_loading)
    assert finding is not None
    assert finding.recoverable_ns == Interval(600_000, 600_000, 600_000)  # 600 / 2 - 400 < 0


def test_a_loader_that_moves_memory_on_the_cpu_is_told() -> None:
    """Its own ops are memory's in the waterfall; that it is the loader's is said all the same, and first."""
    torch = pytest.importorskip("torch")
    import diagnose

    class Pictures(torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
        def __len__(self) -> int:
            return 256

        def __getitem__(self, index: int) -> Any:
            return (torch.zeros(3, 128, 128, dtype=torch.uint8).float() - 0.5) / 0.25

    model = torch.nn.Linear(8, 8)
    with diagnose.profile() as profiled:
        for batch in torch.utils.data.DataLoader(Pictures(), batch_size=64):
            model(batch[:, 0, 0, :8])
    assert profiled.report is not None
    (finding,) = (row for row in profiled.report.findings if row.rule == "data-loading")
    assert finding.evidence["loads_in_workers"] == "no"
    assert "num_workers=4" in finding.advice
    assert finding.evidence["waiting_share"] > 0.5  # type: ignore[operator]


def test_a_value_read_back_behind_a_synchronize_has_to_go_with_it() -> None:
    built = waiting(5)
    at = 5 * 175
    for _ in range(5):
        built.op("aten::relu", at, 6)
        built.kernel("relu", at + 5, 100, correlation=built.launch(at + 1, 2))
        built.launch(at + 10, 98, name="cudaDeviceSynchronize")
        at += 250
    finding = found(built, synchronisation)
    assert finding is not None
    assert "cudaDeviceSynchronize" in finding.title
    assert finding.advice.index("enable_timing") < finding.advice.index("loss.item()")
