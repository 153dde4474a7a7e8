"""A GPU's calibration on times that are made up: which probe gives which ceiling. The real ones are in tests/gpu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from diagnose.calibrations import calibration_gpu
from diagnose.calibrations.calibrated import best_of, ceilings_of
from diagnose.calibrations.calibration_gpu import Gpu, gpu_stages, resource_of
from diagnose.calibrations.stages import run_stages
from diagnose.devices.detect import lookup
from diagnose.kernels import collective, gemm, launch, link, polynomial, resident, special, stream
from diagnose.roofs.ceilings import from_spec

H100 = lookup("NVIDIA H100 80GB HBM3")
GPU = Gpu(0, 80 << 30, 50 << 20, is_amd=False, spec=H100)
RATES = {"float64": 52e12, "float32": 48e12, "tfloat32": 390e12, "float16": 790e12, "bfloat16": 795e12,
         "float8": 1400e12, "int8": 1500e12}  # fmt: skip


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(rate: Callable[..., float], amount: Callable[..., float]) -> Callable[..., list[float]]:
        def measure(*given: Any, **options: Any) -> list[float]:
            for how_long in {"seconds", "passes"} & set(options):
                del options[how_long]
            return [amount(*given) / rate(*given, **options)] * 5

        return measure

    monkeypatch.setattr(gemm, "measure", at(lambda _, dtype, __: RATES[dtype], lambda shape, *_: gemm.flops(shape)))
    stream_rate = {"read": 3.0e12, "write": 2.8e12, "copy": 2.9e12, "triad": 2.95e12}
    monkeypatch.setattr(
        stream, "measure", at(lambda pattern, *_: stream_rate[pattern], lambda p, n, _: stream.bytes_accessed(p, n))
    )
    monkeypatch.setattr(resident, "measure", at(lambda *_: 5.6e12, lambda n, r, _: resident.bytes_through_cache(n, r)))
    dial_rate = {True: 60e12, False: 31e12}
    monkeypatch.setattr(polynomial, "measure", at(lambda *_, has_fma: dial_rate[has_fma], polynomial.flops))
    monkeypatch.setattr(polynomial, "fusion", lambda _: "triton")
    monkeypatch.setattr(special, "measure", at(lambda name, *_: {"exp": 4e12, "tanh": 2e12}[name],
                                               lambda _, n, r, __: special.special_ops(n, r)))  # fmt: skip
    monkeypatch.setattr(special, "is_fused", lambda _: True)
    pinned = {True: 55e9, False: 9e9}
    monkeypatch.setattr(link, "measure", at(lambda *_, is_pinned: pinned[is_pinned], lambda _, n, __: n))
    monkeypatch.setattr(link, "measure_peer", at(lambda *_: 390e9, lambda n, *_: n))
    monkeypatch.setattr(
        collective, "start", lambda operation, n, count, _: [collective.bytes_accessed(operation, n, count) / 350e9] * 7
    )
    made = launch.GpuLaunch([1100] * 50 + [1300] * 350, [1200] * 300, [4e-6] * 3, [2.2e-6] * 7)
    monkeypatch.setattr(launch, "measure_gpu", lambda _: made)


def test_every_ceiling_of_an_h100() -> None:
    probes, notes = run_stages(gpu_stages(GPU, 1, is_quick=False), 60.0)
    assert notes == []
    assert {probe.resource: round(probe.value, 9) for probe in best_of(probes)} == {
        "kernel_floor": 1.1e-6, "kernel_gap": 1.2e-6, "launch_call": 4e-6,
        "tensor.bfloat16": 795e12, "tensor.float16": 790e12, "tensor.tfloat32": 390e12, "tensor.float8": 1400e12,
        "tensor.int8": 1500e12, "tensor.float64": 52e12,
        "vector.float32": 60e12,  # the polynomial, not the product: the best of what the unit reached
        "dram": 3.0e12, "l2": 5.6e12, "special": 4e12, "link.host": 55e9,
    }  # fmt: skip
    told = {probe.name: probe.value for probe in probes if not probe.is_ceiling}
    assert told["polynomial of 256 steps, without FMA"] == pytest.approx(31e12)
    assert told["copy to host, pageable memory"] == pytest.approx(9e9)


def test_the_datasheet_stands_beside() -> None:
    probes, _ = run_stages(gpu_stages(GPU, 1, is_quick=True), 60.0)
    sheet = {row.resource: row.datasheet for row in from_spec("cuda:0", H100).rows}
    rows = {row.resource: row for row in ceilings_of(probes, "cuda:0", sheet)}
    assert rows["dram"].datasheet == 3350e9
    assert rows["tensor.bfloat16"].datasheet == pytest.approx(989.5e12)
    assert all(row.achievable <= row.datasheet for row in rows.values() if row.datasheet is not None)


def test_peers_and_collectives_where_there_are_several() -> None:
    names = [stage.name for stage in gpu_stages(GPU, 4, is_quick=True)]
    assert "link to a peer" in names
    assert "collectives" not in names
    probes, _ = run_stages(gpu_stages(GPU, 4, is_quick=False)[-2:], 10.0)
    assert {probe.name.split()[0] for probe in probes} == {"copy", "all_reduce", "all_gather", "reduce_scatter", "send"}
    assert {probe.resource for probe in best_of(probes)} == {"link.peer"}


def test_which_unit_multiplies() -> None:
    amd = Gpu(0, 192 << 30, None, is_amd=True, spec=lookup("AMD Instinct MI300X"))
    consumer = Gpu(0, 24 << 30, None, is_amd=False, spec=lookup("NVIDIA GeForce RTX 4090"))
    assert resource_of("float32", GPU) == "vector.float32"
    assert resource_of("float64", GPU) == "tensor.float64"
    assert resource_of("tfloat32", GPU) == "tensor.tfloat32"
    assert resource_of("float32", amd) == "tensor.float32"
    assert resource_of("float64", consumer) == "vector.float64"
    assert not any("tfloat32" in stage.name for stage in gpu_stages(amd, 1, is_quick=True))


def test_a_large_shape_is_begun_only_if_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RATES, "float64", 0.5e12)  # a consumer's card: 4096 cubed takes 0.27 s
    short = calibration_gpu._matmul_probes(GPU, "float64", False, 1.0)
    long = calibration_gpu._matmul_probes(GPU, "float64", False, 1000.0)
    assert {probe.name for probe in short} < {probe.name for probe in long}
    assert len(long) == len(gemm.TOP_SHAPES)
    assert short


def test_without_triton_what_needs_it_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polynomial, "fusion", lambda _: None)
    monkeypatch.setattr(special, "is_fused", lambda _: False)
    probes, notes = run_stages(gpu_stages(GPU, 1, is_quick=True), 60.0)
    assert notes == [
        "vector arithmetic: not measured: there is no Triton", "exp and tanh: not measured: there is no Triton",
    ]  # fmt: skip
    assert {probe.resource: probe.value for probe in best_of(probes)}["vector.float32"] == pytest.approx(48e12)
