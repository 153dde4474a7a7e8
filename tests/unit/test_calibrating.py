"""diagnose.calibrate(): measured, kept, compared with the one before, and in force from then on."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from builders import TraceBuilder, launched
from calibrations import H100, QuietWatch, calibrated, ceiling

import diagnose
from diagnose import calibrating
from diagnose.calibrations import in_force
from diagnose.calibrations import store as calibration_store
from diagnose.calibrations.calibrated import Probe
from diagnose.calibrations.identity import cpu_identity
from diagnose.calibrations.stages import Stage
from diagnose.calibrations.store import keep, kept
from diagnose.errors import DiagnoseError, UsageError
from diagnose.schema import Ceiling

VALUES = {"tensor.float32": 95e9, "dram": 30e9, "l2": 90e9, "cache.L1": 200e9, "kernel_floor": 2.5e-7}


def stage(resource: str, value: float) -> Stage:
    return Stage(
        resource, 0.1, lambda _: [Probe(resource, f"probe of {resource}", value, value * 0.98, value * 1.02, 7)]
    )


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Stage]:
    """What a calibration of the CPU consists of; a test may change it."""
    monkeypatch.setenv("TORCH_DIAGNOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(calibrating, "CpuWatch", QuietWatch)
    made = [stage(resource, value) for resource, value in VALUES.items()]
    monkeypatch.setattr(calibrating, "cpu_stages", lambda **_: made)
    return made


@pytest.mark.usefixtures("stages")
def test_a_calibration_is_a_table_and_is_kept() -> None:
    told: list[tuple[float, str]] = []
    found = diagnose.calibrate(quick=True, progress=lambda *each: told.append(each))
    assert {row.resource: row.achievable for row in found.ceilings} == VALUES
    assert told[-1] == (1.0, "done")
    assert (kept()[0], found.repeat) == ([found.calibrated], None)
    assert found.path is not None
    text = str(found)
    assert "tensor.float32  95.0 GFLOP/s  -2.0% +2.0%  probe of tensor.float32, median of 7 runs" in text
    assert "cache.L1        200 GB/s" in text
    assert "kernel_floor    0.25 us" in text
    assert "datasheet" not in text
    assert found.to_frame()["resource"].tolist() == list(VALUES)
    assert msgspec.json.decode(found.to_json())["identity"]["kind"] == "cpu"


@pytest.mark.usefixtures("stages")
def test_it_need_not_be_kept() -> None:
    assert diagnose.calibrate(save=False).path is None
    assert kept() == ([], [])


def test_a_second_one_is_compared_with_the_first(stages: list[Stage]) -> None:
    diagnose.calibrate()
    repeat = diagnose.calibrate().repeat
    assert repeat is not None
    assert repeat.startswith("it repeats the calibration before: all 5 medians")
    stages[1] = stage("dram", 20e9)
    repeat = diagnose.calibrate().repeat
    assert repeat is not None
    assert repeat.startswith("this machine is noisy: 1 of 5 medians differ")
    assert "dram by 33.3%" in repeat


def test_a_quick_one_keeps_what_only_a_full_one_measures(stages: list[Stage]) -> None:
    stages.append(stage("vector.float32", 200e9))
    diagnose.calibrate()
    stages.pop()
    found = diagnose.calibrate(quick=True)
    assert {row.resource for row in found.ceilings} == {*VALUES, "vector.float32"}
    assert "kept from the calibration of" in found.calibrated.notes[-1]


def test_what_is_no_roof_is_not_in_force(stages: list[Stage]) -> None:
    wild = Stage("dram", 0.1, lambda _: [Probe("dram", "copy", 10e9, 8e9, 30e9, 7)])
    stages[1] = wild
    unfit = diagnose.calibrate()
    assert unfit.calibrated.unfit == "half of the runs of dram are 220% apart: that is no roof"
    assert "not in force: half of the runs" in str(unfit)
    assert unfit.path is not None
    assert calibration_store.kept_for(unfit.calibrated.identity) == (None, None)
    stages[1] = stage("dram", 30e9)
    fit = diagnose.calibrate()
    assert "this machine is noisy" in str(fit), "the unfit one is what it is compared with"
    stages[1] = wild
    again = diagnose.calibrate()
    assert again.path is None
    assert "stays in force" in again.calibrated.notes[-1]
    assert calibration_store.kept_for(fit.calibrated.identity) == (fit.calibrated, None)


def test_nothing_measured_is_an_error(stages: list[Stage]) -> None:
    def refuse(_: float) -> list[Probe]:
        raise RuntimeError("no")

    stages[:] = [Stage("memory", 1.0, refuse)]
    with pytest.raises(DiagnoseError, match=r"nothing could be measured on .*memory: not measured: no"):
        diagnose.calibrate()


@pytest.mark.usefixtures("stages")
@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:-1", "", "cuda", "cuda:7"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(UsageError):
        diagnose.calibrate(device=device)


def test_above_the_datasheet_somebody_should_look() -> None:
    row = Ceiling("cuda:0", "dram", 4e12, 3.35e12, None, None, "measured", "")
    assert calibrating._above_datasheet((row,)) == [
        "measured above the datasheet, which is then wrong for this device: dram"
    ]
    assert calibrating._above_datasheet((msgspec.structs.replace(row, achievable=3.4e12),)) == []


# ---- In force: recordings made here


@pytest.mark.usefixtures("stages")
def test_a_recording_made_here_carries_it(tmp_path: Path) -> None:
    diagnose.calibrate()
    a = torch.rand(64, 64)
    with diagnose.profile() as session:
        torch.mm(a, a)
    assert session.report is not None
    document = session.report.document
    assert {row.resource: row.achievable for row in document.ceilings} == VALUES
    assert any("the ceilings are those of `diagnose calibrate` on" in note for note in document.notes)
    session.save(tmp_path / "step.json.gz")
    for path in (tmp_path / "cache").iterdir():
        path.unlink()
    assert diagnose.read(tmp_path / "step.json.gz").document.ceilings == document.ceilings


@pytest.mark.usefixtures("stages")
def test_one_for_other_threads_is_not_used_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    diagnose.calibrate()
    monkeypatch.setattr(in_force, "cpu_ceilings", lambda _: ([ceiling("dram", 1.0)], None))
    rows, notes = in_force.cpu_roofs(torch.get_num_threads() + 1)
    assert [row.achievable for row in rows] == [1.0]
    assert "is for another number of threads, and not used" in notes[0]


@pytest.mark.usefixtures("stages")
def test_a_card_calibrated_here(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = {0: H100, 1: msgspec.structs.replace(H100, uuid="another")}
    monkeypatch.setattr(in_force, "gpu_identity", cards.__getitem__)
    keep(calibrated([ceiling("dram", 3e12, device="cuda:0")], cards[1]))
    rows, notes = in_force.gpu_roofs([0, 1])
    assert [(row.device, row.achievable) for row in rows] == [("cuda:1", 3e12)]
    assert notes == ["cuda:1: the ceilings are those of `diagnose calibrate` on 2026-09-21, of this very card"]


def test_a_machine_is_told_from_another_without_its_name() -> None:
    identity = cpu_identity(2)
    assert (identity.kind, identity.threads, identity.torch) == ("cpu", 2, str(torch.__version__))
    assert identity.uuid is not None
    assert len(identity.uuid) == 16


# ---- In force: recordings of others, read here


def foreign(tmp_path: Path, name: str = H100.name, **header: Any) -> Path:
    built = TraceBuilder(None)
    built.header(name, computeMajor=9, computeMinor=0, numSms=132, totalGlobalMem=85_000_000_000, **header)
    tensor = ((2048, 2048), "bfloat16")
    launched(built, "aten::mm", [tensor, tensor], 20, 50)
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(built.bytes()))
    return path


@pytest.fixture
def calibrated_h100(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_DIAGNOSE_CACHE", str(tmp_path / "cache"))
    keep(calibrated([ceiling("dram", 3.01e12), ceiling("tensor.bfloat16", 777e12)], H100))


@pytest.mark.usefixtures("calibrated_h100")
def test_a_foreign_recording_of_such_a_card_takes_it_and_says_whose_it_is(tmp_path: Path) -> None:
    document = diagnose.read(foreign(tmp_path)).document
    rows = {row.resource: row for row in document.ceilings}
    assert (rows["dram"].achievable, rows["dram"].datasheet, rows["dram"].device) == (3.01e12, 3350e9, "cuda:0")
    assert rows["tensor.bfloat16"].origin == "measured"
    assert rows["tensor.float8"].origin != "measured", "what was not measured is the table's"
    (note,) = [note for note in document.notes if "diagnose calibrate" in note]
    assert "measured on this machine's NVIDIA H100 80GB HBM3 on 2026-09-21" in note
    assert "if the recording is of another card, `--device` with its name takes the table's" in note


@pytest.mark.usefixtures("calibrated_h100")
@pytest.mark.parametrize("options", [{"device": H100.name}, {}])
def test_it_is_not_taken_for_a_named_device_or_another_part(options: dict[str, str], tmp_path: Path) -> None:
    path = foreign(tmp_path) if options else foreign(tmp_path, "NVIDIA H200")
    assert not any(row.origin == "measured" for row in diagnose.read(path, **options).document.ceilings)


@pytest.mark.usefixtures("calibrated_h100")
def test_a_device_without_a_row_has_what_was_measured(tmp_path: Path) -> None:
    keep(calibrated([ceiling("dram", 9e12)], msgspec.structs.replace(H100, name="NVIDIA H300")))
    document = diagnose.read(foreign(tmp_path, "NVIDIA H300")).document
    assert {row.resource: row.achievable for row in document.ceilings if row.origin == "measured"} == {"dram": 9e12}
    assert not any("no ceilings are known" in note for note in document.notes)
