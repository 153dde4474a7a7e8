from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import diagnose
from diagnose.demo import run
from diagnose.errors import DiagnoseError, UsageError


@pytest.mark.parametrize("model", ["gpt2", "vit"])
def test_a_demo_leaves_its_files(model: str, tmp_path: Path) -> None:
    demo = run(model, tmp_path / "out", is_small=True)
    expected = {"report.json", "kernels.csv", "roofline.png", "trace.json.gz", "report.html"}
    assert {path.name for path in demo.paths} == expected
    assert json.loads((tmp_path / "out" / "report.json").read_text())["kernels"]
    assert (tmp_path / "out" / "kernels.csv").read_text().count("\n") > 10
    assert (tmp_path / "out" / "roofline.png").read_bytes().startswith(b"\x89PNG")
    again = diagnose.read(tmp_path / "out" / "trace.json.gz")
    assert again.kernels == demo.report.kernels
    assert demo.report.document.recording.step_plain_ns is not None


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UsageError, match="no demo model 'bert'; there are gpt2, vit"):
        run("bert")


def test_without_transformers_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DiagnoseError, match=r"pip install 'torch-diagnose\[demo\]'"):
        run("gpt2", tmp_path)
