"""The three lines: which kind is named, when two are, and what stands instead when nothing is known."""

from __future__ import annotations

import msgspec
import pytest

from diagnose.schema import BOUND_OF_PART, Finding, Interval, KernelRow, RecordingCost, Step, Verdict, WaterfallRow
from diagnose.verdict import IdleCause, decide, median_step, with_finding
from tests.report_documents import kernel_of

NO_COST = RecordingCost(None, None)


def water(step: int, device: str = "cuda:0", **parts: int) -> list[WaterfallRow]:
    wall = sum(parts.values())
    return [
        WaterfallRow(None, device, step, part, BOUND_OF_PART[part], ns, ns / wall)  # type: ignore[arg-type]
        for part, ns in parts.items()
    ]


def steps(*walls: int, steady: tuple[bool, ...] | None = None) -> list[Step]:
    flags = steady or (True,) * len(walls)
    return [Step(f"s{index}", 0, wall, flag) for index, (wall, flag) in enumerate(zip(walls, flags, strict=True))]


def decided(cost: RecordingCost = NO_COST, kernels: list[KernelRow] | None = None, **parts: int) -> Verdict:
    return decide(steps(sum(parts.values())), water(0, **parts), kernels or [], cost)


@pytest.mark.parametrize(
    ("parts", "bound", "runner_up"),
    [
        ({"compute_roof": 40, "compute_above_roof": 30, "memory_roof": 20, "small_kernels": 10}, "compute", "memory"),
        ({"memory_roof": 30, "memory_above_roof": 30, "compute_roof": 40}, "memory", "compute"),
        ({"exposed_communication": 40, "exposed_copy": 15, "compute_roof": 45}, "communication", "compute"),
        ({"idle_launch": 30, "idle_sync": 20, "small_kernels": 10, "memory_roof": 40}, "overhead", "memory"),
        ({"compute_roof": 100}, "compute", None),
    ],
)
def test_the_largest_kind_is_the_bound(parts: dict[str, int], bound: str, runner_up: str | None) -> None:
    found = decided(**parts)
    assert (found.bound, found.runner_up) == (bound, runner_up)
    assert "-bound: " in found.verdict
    assert "undecided" not in found.verdict
    assert found.undecided_ns == 0


def test_the_share_is_of_the_wall() -> None:
    found = decided(compute_roof=600, memory_roof=150, idle_unknown=250)
    assert found.share == pytest.approx(0.6)
    assert found.undecided_ns == 250
    assert "60 %" in found.verdict


def test_time_of_no_kind_beyond_the_lead_leaves_two_candidates() -> None:
    found = decided(compute_roof=400, memory_roof=300, uncosted=100, idle_unknown=200)
    assert found.bound == "compute"
    assert "compute (40 %) or memory bandwidth (30 %), undecided" in found.verdict
    assert "20 % idle, with no record of why" in found.verdict


def test_exactly_the_lead_is_still_decided() -> None:
    assert "undecided" not in decided(compute_roof=400, memory_roof=300, uncosted=100).verdict
    assert "undecided" in decided(compute_roof=400, memory_roof=300, uncosted=101).verdict


def test_what_recording_cost_can_exceed_the_lead() -> None:
    found = decided(RecordingCost(500, 650), idle_launch=500, memory_roof=400)
    assert "recording itself added 150 ns" in found.verdict
    assert "recording" not in decided(RecordingCost(500, 550), idle_launch=500, memory_roof=400).verdict
    # A plain step slower than a recorded one is noise, and costs nothing.
    assert "recording" not in decided(RecordingCost(900, 650), idle_launch=500, memory_roof=400).verdict


def test_the_next_step_is_about_what_is_unknown_if_that_is_larger() -> None:
    assert "uncosted" in decided(compute_roof=10, uncosted=90).next
    assert "uncosted" not in decided(compute_roof=90, uncosted=10).next


def test_nothing_known_is_no_verdict() -> None:
    found = decided(uncosted=60, idle_unknown=40)
    assert found.bound is None
    assert found.share is None
    assert found.verdict.startswith("undecided")


