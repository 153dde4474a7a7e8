"""``diagnose what-if`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diagnose.cli import main
from diagnose.reading import read
from tests.builders import TraceBuilder, launched

Output = pytest.CaptureFixture[str]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    built = TraceBuilder()
    matrix = ((2048, 2048), "bfloat16")
    for number in range(4):
        built.step(number, 100 * number, 100)
        launched(built, "aten::mm", [matrix, matrix], 100 * number + 20, 60, kernel="nvjet")
    return built.write(tmp_path / "trace.json.gz")


def asked(capsys: Output, *arguments: str | Path) -> tuple[int, str, str]:
    status = main(["what-if", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_every_question_alone_and_together(trace: Path, capsys: Output) -> None:
    status, out, err = asked(
        capsys, trace, "--device", "NVIDIA H200", "--batch", "x2", "--dtype", "float8", "--fuse", "--graph",
        "--link", "900e9",
    )  # fmt: skip
    assert (status, err) == (0, "")
    for words in ("device NVIDIA H200", "batch x2", "dtype float8", "fuse", "graph", "link 900 GB/s", "together"):
        assert words in out
    assert "Assumes:" in out


def test_json_is_what_the_report_gives(trace: Path, capsys: Output) -> None:
    status, out, _ = asked(capsys, trace, "--batch", "x2", "--format", "json")
    assert status == 0
    assert json.loads(out) == json.loads(read(trace).what_if(batch=2).to_json())


def test_markdown_goes_to_a_file(trace: Path, capsys: Output, tmp_path: Path) -> None:
    target = tmp_path / "out.md"
    status, out, err = asked(capsys, trace, "--graph", "--format", "markdown", "-o", target)
    assert (status, out) == (0, "")
    assert "wrote" in err
    assert target.read_text().startswith("**NVIDIA H100")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "ask for something"),
        (("--device", "NVIDIA H1000"), "no row for the device"),
        (("--batch", "many"), "no factor"),
        (("--link", "fast"), "--link"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(trace: Path, capsys: Output, arguments: tuple[str, ...], says: str) -> None:
    status, out, err = asked(capsys, trace, *arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_saved_report_is_refused(trace: Path, capsys: Output, tmp_path: Path) -> None:
    saved = tmp_path / "report.json"
    read(trace).save(saved)
    status, _, err = asked(capsys, saved, "--batch", "x2")
    assert status == 2
    assert "saved report" in err
