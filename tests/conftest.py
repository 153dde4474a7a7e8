"""What every test may use: the real traces, a quiet and repeatable process, hypothesis settings.

The real traces are other people's recordings and are not part of this repository. ``DIAGNOSE_TRACES`` names their
folder; without it they are looked for in ``../shared/traces`` beside the checkout. Tests that need one that is not
there are skipped, and the first lines of a run say how many were found.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

# Before anything imports torch or matplotlib: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the suite runs a worker a core already
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # Kineto prints on stderr otherwise
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that would download must fail, not download
os.environ["MPLBACKEND"] = "Agg"
# What this machine's user calibrated must not change what a test sees: a folder that is not there.
os.environ["TORCH_DIAGNOSE_CACHE"] = f"{tempfile.gettempdir()}/diagnose-tests-{os.getpid()}"

import pytest
from hypothesis import settings

REPO = Path(__file__).resolve().parents[1]

settings.register_profile("local", deadline=None, max_examples=40)
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def _traces_folder() -> Path:
    named = os.environ.get("DIAGNOSE_TRACES")
    return (REPO / named if named else REPO / ".." / "shared" / "traces").resolve()


def _found_traces() -> list[Path]:
    return sorted(_traces_folder().glob("*.json.gz"))


def pytest_report_header() -> str:
    return f"real traces: {len(_found_traces())} found in {_traces_folder()}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``real_trace`` runs once for each real trace, or is skipped once where there are none."""
    if "real_trace" not in metafunc.fixturenames:
        return
    found = _found_traces()
    if found:
        metafunc.parametrize("real_trace", found, ids=[path.name.removesuffix(".json.gz") for path in found])
    else:
        reason = f"no real traces in {_traces_folder()}: set DIAGNOSE_TRACES"
        metafunc.parametrize("real_trace", [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="none")])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: torch sees none")


@pytest.fixture(scope="session")
def trace_path() -> Callable[[str], Path]:
    """``trace_path("h100_vit_bf16_b4")``: that real trace's path; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        path = _traces_folder() / f"{name.removesuffix('.json.gz')}.json.gz"
        if not path.is_file():
            pytest.skip(f"no real trace {path.name} in {path.parent}: set DIAGNOSE_TRACES")
        return path

    return find


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository's root."""
    return REPO
