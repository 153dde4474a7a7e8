"""What went on beside a measurement, on a machine and a card that are made up."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from calibrations import CPU, H100

from diagnose.calibrations import conditions
from diagnose.calibrations.calibrated import Conditions
from diagnose.calibrations.conditions import CpuWatch, GpuWatch, crowded, gpu_conditions, warnings_of
from diagnose.calibrations.nvml import Sample, find_card, throttle_words

IDLE = Sample(210e6, 70.0, 35.0, 0x1, (), 0.0)


def test_processor_time_of_others_and_of_a_hypervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds on two processors: 12 s busy, 8 of them ours; 2 s stolen."""
    stat, second = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    own, wall = iter((1.0, 9.0)), iter((100.0, 110.0))
    monkeypatch.setattr(conditions, "_own_seconds", lambda: next(own))
    monkeypatch.setattr(conditions, "_load_average", lambda: 0.3)
    monkeypatch.setattr(conditions.time, "perf_counter", lambda: next(wall))
    stat.write_text(f"cpu {50 * second} 0 0 {100 * second} 0 0 0 0 7 0\ncpu0 1 2 3\n")
    with CpuWatch(stat) as watch:
        stat.write_text(f"cpu {60 * second} 0 {2 * second} {106 * second} 0 0 0 {2 * second} 9 0\n")
    found = watch.conditions
    assert found.other_cores == pytest.approx(0.4)
    assert found.stolen == pytest.approx(0.1)
    assert found.load_average == 0.3
    assert [line.split(":")[0] for line in warnings_of(found, CPU)] == [
        "the machine is shared", "the machine is virtual and shared",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, "", "cpu a b c d e f g h", "cpu 1 2 3"])
def test_without_proc_stat_it_is_unknown(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "stat").write_text(content)
    with CpuWatch(tmp_path / "stat") as watch:
        pass
    assert (watch.conditions.other_cores, watch.conditions.stolen) == (None, None)


def test_load_above_the_threads_in_use_is_a_warning() -> None:
    assert warnings_of(Conditions(load_average=1.9, other_cores=0.05, stolen=0.0), CPU) == []
    (warning,) = warnings_of(Conditions(load_average=2.3), CPU)
    assert warning == "the machine was busy before: load average 2.3 above the 2 threads in use"


@pytest.mark.parametrize(("others", "is_crowded"), [(0.0, False), (0.2, False), (0.7, True), (None, False)])
def test_threads_without_a_processor_each(others: float | None, is_crowded: bool) -> None:
    """Recorded: two threads beside 0.7 of two processors read 8.4 GB/s from every cache, a time slice a pass."""
    found = crowded(Conditions(processors=2, other_cores=others), CPU)
    assert (found is not None) == is_crowded
    assert found is None or found.startswith("2 threads beside 0.7 processors' worth of others' work on 2 processors")


def test_a_cards_samples_add_up() -> None:
    samples = [Sample(1980e6, 500.0, 60.0, 0x4, (), 1.0), Sample(1755e6, 699.0, 71.0, 0x44, (), 1.0)]
    found = gpu_conditions(IDLE, samples, is_in_use=False)
    assert found.clock_hz == (1755e6, 1980e6)
    assert (found.power_w, found.temperature_c, found.other_processes) == (699.0, 71.0, 0)
    assert found.throttle_reasons == ("power cap", "thermal slowdown (hardware)")
    assert warnings_of(found, H100) == ["the device was throttled: thermal slowdown (hardware)"]


def test_a_power_cap_alone_is_the_cards_own_roof() -> None:
    found = gpu_conditions(IDLE, [Sample(1755e6, 699.0, 71.0, 0x4, (), 1.0)], is_in_use=False)
    assert found.throttle_reasons == ("power cap",)
    assert warnings_of(found, H100) == []


@pytest.mark.parametrize(
    ("pids", "is_in_use", "others"),
    [((), False, 0), ((7,), False, 1), ((7,), True, 0), ((7, 8), True, 1), (None, False, None)],
)  # fmt: skip
def test_other_processes_on_the_card(pids: tuple[int, ...] | None, is_in_use: bool, others: int | None) -> None:
    before = Sample(None, None, None, None, pids, None)
    assert gpu_conditions(before, [], is_in_use=is_in_use).other_processes == others


def test_a_shared_card_is_a_warning() -> None:
    assert warnings_of(Conditions(other_processes=2), H100) == [
        "the device is shared: 2 other processes had a context on it"
    ]
    assert warnings_of(Conditions(other_processes=0, utilization=0.4), H100) == [
        "the device is shared: it was busy 40% of the time before"
    ]


def test_nothing_known_warns_of_nothing() -> None:
    with GpuWatch(None, is_in_use=False) as watch:
        pass
    assert watch.conditions == Conditions()
    assert warnings_of(watch.conditions, H100) == []


# ---- NVML


class RefusedError(Exception):
    pass


def library(**changes: Any) -> SimpleNamespace:
    """pynvml as far as it is used, for one card."""

    def by_uuid(uuid: str) -> str:
        if uuid != "GPU-u":
            raise RefusedError
        return "card"

    functions = {
        "NVMLError": RefusedError, "NVML_CLOCK_SM": 1, "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None, "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlSystemGetDriverVersion": lambda: b"570.1", "nvmlDeviceGetEnforcedPowerLimit": lambda _: 699_999,
        "nvmlDeviceGetClockInfo": lambda *_: 1980, "nvmlDeviceGetPowerUsage": lambda _: 650_000,
        "nvmlDeviceGetTemperature": lambda *_: 61, "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: 0x5,
        "nvmlDeviceGetComputeRunningProcesses": lambda _: [SimpleNamespace(pid=7)],
        "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=99),
    }  # fmt: skip
    return SimpleNamespace(**(functions | changes))


def test_a_card_by_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library())
    card = find_card("u")
    assert card is not None
    assert (card.driver, card.power_limit_w) == ("570.1", 700)
    assert card.sample() == Sample(1980e6, 650.0, 61.0, 0x5, (7,), 0.99)
    assert find_card("another") is None
    with GpuWatch(card, is_in_use=True) as watch:
        pass
    assert watch.conditions.other_processes == 0


def test_what_a_card_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RefusedError

    fake = library(nvmlDeviceGetPowerUsage=refuse, nvmlDeviceGetEnforcedPowerLimit=refuse)
    del fake.nvmlDeviceGetCurrentClocksThrottleReasons
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    card = find_card("GPU-u")
    assert card is not None
    assert card.power_limit_w is None
    assert (card.sample().power_w, card.sample().throttle_bits, card.sample().clock_hz) == (None, None, 1980e6)


@pytest.mark.parametrize("fake", [None, library(nvmlInit=lambda: (_ for _ in ()).throw(RefusedError()))])
def test_without_the_library_or_a_driver_there_is_no_card(fake: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert find_card("u") is None


def test_idle_is_no_reason() -> None:
    assert throttle_words(0x1) == ()
    assert throttle_words(0x88) == ("hardware slowdown", "power brake (hardware)")
