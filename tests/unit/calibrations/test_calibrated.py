"""A calibration as a value: the best probe is the ceiling, and two calibrations agree or it is said why not."""

from __future__ import annotations

import msgspec
import pytest
from calibrations import CPU, calibrated, ceiling

from diagnose.calibrations.calibrated import (
    Identity,
    Probe,
    best_of,
    ceilings_of,
    differences,
    rate_probe,
    repeat_sentence,
    spread_warning,
    time_probe,
)


def test_a_rate_is_the_median_with_its_quartiles() -> None:
    probe = rate_probe("dram", "copy", 100, [1.0, 2.0, 4.0, 5.0, 10.0])
    assert (probe.low, probe.value, probe.high, probe.runs) == (20.0, 25.0, 50.0, 5)
    assert probe.spread == pytest.approx(30 / 25)


def test_a_floor_is_the_shortest_hundredth() -> None:
    durations = [*(1e-6 for _ in range(2)), *(2e-6 for _ in range(98))]
    probe = time_probe("kernel_floor", "negation", durations, 1)
    assert (probe.value, probe.low, probe.high) == (1e-6, 1e-6, 2e-6)


def test_the_best_of_each_resource() -> None:
    probes = [
        Probe("dram", "read", 30.0, 29.0, 31.0, 7),
        Probe("kernel_floor", "neg", 2e-6, 2e-6, 3e-6, 7),
        Probe("dram", "copy", 35.0, 34.0, 36.0, 7),
        Probe("kernel_floor", "fill", 1e-6, 1e-6, 2e-6, 7),
        Probe("dram", "pageable", 99.0, 99.0, 99.0, 7, is_ceiling=False),
        Probe("l2", "broken", float("inf"), 1.0, 1.0, 7),
    ]
    assert [(probe.resource, probe.name) for probe in best_of(probes)] == [("dram", "copy"), ("kernel_floor", "fill")]


def test_ceilings_keep_the_datasheet_beside() -> None:
    probes = [Probe("dram", "copy", 2.9e12, 2.8e12, 3.0e12, 7), Probe("special", "exp", 1e12, 1e12, 1e12, 7)]
    dram, unit = ceilings_of(probes, "cuda:1", {"dram": 3.35e12})
    assert (dram.device, dram.achievable, dram.datasheet, dram.origin) == ("cuda:1", 2.9e12, 3.35e12, "measured")
    assert (dram.low, dram.high, dram.source) == (2.8e12, 3.0e12, "copy, median of 7 runs")
    assert unit.datasheet is None


# ---- Two calibrations: recorded on the machine that this was written on, quiet and beside other work

QUIET = (
    ceiling("tensor.float32", 98.4e9, 96.9e9, 99.3e9), ceiling("dram", 39.0e9, 37.9e9, 40.1e9),
    ceiling("kernel_floor", 2.3e-7, 2.3e-7, 2.5e-7),
)  # fmt: skip
AGAIN = (
    ceiling("tensor.float32", 97.2e9, 96.1e9, 98.5e9), ceiling("dram", 38.1e9, 37.2e9, 39.3e9),
    ceiling("kernel_floor", 2.4e-7, 2.4e-7, 2.5e-7),
)  # fmt: skip
BUSY = (
    ceiling("tensor.float32", 94.3e9, 89.9e9, 96.3e9), ceiling("dram", 29.7e9, 28.1e9, 31.2e9),
    ceiling("kernel_floor", 3.4e-7, 3.4e-7, 3.7e-7),
)  # fmt: skip
SHARED = "the machine is shared: other processes took 0.6 of 2 processors meanwhile"


def test_two_quiet_calibrations_agree() -> None:
    first, second = calibrated(QUIET), calibrated(AGAIN)
    assert [each.is_repeated for each in differences(first, second)] == [True, True, True]
    assert repeat_sentence(first, second) == (
        "it repeats the calibration before: all 3 medians differ by less than their quartiles do, the farthest by 4.3%"
    )


def test_a_busy_machine_is_called_noisy_and_why() -> None:
    first, second = calibrated(QUIET), calibrated(BUSY, warnings=(SHARED,))
    moved = {each.resource: each.is_repeated for each in differences(first, second)}
    assert moved == {"tensor.float32": True, "dram": False, "kernel_floor": False}
    said = repeat_sentence(first, second)
    assert said == (
        "this machine is noisy: 2 of 3 medians differ from the calibration before by more than their quartiles do, "
        f"or by more than 10% (kernel_floor by 47.8%, dram by 23.8%). Why: {SHARED}"
    )


def test_an_unexplained_difference_says_that_nothing_explains_it() -> None:
    said = repeat_sentence(calibrated(QUIET), calibrated(BUSY))
    assert said is not None
    assert "nothing that was watched says why" in said


def test_nothing_in_common_says_nothing() -> None:
    assert repeat_sentence(calibrated(QUIET[:1]), calibrated(BUSY[1:])) is None


def test_runs_that_disagree_are_a_warning() -> None:
    steady, wild = Probe("dram", "copy", 30.0, 29.0, 31.0, 7), Probe("l2", "read", 60.0, 50.0, 62.0, 7)
    assert spread_warning([steady]) is None
    warning = spread_warning([steady, wild])
    assert warning == "the runs disagree: quartiles more than 10% apart for 1 resources (l2 20%)"


# ---- What it holds for


@pytest.mark.parametrize(
    ("change", "word"),
    [({"driver": "550"}, "driver"), ({"torch": "2.14"}, "torch"), ({"power_limit_w": 400}, "power limit"),
     ({"uuid": "b"}, "card"), ({"name": "other"}, "name")],
)  # fmt: skip
def test_what_makes_two_devices_differ(change: dict[str, object], word: str) -> None:
    one = Identity(kind="gpu", name="A", uuid="a", driver="535", torch="2.13", power_limit_w=700)
    other = msgspec.structs.replace(one, **change)
    assert one.differs_by(other) == [word]
    assert one.differs_by(one) == []


def test_what_is_unknown_does_not_differ() -> None:
    with_nvml = Identity(kind="gpu", name="A", uuid="a", driver="535", power_limit_w=700)
    without = Identity(kind="gpu", name="A", uuid="a")
    assert with_nvml.differs_by(without) == []


def test_a_cpu_differs_by_threads_and_machine() -> None:
    other = msgspec.structs.replace(CPU, threads=8, uuid="another")
    assert CPU.differs_by(other) == ["machine", "number of threads"]
