"""Ground truth on a GPU by the whole road: probes and workloads are recorded, read back, and called what they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from probes import stream_probe

import diagnose
from diagnose.devices.detect import identify
from diagnose.kernels import gemm, link, stream
from diagnose.roofs.ceilings import Ceilings, from_spec, with_measured
from diagnose.schema import KernelRow

pytestmark = pytest.mark.gpu

DEVICE = "cuda:0"
REPO = Path(__file__).resolve().parents[2]


def longest_row(run) -> KernelRow:
    report = diagnose.measure(torch.no_grad()(run), warmup=2, repeat=3)
    return max(report.kernels, key=lambda row: row.time_ns)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float8", "int8"])
def test_a_recorded_product_is_compute_bound_with_its_flops(dtype: str) -> None:
    shape = (8192, 8192, 8192)
    try:
        run = gemm.build(shape, dtype, DEVICE)
        run()
    except RuntimeError as error:
        pytest.skip(f"no {dtype} product on this device: {error}")
    row = longest_row(run)
    assert row.bound == "compute"
    assert row.flops == gemm.flops(shape)
    assert row.bytes_read + row.bytes_written >= gemm.bytes_accessed(shape, dtype)


@pytest.mark.parametrize("pattern", sorted(stream.ARRAYS))
def test_a_recorded_stream_is_memory_bound_with_its_bytes(pattern: str) -> None:
    n = 1 << 28
    row = longest_row(stream.build(pattern, n, DEVICE))
    assert row.bound == "memory"
    moved = row.bytes_read + row.bytes_written
    # A sum writes its result, and in two kernels its parts.
    assert stream.bytes_accessed(pattern, n) <= moved <= 1.01 * stream.bytes_accessed(pattern, n)


def test_a_recorded_stream_inside_the_cache_is_not_charged_to_dram() -> None:
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    n = l2 // 8 // 4 // 2
    x, y = torch.rand(n, device=DEVICE), torch.rand(n, device=DEVICE)
    row = longest_row(lambda: [y.copy_(x) for _ in range(50)])
    assert row.bound in ("memory", "overhead")
    assert "above-roof" not in row.flags


def test_a_stream_in_the_cache_is_cache_resident() -> None:
    found = torch.cuda.get_device_properties(0)
    spec = identify(found.name, (found.major, found.minor), found.multi_processor_count, found.total_memory).spec
    table = Ceilings(DEVICE, ()) if spec is None else from_spec(DEVICE, spec)
    measured = with_measured(table, diagnose.calibrate(quick=True, save=False).ceilings)
    ceilings = Ceilings(DEVICE, measured.rows, found.L2_cache_size, measured.sms)
    built = stream_probe("triad", found.L2_cache_size // 4 // 3 // 4, DEVICE, is_cached=True)
    placement = built.placed(min(built.seconds()), ceilings)
    assert placement.bound in ("memory", "overhead")
    assert "above-roof" not in placement.flags


@pytest.mark.parametrize("is_pinned", [True, False])
@pytest.mark.parametrize("direction", link.DIRECTIONS)
def test_a_recorded_copy_over_the_link_is_communication(direction: str, is_pinned: bool) -> None:
    row = longest_row(link.build(direction, 1 << 28, DEVICE, is_pinned=is_pinned))
    assert row.bound == "communication"
    assert row.bytes_written == 1 << 28


def test_a_replayed_graph_has_the_ops_of_its_capture() -> None:
    x = torch.rand(4096, 4096, device=DEVICE)
    stream_of_capture = torch.cuda.Stream()
    with torch.cuda.stream(stream_of_capture):
        for _ in range(3):
            x @ x
    torch.cuda.synchronize()
    with diagnose.profile() as p:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            x @ x
        graph.replay()
        torch.cuda.synchronize()
    rows = [row for row in p.report.kernels if row.op == "aten::mm"]
    assert rows
    assert rows[0].cost_source in ("capture", "formula")


def test_nsight_compute_counts_the_bytes_of_a_copy(tmp_path: Path) -> None:
    from benchmarks.gpu.count import RefusedError, count_one
    from benchmarks.gpu.environment import Options, find_ncu
    from diagnose.counters.counters import read_counters

    ncu = find_ncu()
    if ncu is None:
        pytest.skip("Nsight Compute is not installed")
    (tmp_path / "counters").mkdir()
    os.environ.setdefault("PYTHONPATH", str(REPO))
    try:
        count_one(ncu, "kernel_stream_copy", Options(tmp_path, DEVICE))
    except RefusedError as error:
        pytest.skip(str(error))
    counted = read_counters(tmp_path / "counters" / "kernel_stream_copy.csv")
    expected = stream.bytes_accessed("copy", 1 << 28)
    assert max(counted.dram_bytes()) == pytest.approx(expected, rel=0.1)


def test_a_marked_step_runs_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.mark", "kernel_gemm_bfloat16", "--device", DEVICE, "--small"],
        cwd=REPO, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
