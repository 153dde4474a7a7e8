"""``diagnose report`` as a user meets it: formats, files, pipes, terminals, and what it must not import or repeat."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from diagnose.cli import main
from tests.builders import TraceBuilder, launched

REPO = Path(__file__).resolve().parents[2]
Output = pytest.CaptureFixture[str]


def built_trace(kernel: str = "nvjet_tst_64x8", op: str = "aten::mm") -> TraceBuilder:
    built = TraceBuilder()
    tensor = ((2048, 2048), "bfloat16")
    for number in range(3):
        at = 200 * number
        built.step(number, at, 200)
        launched(built, op, [tensor, tensor], at + 20, 60, kernel=kernel)
        launched(built, "aten::relu", [tensor], at + 90, 15, kernel="relu_kernel")
        built.copy("Memcpy HtoD (Pinned -> Device)", at + 110, 20, size=100_000, correlation=built.launch(at + 95, 2))
    return built


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return built_trace().write(tmp_path / "trace.json.gz")


def shown(capsys: Output, *arguments: str | Path) -> str:
    assert main(["report", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "diagnose", *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=REPO, env={**os.environ, **environment},
    )  # fmt: skip


# ---- Formats


def test_text_fits_a_screen_and_opens_with_the_verdict(trace: Path, capsys: Output) -> None:
    lines = shown(capsys, trace).splitlines()
    assert [line.split(":")[0] for line in lines[:1]] == ["Verdict"]
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


def test_json_fits_the_schema(trace: Path, capsys: Output) -> None:
    document = json.loads(shown(capsys, trace, "--format", "json"))
    schema = json.loads((REPO / "diagnose" / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    assert [step["name"] for step in document["window"]["steps"]] == [f"ProfilerStep#{n}" for n in range(3)]
    assert document["source"]["path"] == str(trace)


def test_csv_has_a_line_a_kernel_row(trace: Path, capsys: Output) -> None:
    rows = list(csv.DictReader(io.StringIO(shown(capsys, trace, "--format", "csv"))))
    document = json.loads(shown(capsys, trace, "--format", "json"))
    assert [int(row["time_ns"]) for row in rows] == [row["time_ns"] for row in document["kernels"]]


def test_markdown_has_tables(trace: Path, capsys: Output) -> None:
    text = shown(capsys, trace, "--format", "markdown")
    assert text.startswith("- **Verdict:** ")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) > 6


def test_top_and_sort(trace: Path, capsys: Output) -> None:
    one = shown(capsys, trace, "--top", "1")
    assert "2 more" in one
    assert "relu" not in one.split("Coverage")[0].split("more")[0]
    for sort in ("time", "recoverable", "module"):
        assert shown(capsys, trace, "--sort", sort)


def test_one_step_and_a_window_of_ones_own(trace: Path, capsys: Output) -> None:
    one = json.loads(shown(capsys, trace, "--format", "json", "--step", "1"))
    assert [step["name"] for step in one["window"]["steps"]] == ["ProfilerStep#1"]
    last = json.loads(shown(capsys, trace, "--format", "json", "--window", "Step#[12]"))
    assert [step["name"] for step in last["window"]["steps"]] == ["ProfilerStep#1", "ProfilerStep#2"]


def test_another_device(trace: Path, capsys: Output) -> None:
    document = json.loads(shown(capsys, trace, "--format", "json", "--device", "NVIDIA H200"))
    assert [(row["name"], row["identified_by"]) for row in document["devices"]] == [("NVIDIA H200", "user")]


# ---- A saved report


@pytest.mark.parametrize("output", ["text", "json", "markdown", "csv"])
def test_a_saved_report_shows_the_same(trace: Path, tmp_path: Path, capsys: Output, output: str) -> None:
    saved = tmp_path / "saved.json"
    saved.write_text(shown(capsys, trace, "--format", "json"))
    assert shown(capsys, saved, "--format", output) == shown(capsys, trace, "--format", output)


# ---- Files


def test_output_to_a_file(trace: Path, tmp_path: Path, capsys: Output) -> None:
    expected = shown(capsys, trace, "--format", "json")
    target = tmp_path / "report.json"
    target.write_text("old")
    target.chmod(0o640)
    assert main(["report", str(trace), "--format", "json", "-o", str(target)]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"wrote {target}\n")
    assert target.read_text() == expected
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "trace.json.gz"]


def test_a_file_is_written_whole_or_not_at_all(
    trace: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["report", str(trace), "-o", str(target)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "No space left on device" in err
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "trace.json.gz"]


def test_a_plot(trace: Path, tmp_path: Path, capsys: Output) -> None:
    target = tmp_path / "roofline.png"
    assert main(["report", str(trace), "--plot", str(target)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Verdict")
    assert err == f"wrote {target}\n"
    assert target.read_bytes().startswith(b"\x89PNG")


# ---- Processes, pipes, terminals


def test_python_dash_m(trace: Path, capsys: Output) -> None:
    found = run("report", trace)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == shown(capsys, trace)
    bad = run("report", "nothing.json")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "Traceback" not in bad.stderr


def test_a_reader_that_leaves_early(tmp_path: Path) -> None:
    built = TraceBuilder()
    for index in range(3000):  # far more than a pipe holds
        built.kernel(f"kernel_number_{index}_" + "x" * 50, 10 * index, 5)
    trace = built.write(tmp_path / "trace.json")
    command = [sys.executable, "-m", "diagnose", "report", str(trace), "--format", "json"]
    with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"{\n"
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


def test_a_pipe_gets_plain_text(trace: Path) -> None:
    assert "\x1b" not in run("report", trace, FORCE_COLOR="", TERM="xterm-256color").stdout


def on_terminal(trace: Path, **environment: str) -> str:
    """What a terminal would get."""
    main_end, their_end = pty.openpty()
    variables = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    command = [sys.executable, "-m", "diagnose", "report", str(trace)]
    with subprocess.Popen(
        command, cwd=REPO, stdout=their_end, stdin=subprocess.DEVNULL, env={**variables, "TERM": "xterm", **environment}
    ) as process:
        os.close(their_end)
        got = b""
        try:
            while chunk := os.read(main_end, 65536):
                got += chunk
        except OSError:  # Linux's way of saying that the other end is closed
            pass
        os.close(main_end)
        assert process.wait(30) == 0
    return got.decode()


def test_a_terminal_gets_colour_unless_it_asks_not_to(trace: Path) -> None:
    assert "\x1b[" in on_terminal(trace)
    assert "\x1b" not in on_terminal(trace, NO_COLOR="1")
    assert "\x1b" not in on_terminal(trace, TERM="dumb")


def test_an_output_without_bars_in_its_encoding(trace: Path) -> None:
    found = run("report", trace, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.isascii()


IMPORT_GUARD = """
import sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "pandas", "matplotlib"}:
            raise AssertionError(f"reading a trace imports {name}")

