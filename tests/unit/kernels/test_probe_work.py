"""The probes' hand-written work against what their arithmetic does when carried out, and against torch's counter."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from diagnose.kernels import collective, gemm, launch, link, polynomial, resident, special, stream


def test_a_product_by_a_loop_and_by_torchs_counter() -> None:
    m, n, k = 3, 4, 5
    operations = sum(2 for _ in range(m) for _ in range(n) for _ in range(k))
    assert gemm.flops((m, n, k)) == operations
    with FlopCounterMode(display=False) as counted:
        gemm.build((m, n, k), "float32")()
    assert counted.get_total_flops() == operations


@pytest.mark.parametrize(("dtype", "given", "made"), [("float64", 8, 8), ("tfloat32", 4, 4), ("bfloat16", 2, 2),
                                                      ("float8", 1, 2), ("int8", 1, 4)])  # fmt: skip
def test_a_products_bytes(dtype: str, given: int, made: int) -> None:
    assert gemm.bytes_accessed((16, 32, 64), dtype) == (16 * 64 + 64 * 32) * given + 16 * 32 * made


@pytest.mark.parametrize("dtype", [dtype for dtype in gemm.DTYPES if dtype not in ("float8", "float16")])
def test_every_type_multiplies(dtype: str) -> None:
    out = gemm.build((16, 32, 64), dtype)()
    assert isinstance(out, torch.Tensor)
    assert (out.shape, out.dtype) == ((16, 32), gemm.DTYPES[dtype][1])
    assert out.float().abs().sum() > 0, "random data, never zeros"


def test_the_tf32_switch_is_put_back() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    with gemm.arithmetic("tfloat32"):
        assert matmul.fp32_precision == "tf32"
    with gemm.arithmetic("float32"):
        assert matmul.fp32_precision == "ieee"
    assert matmul.fp32_precision == before


def test_streams_by_the_tensors_they_touch() -> None:
    one = torch.zeros(10).nbytes
    arrays = {"read": 1, "write": 1, "copy": 2, "triad": 3}
    assert {pattern: stream.bytes_accessed(pattern, 10) for pattern in arrays} == {
        pattern: count * one for pattern, count in arrays.items()
    }
    assert [stream.flops(pattern, 10) for pattern in ("read", "write", "copy", "triad")] == [10, 0, 0, 20]


def test_streams_do_what_they_say() -> None:
    results = {pattern: stream.build(pattern, 100_000)() for pattern in stream.ARRAYS}
    assert all(isinstance(result, torch.Tensor) for result in results.values())
    assert 100_000 * 0.9 < float(results["read"]) < 100_000 * 1.1  # values around 1
    assert float(results["write"].min()) == float(results["write"].max()) == pytest.approx(0.7)
    assert float(results["copy"].min()) >= 0.5
    assert float(results["triad"].min()) >= 0.75


def test_resident_reads_every_element_every_round() -> None:
    sums = resident.build(1000, 7)()
    assert isinstance(sums, torch.Tensor)
    assert sums.shape == (7,)
    assert torch.allclose(sums, sums[0].expand(7))
    assert resident.flops(1000, 7) == 7000
    assert resident.bytes_accessed(1000) == 4000
    assert resident.bytes_through_cache(1000, 7) == 28000


@pytest.mark.parametrize("steps", [1, 16, 17, 40])
def test_the_dials_operations_by_its_own_graph(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []

    def uncompiled(module: torch.fx.GraphModule, **_: object) -> torch.fx.GraphModule:
        graphs.append(module)
        return module

    monkeypatch.setattr(torch, "compile", uncompiled)
    monkeypatch.setattr(polynomial, "fusion", lambda _: "compiled")
    out = polynomial.build(8, steps)()
    assert isinstance(out, torch.Tensor)
    assert bool(((out > 0) & (out < 3 * steps)).all())
    operations = [node for node in graphs[0].graph.nodes if node.op == "call_function"]
    assert polynomial.flops(8, steps) == 8 * len(operations)
    assert polynomial.bytes_accessed(8, steps) == 8 * (4 + 4)


def test_the_dial_without_fusion_says_that_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "")
    monkeypatch.setattr(polynomial.shutil, "which", lambda _: None)
    assert polynomial.fusion() is None
    polynomial.build(8, 3)()
    # Three kernels, each reading y and x and writing y; an intensity that no number of steps raises.
    assert polynomial.bytes_accessed(8, 3, is_fused=False) == 3 * 3 * 4 * 8
    with pytest.raises(ValueError, match="from 1 to 512"):
        polynomial.build(8, 513)


@pytest.mark.parametrize(("function", "of_one"), [("exp", math.e), ("tanh", math.tanh(1.0))])
def test_special_functions(function: str, of_one: float) -> None:
    out = special.build(function, 64, 2)()
    assert out is None
    assert special.special_ops(64, 2) == 128
    assert special.bytes_accessed(64, 2, is_fused=False) == 2 * special.bytes_accessed(64)
    assert float(getattr(torch, function)(torch.ones(()))) == pytest.approx(of_one)


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_collectives_as_rings_send_them(processes: int) -> None:
    n = 1024 * processes
    chunk, steps = n // processes, processes - 1
    assert collective.bytes_accessed("reduce_scatter", n, processes) == steps * chunk
    assert collective.bytes_accessed("all_gather", n, processes) == steps * chunk
    assert collective.bytes_accessed("all_reduce", n, processes) == 2 * steps * chunk
    assert collective.bytes_accessed("send", n, processes) == n
    assert collective.flops("all_reduce", n, processes) == processes * steps * (chunk // 4)
    assert collective.flops("all_gather", n, processes) == 0


def test_links_and_launches() -> None:
    assert (link.flops(1 << 20), link.bytes_accessed(1 << 20)) == (0, 1 << 20)
    assert (launch.flops(), launch.bytes_accessed()) == (1, 8)


def test_gaps_between_kernels_leave_pauses_out() -> None:
    spans = [(0, 100), (110, 200), (212, 300), (311, 400), (90_000, 90_100), (90_110, 90_200)]
    durations, gaps = launch.slots(spans)
    assert durations == [100, 90, 88, 89, 100, 90]
    assert gaps == [10, 12, 11, 10]