def test_nothing_ran_is_no_verdict() -> None:
    found = decide(steps(100), water(0, idle_unknown=100), [], NO_COST)
    assert found.bound is None
    assert "no device activity" in found.verdict
    assert decide(steps(0), [], [], NO_COST).bound is None


def test_the_evidence_is_the_largest_kernel_of_that_kind() -> None:
    kernels = [
        kernel_of("big_other", "aten::add", 900, bound="memory"),
        kernel_of("gemm", "aten::mm", 500, bound="compute", efficiency=0.42),
    ]
    found = decided(kernels=kernels, compute_roof=100)
    assert "aten::mm" in found.why
    assert "42 %" in found.why


def test_overhead_between_kernels_needs_no_kernel_as_evidence() -> None:
    assert "between kernels" in decided(idle_launch=100, compute_roof=1).why


# ---- Which step


def test_the_median_steady_step_decides() -> None:
    rows = water(0, memory_roof=900) + water(1, compute_roof=100) + water(2, compute_roof=110)
    found = decide(steps(900, 100, 110, steady=(False, True, True)), rows, [], NO_COST)
    assert found.bound == "compute"


@pytest.mark.parametrize(
    ("walls", "steady", "index"),
    [
        ((5,), (True,), 0),
        ((5,), (False,), 0),
        ((9, 1, 5), (True, True, True), 2),
        ((9, 1, 5, 7), (True, True, True, True), 2),  # of two middle ones the shorter
        ((100, 8, 6), (False, True, True), 2),
        ((3, 3, 3), (True, True, True), 1),
    ],
)
def test_median_step(walls: tuple[int, ...], steady: tuple[bool, ...], index: int) -> None:
    assert median_step(steps(*walls, steady=steady)) == index


def test_devices_are_taken_together() -> None:
    rows = water(0, "cuda:0", compute_roof=60, memory_roof=40) + water(0, "cuda:1", memory_roof=100)
    found = decide(steps(100), rows, [], NO_COST)
    assert found.bound == "memory"
    assert found.share == pytest.approx(0.7)


def test_a_verdict_is_plain_data() -> None:
    assert msgspec.json.decode(msgspec.json.encode(decided(compute_roof=1)), type=Verdict).bound == "compute"


# ---- What overhead was spent on


def test_waiting_is_explained_by_its_causes() -> None:
    causes = [
        IdleCause("idle_sync", "aten::item", 600),
        IdleCause("idle_launch", "aten::mm", 250),
        IdleCause("idle_launch", None, 50),
    ]
    parts = {"idle_sync": 600, "idle_launch": 300, "compute_roof": 100}
    found = decide(steps(1000), water(0, **parts), [], NO_COST, causes)
    assert "900 ns: 600 ns after synchronisations and 300 ns for launches that came late" in found.why
    assert "most at aten::item, 600 ns" in found.why
    assert ".item()" in found.next


@pytest.mark.parametrize(
    ("part", "word"),
    [("idle_data", "DataLoader"), ("idle_launch", "CUDA graphs"), ("small_kernels", "fused"), ("idle_gc", "gc.freeze")],
)
def test_advice_on_overhead_follows_its_largest_part(part: str, word: str) -> None:
    assert word in decided(**{part: 80, "compute_roof": 20}).next


def test_a_device_started_inside_the_window_is_said_first() -> None:
    assert decided(idle_startup=80, compute_roof=20).verdict.startswith("the device was started inside the window")


def test_a_capture_inside_the_window_is_no_verdict() -> None:
    found = decide(steps(100), water(0, idle_launch=90, small_kernels=10), [], NO_COST, is_capture=True)
    assert found.bound is None
    assert "graph was captured" in found.verdict


def test_a_bound_is_no_evidence() -> None:
    bounded = kernel_of("half_known", "aten::nonzero", 900, bound="memory", flags=["bounded"])
    sure = kernel_of("copy", "aten::copy_", 500, bound="memory")
    found = decided(kernels=[bounded, sure], memory_roof=100)
    assert "aten::copy_" in found.why
    assert "aten::nonzero" not in found.why


