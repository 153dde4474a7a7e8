from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from calibrations import QuietWatch

from diagnose import calibrating
from diagnose.calibrations.calibrated import Probe
from diagnose.calibrations.stages import Stage
from diagnose.cli import main


@pytest.fixture(autouse=True)
def one_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_DIAGNOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(calibrating, "CpuWatch", QuietWatch)
    probe = Probe("dram", "copy over 128 MiB", 30e9, 29e9, 31e9, 7)
    monkeypatch.setattr(calibrating, "cpu_stages", lambda **_: [Stage("memory", 1.0, lambda _: [probe])])


def test_the_table_goes_to_stdout_and_progress_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--quick"]) == 0
    shown = capsys.readouterr()
    assert "dram      30.0 GB/s  -3.3% +3.3%  copy over 128 MiB, median of 7 runs" in shown.out
    assert "  0% memory\n100% done\nkept in " in shown.err
    assert "kept in" not in shown.out


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ceilings"][0]["achievable"] == 30e9
    assert (found["is_quick"], found["identity"]["kind"], found["repeat"]) == (False, "cpu", None)


def test_devices_shows_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["devices"])
    assert "no calibration is kept: `diagnose calibrate` measures" in capsys.readouterr().out
    main(["calibrate", "--quick"])
    (tmp_path / "cache" / "old.json").write_text("{")
    capsys.readouterr()
    assert main(["devices"]) == 0
    shown = capsys.readouterr().out
    assert "calibrated here:" in shown
    assert "copy over 128 MiB, median of 7 runs" in shown
    assert "old.json in" in shown
    assert main(["devices", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["calibrations"]
    assert found["ceilings"][0]["resource"] == "dram"


def test_no_such_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--device", "cuda:3"]) == 2
    assert "there is no 'cuda:3' to calibrate: torch sees 0 CUDA devices" in capsys.readouterr().err
