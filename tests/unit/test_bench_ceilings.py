"""What `make bench` asks of this CPU's roof, on rows that were recorded: quiet, busy, and wrong."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

WALK = [("M=1", "memory", 0.59), ("M=2", "memory", 0.31), ("M=4", "memory", 0.24), ("M=8", "compute", 0.22),
        ("M=16", "compute", 0.30), ("M=32", "compute", 0.41), ("M=64", "compute", 0.56)]  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "ceilings.py"
    spec = importlib.util.spec_from_file_location("bench_ceilings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_large_product_and_a_large_copy(bench: ModuleType) -> None:
    assert bench.complaint_of_large(("matmul 2048", "compute", 0.88), "compute") is None
    assert bench.complaint_of_large(("copy", "memory", 0.81), "memory") is None
    assert bench.complaint_of_large(("copy", "compute", 0.81), "memory") == (
        "copy: memory-bound by construction, but called compute"
    )
    assert bench.complaint_of_large(("copy", "memory", 0.41), "memory") == "copy: reached 41% of its roof, below 60%"
    assert "nothing known" in str(bench.complaint_of_large(("copy", "memory", None), "memory"))


def test_the_walk_from_memory_to_compute(bench: ModuleType) -> None:
    assert bench.complaint_of_walk(WALK) is None
    assert "must begin memory-bound" in bench.complaint_of_walk(WALK[3:])
    assert "must begin memory-bound" in bench.complaint_of_walk(WALK[:3])
    assert "changes its bound 3 times" in bench.complaint_of_walk([WALK[0], WALK[5], WALK[1], WALK[6]])
