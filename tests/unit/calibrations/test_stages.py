from __future__ import annotations

import pytest

from diagnose.calibrations import stages
from diagnose.calibrations.calibrated import Probe
from diagnose.calibrations.stages import Stage, run_stages

ONE = Probe("dram", "copy", 1.0, 1.0, 1.0, 7)


def test_time_is_shared_and_progress_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now, given, told = [0.0], {}, []

    def stage(name: str, takes: float) -> Stage:
        def run(seconds: float) -> list[Probe]:
            given[name] = seconds
            now[0] += takes
            return [ONE]

        return Stage(name, 0.5 if name == "first" else 0.25, run)

    monkeypatch.setattr(stages.time, "monotonic", lambda: now[0])
    probes, notes = run_stages(
        [stage("first", 6.0), stage("second", 1.0), stage("third", 9.0)], 10.0, lambda *each: told.append(each)
    )
    assert given == {"first": 5.0, "second": 2.0, "third": 3.0}
    assert told == [(0.0, "first"), (0.5, "second"), (0.75, "third"), (1.0, "done")]
    assert (probes, notes) == ([ONE] * 3, [])


def test_what_cannot_be_measured_is_a_note() -> None:
    def refuse(_: float) -> list[Probe]:
        raise RuntimeError('"mm" not implemented for Half\nand a long story')

    found = run_stages(
        [Stage("matmul float16", 0.5, refuse), Stage("x", 0.1, lambda _: []), Stage("y", 0.5, lambda _: [ONE])], 1.0
    )
    assert found == (
        [ONE],
        ['matmul float16: not measured: "mm" not implemented for Half',
         "x: not measured: torch cannot do it on this device"],
    )  # fmt: skip


def test_no_time_left_is_zero_seconds() -> None:
    given: list[float] = []

    def run(seconds: float) -> list[Probe]:
        given.append(seconds)
        return [ONE]

    run_stages([Stage("late", 1.0, run)], -5.0)
    assert given == [0.0]
