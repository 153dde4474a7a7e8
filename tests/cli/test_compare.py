"""``diagnose compare`` as a user and a CI job meet it, and the recipe of docs/ci.md as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diagnose.cli import main
from diagnose.reading import read
from tests.builders import TraceBuilder, launched

REPO = Path(__file__).resolve().parents[2]
Output = pytest.CaptureFixture[str]


def trace(folder: Path, name: str, mm_us: int = 60, kernel: str = "nvjet", extra: str | None = None) -> Path:
    """Eight steps, each a matmul of ``mm_us`` and perhaps another op of 50 us, and 140 us of nothing."""
    built = TraceBuilder()
    tensor = ((2048, 2048), "bfloat16")
    period = 140 + mm_us + (0 if extra is None else 50)
    for number in range(8):
        at = period * number
        built.step(number, at, period)
        launched(built, "aten::mm", [tensor, tensor], at + 20, mm_us, kernel=kernel)
        if extra is not None:
            launched(built, extra, [tensor], at + 30 + mm_us, 50, kernel="another_kernel")
    return built.write(folder / f"{name}.json.gz")


def compared(capsys: Output, *arguments: str | Path) -> tuple[int, str, str]:
    status = main(["compare", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_trace_does_not_differ_from_itself(tmp_path: Path, capsys: Output) -> None:
    path = trace(tmp_path, "one")
    status, out, err = compared(
        capsys, path, path, "--fail-on", "step_time:+0%", "--fail-on", "kernel:mm:+0%", "--strict"
    )
    assert (status, err) == (0, "")
    assert out.startswith("Verdict: no difference: ")


def test_a_slower_kernel_is_the_cause_whatever_it_is_called(tmp_path: Path, capsys: Output) -> None:
    before, after = trace(tmp_path, "before"), trace(tmp_path, "after", mm_us=120, kernel="cutlass_new")
    status, out, _ = compared(capsys, before, after, "--fail-on", "step_time:+5%", "--fail-on", "kernel:nvjet:+150%")
    assert status == 1
    first = " ".join(out.split("Noise:")[0].split())
    assert "slower by" in first
    assert "mostly mm +" in first
    assert re.search(r"^crossed +step_time:\+5%", out, re.MULTILINE)
    assert re.search(r"^held +kernel:nvjet:\+150%.*\(\+100 %\)", out, re.MULTILINE)


def test_a_saved_report_serves_as_well_as_its_trace(tmp_path: Path, capsys: Output) -> None:
    before, after = trace(tmp_path, "before"), trace(tmp_path, "after", extra="aten::cos")
    saved = tmp_path / "baseline.json.gz"
    read(before).save(saved)
    whole = compared(capsys, before, after, "--format", "json")
    from_report = compared(capsys, saved, after, "--format", "json")
    assert whole == from_report
    found = json.loads(whole[1])
    assert "cos" in found["verdict"]
    differences = [row["after_ns"] - row["before_ns"] for row in found["changes"]]
    assert sum(differences) == found["step_after_ns"] - found["step_before_ns"]


def test_the_format_can_be_markdown_and_go_to_a_file(tmp_path: Path, capsys: Output) -> None:
    path, target = trace(tmp_path, "one"), tmp_path / "out.md"
    status, out, err = compared(capsys, path, path, "--format", "markdown", "-o", target)
    assert (status, out) == (0, "")
    assert "wrote" in err
    assert target.read_text().startswith("### no difference")


def test_a_threshold_that_cannot_be_judged_is_no_success(tmp_path: Path, capsys: Output) -> None:
    path = trace(tmp_path, "one")
    status, out, err = compared(capsys, path, path, "--fail-on", "peak_memory:+5%")
    assert status == 2
    assert "Verdict" in out
    assert err == "diagnose: --fail-on peak_memory:+5%: after: not known\n"


@pytest.mark.parametrize("expression", ["speed:+5%", "step_time", "kernel:nonesuch:+5%", "step_time:5%"])
def test_bad_usage_is_one_line(tmp_path: Path, capsys: Output, expression: str) -> None:
    path = trace(tmp_path, "one")
    status, out, err = compared(capsys, path, path, "--fail-on", expression)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert expression in err


def test_what_is_no_trace_is_one_line(tmp_path: Path, capsys: Output) -> None:
    status, _, err = compared(capsys, trace(tmp_path, "one"), tmp_path / "missing.json")
    assert status == 2
    assert err.count("\n") == 1


def test_comparing_traces_imports_neither_torch_nor_pandas_nor_matplotlib(tmp_path: Path) -> None:
    path = str(trace(tmp_path, "one"))
    code = (
        "import sys\nfrom diagnose.cli import main\n"
        f"main(['compare', {path!r}, {path!r}])\n"
        "print([name for name in ('torch', 'pandas', 'matplotlib') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def recipe(name: str) -> str:
    """A block of docs/ci.md by the comment above it."""
    found = re.search(rf"<!-- recipe:{name} -->\n```\w+\n(.*?)```", (REPO / "docs" / "ci.md").read_text(), re.DOTALL)
    assert found is not None, name
    return found[1]


def test_the_recipe_of_the_documentation_runs(tmp_path: Path) -> None:
    """GIVEN docs/ci.md WHEN its three blocks run one after the other THEN the summary has the verdict."""
    pytest.importorskip("torch")
    (tmp_path / "record_step.py").write_text(recipe("record"))
    script = f'diagnose() {{ "{sys.executable}" -m diagnose "$@"; }}\npython() {{ "{sys.executable}" "$@"; }}\n'
    summary = tmp_path / "summary.md"
    done = subprocess.run(
        ["bash", "-ec", script + recipe("baseline") + recipe("compare").replace("+50%", "+400%")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO), "GITHUB_STEP_SUMMARY": str(summary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = summary.read_text()
    assert text.startswith("### ")
    assert "| held | `step_time:+400%` |" in text
    assert "wall" not in text.split("\n")[0]