def test_what_rounds_to_nothing_is_not_named() -> None:
    found = decided(uncosted=9790, idle_queued=10, small_kernels=200)
    assert "98 % kernels without known work" in found.verdict
    assert "not started" not in found.verdict


@pytest.mark.parametrize(("reason", "word"), [("shapes were not recorded", "record_shapes=True"), ("odd", "price")])
def test_missing_shapes_are_recorded_and_not_priced(reason: str, word: str) -> None:
    row = kernel_of("gemm", "aten::mm", 900, flags=["uncosted"], reasons=[reason])
    assert word in decided(kernels=[row], uncosted=90, idle_launch=10).next


def test_evidence_says_that_it_is_of_all_steps() -> None:
    rows = water(0, compute_roof=100) + water(1, compute_roof=100)
    mine = [kernel_of("gemm", "aten::mm", 200, bound="compute")]
    assert "in all 2 steps" in decide(steps(100, 100), rows, mine, NO_COST).why
    assert "steps" not in decided(kernels=mine, compute_roof=200).why


def test_a_cpu_is_not_told_of_launches() -> None:
    causes = [IdleCause("idle_launch", None, 80)]
    found = decide(steps(100), water(0, "cpu", idle_launch=80, compute_roof=20), [], NO_COST, causes)
    assert "no op ran for 80 ns: 80 ns in Python between ops" in found.why
    assert "Python" in found.next
    assert "CUDA" not in found.next


def test_kernels_outside_the_steps_are_not_called_unrecorded() -> None:
    found = decide(steps(100), water(0, idle_launch=100), [kernel_of("gemm", "aten::mm", 50)], NO_COST)
    assert found.verdict == "none: what ran on the device ran outside the steps"


def test_kernels_without_known_work_are_not_called_time_between_kernels() -> None:
    assert "between kernels" not in decided(kernels=[kernel_of("gemm", None, 100)], uncosted=100).why


@pytest.mark.parametrize("part", ["compute_roof", "memory_roof", "idle_launch"])
def test_a_cpu_gets_no_advice_for_a_gpu(part: str) -> None:
    found = decide(steps(100), water(0, "cpu", **{part: 98}, small_kernels=2), [], NO_COST)
    assert not any(word in found.next for word in ("TF32", "fp8", "CUDA"))
    assert found.next != decide(steps(100), water(0, "cuda:0", **{part: 98}, small_kernels=2), [], NO_COST).next


def finding(low: int = 1_000_000) -> Finding:
    return Finding(
        rule="launch-bound", bound="overhead", title="the device waits", evidence={}, where=["train.py:7"], claims=[],
        recoverable_ns=Interval(low, 2_000_000, 3_000_000), gap_ns=None,
        advice="model = torch.compile(model)  # once\n# or else", assumes="",
    )  # fmt: skip


def test_the_last_line_is_what_the_first_finding_gives() -> None:
    verdict = with_finding(decided(memory_roof=60, compute_roof=40), [finding(), finding()])
    assert verdict.next == (
        "model = torch.compile(model): saves about 2.00 ms (1.00 ms to 3.00 ms) a step; the device waits, at train.py:7"
    )
    assert ": may save about 2.00 ms (0 ns to 3.00 ms)" in with_finding(verdict, [finding(low=0)]).next


def test_what_has_to_be_known_first_comes_before_any_finding() -> None:
    undecided = decided(uncosted=60, compute_roof=40)
    assert with_finding(undecided, [finding()]) == undecided
    assert with_finding(undecided, []) == undecided


def test_a_call_over_several_lines_is_shown_whole() -> None:
    advice = "loader = DataLoader(data, num_workers=4,  # two a core\n                    prefetch_factor=4)\nmore()"
    found = msgspec.structs.replace(finding(), advice=advice)
    shown = with_finding(decided(memory_roof=60, compute_roof=40), [found]).next
    assert shown.startswith("loader = DataLoader(data, num_workers=4, prefetch_factor=4): saves about")
