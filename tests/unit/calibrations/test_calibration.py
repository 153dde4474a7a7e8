from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from diagnose.calibrations import calibration
from diagnose.calibrations.calibration import cpu_ceilings
from diagnose.calibrations.stages import run_stages
from diagnose.kernels import gemm, polynomial, resident, stream


@pytest.fixture(scope="module")
def rows() -> dict[str, calibration.Ceiling]:
    found, _ = cpu_ceilings(1, 0.4)
    return {row.resource: row for row in found}


def test_the_roofs_of_a_cpu(rows: dict[str, calibration.Ceiling]) -> None:
    assert {"tensor.float32", "dram", "l2", "kernel_floor"} <= set(rows)
    assert not any(resource.startswith("vector") for resource in rows), "none is measured, so none is claimed"
    for row in rows.values():
        assert (row.device, row.origin, row.datasheet) == ("cpu", "measured", None)
        assert "1 threads" in row.source


def test_the_roofs_are_of_this_world(rows: dict[str, calibration.Ceiling]) -> None:
    assert 1e9 < rows["tensor.float32"].achievable < 1e13
    assert 5e8 < rows["dram"].achievable < 1e12
    assert 1e-8 < rows["kernel_floor"].achievable < 1e-4


def test_achievable_is_the_best_of_the_runs(rows: dict[str, calibration.Ceiling]) -> None:
    for resource in ("tensor.float32", "dram", "l2"):
        row = rows[resource]
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.high <= row.achievable


def test_measured_once_a_process(rows: dict[str, calibration.Ceiling]) -> None:
    start = time.perf_counter()
    again, facts = cpu_ceilings(1, 0.4)
    assert time.perf_counter() - start < 0.1
    assert {row.resource: row for row in again} == rows
    assert facts.threads == 1


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with calibration._torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_dtype_without_a_matmul_has_no_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> list[float]:
        raise RuntimeError('"addmm" not implemented for')

    monkeypatch.setattr(gemm, "measure", refuse)
    assert calibration._matmul("float32", 1.0) == []
    assert calibration._matmul_probes("float32", 1.0) == []


# ---- The steps of a calibration, on times that are made up


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 1 GFLOP/s products, 2 GB/s streams and caches, 4 GFLOP/s of vector arithmetic."""

    def at(rate: float, amount: Callable[..., int]) -> Callable[..., list[float]]:
        def measure(*given: Any, runs: int = 5, seconds: float | None = None, **_: Any) -> list[float]:
            return [amount(*given) / rate] * (runs if seconds is None else 5)

        return measure

    monkeypatch.setattr(gemm, "measure", at(1e9, lambda shape, _: gemm.flops(shape)))
    monkeypatch.setattr(stream, "measure", at(2e9, stream.bytes_accessed))
    monkeypatch.setattr(resident, "measure", at(8e9, resident.bytes_through_cache))
    monkeypatch.setattr(polynomial, "measure", at(4e9, polynomial.flops))
    monkeypatch.setattr(polynomial, "fusion", lambda: "compiled")
    monkeypatch.setattr(calibration, "cache_sizes", lambda: {1: 48 << 10, 2: 1 << 20, 3: 32 << 20})


@pytest.mark.usefixtures("made_up")
def test_a_full_calibration_goes_from_cores_to_memory() -> None:
    probes, notes = run_stages(calibration.cpu_stages(is_quick=False), 0.2)
    best = {probe.resource: probe.value for probe in probes}
    assert notes == []
    assert [best[f"tensor.{dtype}"] for dtype in ("float32", "bfloat16", "float16")] == pytest.approx([1e9] * 3)
    assert [best["dram"], best["l2"]] == pytest.approx([2e9] * 2)
    assert [best[f"cache.L{level}"] for level in (1, 2, 3)] == pytest.approx([8e9] * 3)
    assert best["vector.float32"] == pytest.approx(4e9)
    assert {"special", "kernel_floor"} <= set(best)
    assert [probe.is_ceiling for probe in probes if "without FMA" in probe.name] == [False]
    assert {probe.name.split()[0] for probe in probes if probe.resource == "dram"} == {"read", "write", "copy", "triad"}


@pytest.mark.usefixtures("made_up")
def test_a_quick_one_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [stage.name for stage in calibration.cpu_stages(is_quick=True)]
    assert "vector arithmetic" not in names
    assert "matmul float16" not in names
    monkeypatch.setattr(polynomial, "fusion", lambda: None)
    _, notes = run_stages([calibration.cpu_stages(is_quick=False)[-1]], 0.1)
    assert notes == ["vector arithmetic: not measured: no C++ compiler was found"]


@pytest.mark.usefixtures("made_up")
def test_a_slow_type_stays_with_small_sizes() -> None:
    """256 takes 34 ms here, and 512 eight times that: no time for four of them."""
    assert [runs.name for runs in calibration._matmul("float16", 0.3)] == ["matmul n=256 float16"]
    assert len(calibration._matmul("float32", 100.0)) > 3
