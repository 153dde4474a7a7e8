"""Each probe is a program of its own: it prints its row, and collectives start their own processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from diagnose.kernels import collective, gemm, link, polynomial, resident, special, stream, timing

ROW = re.compile(r"^(\w+) .*: \d+ FLOP, \d+ bytes, \d\.\d+e-\d+ s \(quartiles .* runs\), \S+ FLOP/s, \S+ B/s$")


def alone(repo: Path, *program: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(repo)}
    done = subprocess.run(
        [sys.executable, *program], capture_output=True, text=True, env=environment, cwd=repo, check=True
    )
    return done.stdout.strip()


def test_it_runs_as_a_module_with_processes_of_its_own(repo: Path) -> None:
    shown = alone(repo, "-m", "diagnose.kernels.collective", "--n", "4096", "--processes", "2", "--runs", "2")
    found = ROW.match(shown)
    assert found is not None, shown
    assert found.group(1) == "collective"


def test_it_runs_as_a_file_too(repo: Path) -> None:
    shown = alone(repo, str(repo / "kernels" / "launch.py"), "--runs", "3")
    assert shown.startswith("launch aten::neg_ cpu: <= 1 FLOP, <= 8 bytes")


@pytest.mark.parametrize("probe", [gemm, polynomial, resident, special, stream])
def test_it_prints_its_row(
    probe: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = probe.__name__.rpartition(".")[2]
    size = ["--shape", "64", "64", "64"] if name == "gemm" else ["--n", "4096"]
    monkeypatch.setattr(sys, "argv", [name, *size, "--runs", "2"])
    monkeypatch.setattr(polynomial, "fusion", lambda _: None)  # compiling takes seconds
    probe.main()
    shown = capsys.readouterr().out.strip()
    found = ROW.match(shown)
    assert found is not None, shown
    assert found.group(1) == name


def test_without_a_link_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["link"])
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        link.main()
    assert "torch sees no accelerator" in capsys.readouterr().err


def test_a_rank_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match="of 1 processes failed"):
        collective.start("all_reduce", 4096, 1, device_type="no_such_device", runs=1)


# ---- Timing


def test_a_run_is_long_enough_for_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(pass_s=1e-6)
    monkeypatch.setattr(timing.time, "perf_counter", clock.now)
    seconds = timing.time_runs(clock.run, runs=4)
    assert len(seconds) == 4
    assert seconds == pytest.approx([1e-6] * 4)
    assert clock.passes > 4 * timing.LEAST_RUN_S["cpu"] / 1e-6


@pytest.mark.parametrize(("pass_s", "seconds", "runs"), [(1e-3, 0.1, 98), (1e-3, 100.0, timing.MAX_RUNS),
                                                         (30e-3, 0.1, timing.MIN_RUNS), (1.0, 0.1, 2)])  # fmt: skip
def test_as_many_runs_as_there_is_time_for(
    pass_s: float, seconds: float, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(pass_s)
    monkeypatch.setattr(timing.time, "perf_counter", clock.now)
    assert len(timing.time_runs(clock.run, seconds=seconds)) == pytest.approx(runs, abs=1)


class Clock:
    """Time goes on only while a pass runs."""

    def __init__(self, pass_s: float) -> None:
        self._pass_s = pass_s
        self.passes = 0

    def now(self) -> float:
        return self.passes * self._pass_s

    def run(self) -> None:
        self.passes += 1


def test_quartiles() -> None:
    assert timing.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
    assert timing.quartiles([7.0]) == (7.0, 7.0, 7.0)
