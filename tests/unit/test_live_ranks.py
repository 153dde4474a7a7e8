"""Real processes: a gloo job of four ranks under torchrun, one of them slow on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import diagnose

REPO = Path(__file__).resolve().parents[2]
SLOW = 2
STEPS = 3
SLEEP_NS = 60_000_000

SCRIPT = """
import sys, time
import torch, torch.distributed as dist
import diagnose

dist.init_process_group("gloo")
rank = dist.get_rank()
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(128, 128))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with diagnose.profile(wait=1, warmup=1, active=3, out=sys.argv[1]) as p:
    for _ in range(7):
        batch = torch.randn(32, 128)
        if rank == 2:
            time.sleep(0.06)
            for _ in range(3):
                batch = batch @ torch.randn(128, 1024) @ torch.randn(1024, 128)
        model(batch).sum().backward()  # the call
        optimizer.step()
        optimizer.zero_grad()
        p.step()
dist.destroy_process_group()
"""
CALL = f"job.py:{1 + [line.endswith('# the call') for line in SCRIPT.splitlines()].index(True)}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("job")
    (home / "job.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", "job.py", "out"]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    return home / "out"


def test_every_rank_writes_its_own_file(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [f"rank{rank}.json.gz" for rank in range(4)]


def test_the_slow_rank_is_named_and_the_others_wait(folder: Path) -> None:
    report = diagnose.read_ranks(folder)
    assert [row.rank for row in report.table] == [0, 1, 2, 3]
    assert f"rank {SLOW} is last" in report.verdict
    gradients = [row for row in report.collectives if row.bytes == 4 * (128 * 128 + 128)]
    steps = [f"ProfilerStep#{step}" for step in range(2, 2 + STEPS)]
    assert [row.step for row in gradients] == steps, (report.collectives, report.offsets, report.notes)
    for row in gradients:
        assert row.last_rank == SLOW
        assert row.is_complete
        # It slept that long at least; the others were ready and waited.
        assert all(wait > SLEEP_NS / 2 for rank, wait in zip(row.ranks, row.wait_ns, strict=True) if rank != SLOW)
        assert row.wait_ns[SLOW] == 0
    by_rank = {row.rank: row for row in report.table}
    assert all(row.waiting_ns > 5 * by_rank[SLOW].waiting_ns for row in report.table if row.rank != SLOW)


def test_what_it_did_instead_is_python_outside_any_op(folder: Path) -> None:
    for row in diagnose.read_ranks(folder).collectives:
        if row.last_rank == SLOW and row.late_ns > SLEEP_NS / 2:
            assert row.instead[0].part == "idle_launch"
            assert row.instead[0].more_ns > SLEEP_NS / 2


def test_waiting_is_communication_in_each_ranks_own_report(folder: Path) -> None:
    for rank, report in diagnose.read_ranks(folder).reports.items():
        share = sum(row.share for row in report.waterfall if row.step is None and row.bound == "communication")
        assert share > 0.5 if rank != SLOW else share < 0.5


def test_one_clock_needs_no_correction_but_for_what_a_busy_host_delays(folder: Path) -> None:
    applied = [row.offset_ns or 0 for row in diagnose.read_ranks(folder).offsets if row.is_applied]
    assert all(abs(ns) < SLEEP_NS / 4 for ns in applied)


def test_every_ranks_kernels_have_their_lines(folder: Path) -> None:
    """They come from one step more, with stacks, also where gloo's threads are about."""
    for report in diagnose.read_ranks(folder).reports.values():
        assert {place.line for row in report.kernels if row.op == "aten::addmm" for place in row.places} == {CALL}