sys.meta_path.insert(0, Guard())
from diagnose.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("output", ["text", "json"])
def test_reading_needs_neither_torch_nor_pandas_nor_matplotlib(trace: Path, output: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", IMPORT_GUARD, "report", trace, "--format", output],
        capture_output=True, text=True, check=False, cwd=REPO,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")


# ---- Strangers' names


EVIL = "\x1b[31mred\x1b]0;title\x07\x00\x08\r\nVerdict: fine\u202e\u2066evil|`<script>alert(1)</script>[link](http://x)"


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    built = built_trace(kernel=EVIL, op=f"evil::{EVIL}")
    built.events[0]["name"] = f"ProfilerStep#0{EVIL}"
    built.header(EVIL, 3)
    return built.write(tmp_path / "evil.json")


@pytest.mark.parametrize("output", ["text", "markdown", "csv"])
def test_control_characters_do_not_reach_the_terminal(evil: Path, capsys: Output, output: str) -> None:
    text = shown(capsys, evil, "--format", output)
    assert not [char for char in text if not (char.isprintable() or char == "\n")]
    assert len([line for line in text.splitlines() if "Verdict" in line[:12]]) <= 1


def test_json_carries_them_escaped(evil: Path, capsys: Output) -> None:
    text = shown(capsys, evil, "--format", "json")
    assert not {"\x1b", "\x07", "\x00", "\x08", "\r"} & set(text)
    assert EVIL in {row["kernel"] for row in json.loads(text)["kernels"]}


def test_markdown_has_no_markup_of_a_stranger(evil: Path, capsys: Output) -> None:
    text = shown(capsys, evil, "--format", "markdown")
    outside_code = "".join(part for line in text.splitlines() for part in line.split("`")[::2])
    assert "<script>" not in outside_code
    assert "](" not in outside_code


def test_unknown_header_keys_are_not_copied(tmp_path: Path, capsys: Output) -> None:
    built = built_trace()
    built.top["environ"] = {"HF_TOKEN": "hf_s3cr3t"}
    built.top["hostname"] = "s3cr3t-host"
    built.top["distributedInfo"] = {"rank": 0, "world_size": 2, "token": "s3cr3t"}
    built.header("NVIDIA H100 80GB HBM3", 1, serial="s3cr3t")
    trace = built.write(tmp_path / "trace.json")
    for output in ("json", "text", "markdown", "csv"):
        assert "s3cr3t" not in shown(capsys, trace, "--format", output)


@pytest.mark.parametrize(("columns", "widest"), [("80", 80), ("40", 80), ("300", 100), ("wide", 100)])
def test_a_pipe_is_as_wide_as_columns_says(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, columns: str, widest: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(built_trace().json()))
    assert main(["report", str(path)]) == 0
    assert 60 < max(map(len, capsys.readouterr().out.splitlines())) <= widest
