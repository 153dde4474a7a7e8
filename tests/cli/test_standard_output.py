"""Standard output that is closed, full, or without the characters of a report: never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import TraceBuilder, launched


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    built = TraceBuilder()
    tensor = ((512, 512), "bfloat16")
    launched(built, "aten::mm", [tensor, tensor], 20, 30, kernel="gemm_\u65e5\u672c")
    return built.write(tmp_path / "trace.json")


def ran(command: str, trace: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    script = f'"{sys.executable}" -m diagnose report "$TRACE" {command}'
    everything = {**os.environ, **environment, "TRACE": str(trace)}
    return subprocess.run(["sh", "-c", script], env=everything, capture_output=True, check=False)


def test_a_full_disk_behind_standard_output(trace: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    found = ran("> /dev/full", trace)
    assert found.returncode == 2
    assert found.stderr == b"diagnose: cannot write: No space left on device\n"


@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream(closing: str, trace: Path) -> None:
    found = ran(closing, trace)
    assert found.returncode == 0
    assert b"Traceback" not in found.stderr


def test_an_error_does_not_go_to_standard_output_when_stderr_is_closed(tmp_path: Path) -> None:
    found = ran("2>&-", tmp_path / "nothing.json")
    assert (found.returncode, found.stdout) == (2, b"")


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "json"])
def test_a_stream_that_has_ascii_only(form: str, trace: Path) -> None:
    found = ran(f"--format {form}", trace, PYTHONIOENCODING="ascii")
    assert (found.returncode, found.stderr) == (0, b"")
    assert found.stdout.isascii()
