"""The page of figures: nothing on it that no result holds, and plain words where nothing was measured on a GPU."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from benchmarks.gpu.accuracy import load, page

RESULTS = Path("benchmarks/gpu/results")


@pytest.fixture
def results(repo: Path) -> list[dict]:
    return [load(path.parent) for path in sorted((repo / RESULTS).glob("*/compare.json"))]


def test_the_page_in_the_repository_is_what_its_results_give(repo: Path, results: list[dict]) -> None:
    traces = json.loads((repo / RESULTS / "published.json").read_text())
    assert (repo / "docs" / "accuracy.md").read_text() == page(results, traces)


def on_gpu(result: dict) -> dict:
    found = copy.deepcopy(result)
    found["compare"]["facts"] |= {"device": "cuda:0", "device_name": "NVIDIA made up"}
    found["compare"]["is_small"] = False
    return found


def counted() -> dict:
    miss = {
        "kernel": "k", "op": "aten::mm", "calls": 1, "time_ns": 9e6, "efficiency": 0.5, "bytes": 2e6, "dram_bytes": 4e6,
        "l2_bytes": 8e6, "why": "", "bound": "compute", "flags": "", "theirs": "memory", "sm_percent": 40.0,
        "memory_percent": 90.0,
    }  # fmt: skip
    return {
        "flops": {}, "bytes": {}, "bytes_pairs": {"matmul": [[0.5, 3.0], [-0.1, 1.0]]}, "byte_misses": [miss],
        "agreed_share": 0.75, "judged_ns": 4e6, "unjudged_ns": 1e6, "disagreements": [miss], "unknown_share": 0.0,
        "above_roof": [miss], "built_to_be": "compute", "bound": "compute", "efficiency": 0.5,
    }  # fmt: skip


def test_without_a_gpu_the_page_says_so_first(results: list[dict]) -> None:
    only_cpu = [each for each in results if each["compare"]["facts"]["device"] == "cpu"]
    text = page(only_cpu)
    assert "**Nothing on this page has been measured on a GPU yet.**" in text
    assert "Bytes against DRAM counters\n" not in text
    assert text.index("Nothing on this page") < text.index("## ")


def test_with_a_gpu_bytes_and_bounds_are_there_with_their_misses(results: list[dict]) -> None:
    result = on_gpu(results[0])
    result["compare"]["workloads"] = {"made": counted()}
    result["advise"] = {"pairs": {"tf32": {"gained_ns": 5000.0, "prediction": "no prediction yet"}}}
    result["replay"] = {"scenarios": {"slower": {"measured_change_ns": 9000.0, "predicted_change_ns": 8000.0}}}
    text = page([result, *results])
    assert "Nothing on this page" not in text
    assert text.index("NVIDIA made up") < text.index(results[0]["compare"]["facts"]["device_name"])
    # Errors 0.5 (three quarters of the time) and 0.1: median 30 %, by time 40 %.
    assert "| matmul | 2 | 30 % | 46 % | 50 % | 40 % |" in text
    assert "| made | aten::mm | 2.0 | 4.0 | not known |" in text
    assert "| made | 75 % | 4.00 | 1.00 |" in text
    assert "| made | aten::mm | compute |  | memory | 40 / 90 |" in text
    assert "| tf32 | 5.0 | no prediction yet |" in text
    assert "| slower | 9.0 | 8.0 |" in text
    assert "| made | compute | compute | 50 % |" in text


def test_refused_counters_are_said_on_the_page(results: list[dict]) -> None:
    result = on_gpu(results[0])
    result["count"] = {"refused": "Nsight Compute was refused the counters (ERR_NVGPUCTRPERM)"}
    assert "Not compared with counters: Nsight Compute was refused the counters (ERR_NVGPUCTRPERM)." in page([result])


def test_a_wrong_count_is_listed_by_name(results: list[dict]) -> None:
    result = copy.deepcopy(results[0])
    result["compare"]["workloads"]["vit_eager"]["flops"]["matmul"]["ours"] *= 1.5
    text = page([result])
    assert "| vit_eager | matmul | +50.00 % | 0 % |" in text


def test_names_from_a_trace_cannot_break_a_table(results: list[dict]) -> None:
    result = on_gpu(results[0])
    odd = counted()
    odd["byte_misses"][0]["op"] = "a|b\n<script>"
    result["compare"]["workloads"] = {"made": odd}
    text = page([result])
    assert "a\\|b &lt;script>" in text
