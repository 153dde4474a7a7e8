"""What is no trace, and what should not have been asked: exit status 2, one line on stderr, nothing on stdout."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from diagnose.cli import main
from tests.builders import TraceBuilder, launched

Output = pytest.CaptureFixture[str]


def small() -> TraceBuilder:
    built = TraceBuilder()
    built.step(0, 0, 100)
    tensor = ((512, 512), "bfloat16")
    launched(built, "aten::mm", [tensor, tensor], 20, 30, kernel="nvjet_tst_64x8")
    return built


def refused(capsys: Output, *arguments: str | Path) -> str:
    """The one line that a refused command prints."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("diagnose: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert err.removesuffix("\n").isprintable()
    return err


def file_of(tmp_path: Path, content: bytes | str, name: str = "trace.json") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_no_such_file(tmp_path: Path, capsys: Output) -> None:
    assert "nothing.json: cannot be read: No such file" in refused(capsys, "report", tmp_path / "nothing.json")


def test_a_directory(tmp_path: Path, capsys: Output) -> None:
    assert "no .json or .json.gz file in this folder" in refused(capsys, "report", tmp_path)


def test_a_file_name_with_control_characters(tmp_path: Path, capsys: Output) -> None:
    assert "No such file" in refused(capsys, "report", tmp_path / "a\nb\x1b[31mc.json")


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "trace.json", "is empty"),
        (b"", "trace.json.gz", "is empty"),
        (gzip.compress(b"", mtime=0), "trace.json.gz", ""),
        (b'{"traceEvents": []}', "trace.json.gz", "is named .gz but is not gzip"),
        (b"hello, world\n", "trace.json", "is not JSON"),
        (b"\x7fELF\x02\x01\x01", "trace.json", "is not JSON"),
        (b"\x89PNG\r\n\x1a\n", "trace.json", "is not JSON"),
        (b"\xff\xfe{\x00}\x00", "trace.json", "is not JSON"),
        (b"[1, 2, 3]", "trace.json", "not a Kineto trace"),
        (b"{}", "trace.json", "no `traceEvents`"),
        (b'{"model": "gpt2"}', "trace.json", "no `traceEvents`"),
        (b'"text"', "trace.json", "not a Kineto trace"),
        (b'{"traceEvents": []}', "trace.json", "has no events"),
        (b'{"traceEvents": 5}', "trace.json", "not a Kineto trace"),
        (b'{"schema_version": 999}', "trace.json", "schema_version 999"),
        (b'{"schema_version": 1}', "trace.json", "not a report"),
        (b'{"schema_version": "x"}', "trace.json", "not a report"),
        (b'{"schema_version"', "trace.json", ""),
    ],
)
def test_what_is_no_trace(tmp_path: Path, capsys: Output, content: bytes, name: str, message: str) -> None:
    assert message in refused(capsys, "report", file_of(tmp_path, content, name))


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
@pytest.mark.parametrize("output", ["text", "json"])
def test_a_trace_cut_in_half(tmp_path: Path, capsys: Output, name: str, output: str) -> None:
    whole = small().write(tmp_path / name).read_bytes()
    half = file_of(tmp_path, whole[: len(whole) // 2], f"half-{name}")
    assert "cut off" in refused(capsys, "report", half, "--format", output)


def test_a_saved_report_cut_in_half(tmp_path: Path, capsys: Output) -> None:
    assert main(["report", str(small().write(tmp_path / "t.json")), "--format", "json"]) == 0
    saved = capsys.readouterr().out
    assert "not a report" in refused(capsys, "report", file_of(tmp_path, saved[: len(saved) // 2]))


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("head", ["", '{"traceEvents": ', '{"traceEvents": [{"args": ', '{"schema_version": '])
def test_a_hundred_thousand_brackets(tmp_path: Path, capsys: Output, opening: str, head: str) -> None:
    closing = "]" if opening == "[" else "}"
    refused(capsys, "report", file_of(tmp_path, head + opening * 100_000))
    refused(capsys, "report", file_of(tmp_path, opening * 100_000 + closing * 100_000))


def test_an_error_does_not_repeat_a_strangers_control_characters(tmp_path: Path, capsys: Output) -> None:
    refused(capsys, "report", file_of(tmp_path, '{"traceEvents": "\x1b]0;owned\x07"}'))


# ---- Usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["nonsense"], "nonsense"),
        (["report"], "TRACE"),
        (["report", "TRACE", "--nonsense"], "--nonsense"),
        (["report", "TRACE", "--format", "xml"], "xml"),
        (["report", "TRACE", "--step", "x"], "not a whole number"),
        (["report", "TRACE", "--step", "-1"], ""),
        (["report", "TRACE", "--step", "1.5"], "not a whole number"),
        (["report", "TRACE", "--step", "7"], "--step 7: the recording has 1 steps"),
        (["report", "TRACE", "--top", "many"], "not a whole number"),
        (["report", "TRACE", "--sort", "beauty"], "beauty"),
        (["report", "TRACE", "--window", "("], "not a regular expression"),
        (["report", "TRACE", "--window", "no such annotation"], "no annotation of the recording"),
        (["report", "TRACE", "--device", "NVIDIA H1000"], "NVIDIA H1000"),
        (["report", "TRACE", "--device", "H100"], "no row for the device"),
        (["report", "TRACE", "-o", "/no/such/folder/report.txt"], "cannot write"),
        (["devices", "Imaginary X1"], "Imaginary X1"),
    ],
)
def test_bad_usage(tmp_path: Path, capsys: Output, arguments: list[str], message: str) -> None:
    trace = str(small().write(tmp_path / "trace.json"))
    assert message in refused(capsys, *[trace if argument == "TRACE" else argument for argument in arguments])


def test_a_device_that_does_not_exist_names_those_that_look_alike(tmp_path: Path, capsys: Output) -> None:
    trace = small().write(tmp_path / "trace.json")
    line = refused(capsys, "report", trace, "--device", "NVIDIA H100 80GB HBM")
    assert "'NVIDIA H100 80GB HBM3'" in line


@pytest.mark.parametrize("option", [["--device", "NVIDIA H200"], ["--step", "0"], ["--window", "x"]], ids=" ".join)
def test_a_saved_report_is_not_analysed_again(tmp_path: Path, capsys: Output, option: list[str]) -> None:
    assert main(["report", str(small().write(tmp_path / "t.json")), "--format", "json"]) == 0
    saved = file_of(tmp_path, capsys.readouterr().out, "saved.json")
    assert "a saved report" in refused(capsys, "report", saved, *option)


def test_nothing_is_left_behind_when_a_report_cannot_be_made(tmp_path: Path, capsys: Output) -> None:
    out = file_of(tmp_path, "what was there", "out.txt")
    refused(capsys, "report", file_of(tmp_path, "no trace", "bad.json"), "-o", out)
    assert out.read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.json", "out.txt"]


def test_help_and_version_are_no_errors(capsys: Output) -> None:
    for arguments in (["--help"], ["report", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
        out, err = capsys.readouterr()
        assert out
        assert err == ""


def test_one_strange_event_is_no_error(tmp_path: Path, capsys: Output) -> None:
    built = small()
    built.events.append({"ph": 5, "cat": [], "name": None, "ts": "soon", "dur": {}, "args": "text"})
    assert main(["report", str(built.write(tmp_path / "t.json")), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["op"] for row in document["kernels"]] == ["aten::mm"]
