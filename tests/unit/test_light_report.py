"""A plain report imports nothing that takes as long to import as the report takes to make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import TraceBuilder

HEAVY = ("torch", "pandas", "matplotlib", "rich", "statistics", "numpy.ma", "jinja2", "fsspec")
"""For the three after matplotlib there are ``render.lines``, ``medians`` and ``distinct``."""


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_heavy_module_is_imported(tmp_path: Path, form: str) -> None:
    built = TraceBuilder()
    for number in range(8):
        external = built.op("aten::mm", 10 * number, 5, inputs=[((64, 64), "float32"), ((64, 64), "float32")])
        correlation = built.launch(10 * number + 1, 1, external_id=external)
        built.kernel("gemm", 200 + 30 * number, 20, correlation=correlation, external_id=external)
    path = tmp_path / "trace.json"
    built.write(path)
    code = f"""
import sys
from diagnose.cli import main
status = main(["report", {str(path)!r}, "--format", {form!r}])
print(status, [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr.strip() == "0 []"
