"""One small training recording and its whole report, kept in ``training_step.json``.

A change of the report shows up here as a diff of that file, to be looked at and committed with the change:
``DIAGNOSE_UPDATE_GOLDEN=1 pytest tests/golden`` writes it again. What can be worked out by hand is asserted beside it,
so that the file cannot drift into nonsense.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.render.json import to_json
from tests.builders import TraceBuilder, launched

GOLDEN = Path(__file__).with_name("training_step.json")

M, K, N = 4096, 1024, 4096
X, W, Y = ((M, K), "bfloat16"), ((K, N), "bfloat16"), ((M, N), "bfloat16")
STEP_US = 1000
LATE_US = 100
"""How far the device ends after the host."""


def training_step() -> TraceBuilder:
    """Two steps: data in, a matmul and relu forward, two matmuls backward beside an all-reduce, an optimizer's kernel.

    On the device, from the step's start: copy 20 to 420, mm 420 to 480, relu 490 to 520, both matmuls 600 to 730,
    all-reduce 700 to 900 (170 exposed), optimizer 950 to 1100, which is after the mark's end.
    """
    built = TraceBuilder()
    built.distributed(rank=1, world_size=8)
    for number in range(2):
        at = number * STEP_US
        built.step(7 + number, at, STEP_US)
        copy = built.launch(at + 2, 5, name="cudaMemcpyAsync")
        built.copy("Memcpy HtoD (Pinned -> Device)", at + 20, 400, size=16 << 20, correlation=copy)
        launched(built, "aten::mm", [X, W], at + 420, 60, kernel="nvjet_tst_128x256", launch_at=at + 20)
        launched(built, "aten::relu", [Y], at + 490, 30, kernel="relu_kernel", launch_at=at + 40)
        built.op("autograd::engine::evaluate_function: MmBackward0", at + 100, 50, thread=200)
        for index, inputs in enumerate(([Y, ((N, K), "bfloat16", (1, N))], [((K, M), "bfloat16", (1, K)), Y])):
            begin = at + 110 + 20 * index
            external = built.op("aten::mm", begin, 10, thread=200, inputs=inputs)
            correlation = built.launch(begin + 2, 3, thread=200, external_id=external)
            built.kernel("nvjet_tst_128x128", at + 600 + 65 * index, 65, correlation=correlation)
        built.collective(at + 700, 200, elements=K * N, dtype="BFloat16", correlation=built.launch(at + 160, 3))
        launched(built, "custom::optimizer", None, at + 950, 150, kernel="their_kernel", launch_at=at + 200)
    return built


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_json(analyse(training_step().reading())))
    found["tool"]["version"] = "any"
    # What the roofs are is the table's matter and tested there.
    del found["ceilings"], found["ridges"]
    return found


def test_the_report_is_the_one_that_was_kept(document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=1) + "\n"
    if os.environ.get("DIAGNOSE_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert document == json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return found


def parts(kept: dict[str, Any], step: int | None) -> dict[str, int]:
    return {row["part"]: row["ns"] for row in kept["waterfall"] if row["step"] == step}


def rows(kept: dict[str, Any], kernel: str) -> list[dict[str, Any]]:
    return [row for row in kept["kernels"] if row["kernel"].startswith(kernel)]


def test_steps_by_hand(kept: dict[str, Any]) -> None:
    assert [(row["name"], row["start_ns"], row["wall_ns"], row["steady"]) for row in kept["window"]["steps"]] == [
        ("ProfilerStep#7", 0, 1_100_000, False),
        ("ProfilerStep#8", 1_100_000, 1_000_000, True),
    ]


def test_the_second_steps_waterfall_by_hand(kept: dict[str, Any]) -> None:
    found = parts(kept, 1)
    # It begins 100 us into its mark, when 80 us of its copy have been hidden behind the optimizer of the step before.
    assert found["exposed_copy"] == 320_000
    assert found["exposed_communication"] == 170_000
    assert found["uncosted"] == 150_000
    assert found["compute_roof"] + found["compute_above_roof"] == 60_000 + 130_000
    assert found["memory_roof"] + found["memory_above_roof"] == 30_000
    # All was queued long before: up to two usual gaps are the price of a kernel, the rest waited for nobody knows what.
    assert found["idle_slot"] + found["idle_queued"] == (490 - 480 + 600 - 520 + 950 - 900) * 1000
    assert found["idle_slot"] < 3 * 2 * 3_000
    assert sum(found.values()) == 1_000_000


def test_sums(kept: dict[str, Any]) -> None:
    whole = parts(kept, None)
    for part, ns in whole.items():
        assert ns == parts(kept, 0).get(part, 0) + parts(kept, 1).get(part, 0)
    assert sum(whole.values()) == kept["window"]["wall_ns"] == 2_100_000
    owned = sum(row["exposed_ns"] for row in kept["kernels"])
    assert owned == 2_100_000 - sum(ns for part, ns in whole.items() if part.startswith("idle_"))
    assert sum(row["share"] for row in kept["kernels"]) == pytest.approx(1)
    coverage = kept["coverage"]
    assert (
        coverage["kernel_ns"]
        == sum(row["time_ns"] for row in kept["kernels"])
        == 2 * (400 + 60 + 30 + 130 + 200 + 150) * 1000
    )


def test_work_by_hand(kept: dict[str, Any]) -> None:
    products = rows(kept, "nvjet")
    assert {row["flops"] for row in products} == {2 * M * K * N}
    assert {row["bytes_read"] + row["bytes_written"] for row in products} == {2 * (M * K + K * N + M * N)}
    assert sum(row["calls"] for row in products) == 6
    (relu,) = rows(kept, "relu")
    assert (relu["bytes_read"], relu["bytes_written"]) == (2 * M * N, 2 * M * N)
    (collective,) = rows(kept, "nccl")
    assert collective["bytes_read"] == 2 * K * N
    (optimizer,) = rows(kept, "their_kernel")
    assert (optimizer["flops"], optimizer["bound"], optimizer["cost_source"]) == (None, None, None)


def test_bounds_by_hand(kept: dict[str, Any]) -> None:
    bounds = {row["kernel"]: row["bound"] for row in kept["kernels"]}
    assert bounds == {
        "Memcpy HtoD (Pinned -> Device)": "communication",
        "ncclDevKernel_AllReduce_Sum_f32_RING_LL": "communication",
        "nvjet_tst_128x256": "compute",
        "nvjet_tst_128x128": "compute",
        "relu_kernel": "memory",
        "their_kernel": None,
    }
    assert kept["verdict"]["bound"] == "communication"
    assert kept["verdict"]["share"] == pytest.approx(0.49)


def test_derived_columns(kept: dict[str, Any]) -> None:
    for row in kept["kernels"]:
        if row["flops"] is None:
            continue
        per_call_s = row["time_ns"] / row["calls"] / 1e9
        moved = row["bytes_read"] + row["bytes_written"]
        assert row["achieved_flops_per_s"] == pytest.approx(row["flops"] / per_call_s)
        assert row["achieved_bytes_per_s"] == pytest.approx(moved / per_call_s)
        assert row["arithmetic_intensity"] == pytest.approx(row["flops"] / moved)
        if row["roof_ns"] is not None:
            assert row["efficiency"] == pytest.approx(row["roof_ns"] / (per_call_s * 1e9))
