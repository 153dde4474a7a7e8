"""The same model on two devices: one predicted from the other, by family; the errors are in docs/what-if.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from diagnose.reading import read
from diagnose.report import Report

H100, MI300X = "NVIDIA H100 80GB HBM3", "AMD Instinct MI300X"


@pytest.fixture(scope="module")
def pair() -> tuple[Report, Report]:
    import os

    named = os.environ.get("DIAGNOSE_TRACES")
    repo = Path(__file__).resolve().parents[2]
    folder = (repo / named if named else repo / ".." / "shared" / "traces").resolve()
    paths = [folder / f"{name}_bert_small_b1.json.gz" for name in ("h100", "mi300x")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"no real traces in {folder}: set DIAGNOSE_TRACES")
    return read(paths[0]), read(paths[1])


def errors(source: Report, target: Report, device: str) -> dict[str, float]:
    """Predicted over measured kernel time of each family that both have, less one."""
    predicted = {row.family: row.predicted_ns.mid for row in source.what_if(device=device).together.families}
    measured = {row.family: row.recorded_ns for row in target.what_if(batch=1).together.families}
    predicted["all"] = sum(ns for family, ns in predicted.items() if "copy" not in family)
    measured["all"] = sum(ns for family, ns in measured.items() if "copy" not in family)
    return {family: predicted[family] / measured[family] - 1 for family in predicted if family in measured}


def test_the_kernel_time_of_each_device_is_predicted_from_the_other(pair: tuple[Report, Report]) -> None:
    h100, mi300x = pair
    forth, back = errors(h100, mi300x, MI300X), errors(mi300x, h100, H100)
    assert abs(forth["all"]) < 0.15
    assert abs(back["all"]) < 0.25
    for family in ("normalization", "pointwise", "reduction"):
        assert abs(forth[family]) < 0.25
        assert abs(back[family]) < 0.25
    assert abs(forth["matmul"]) < 0.25
    assert abs(back["matmul"]) < 0.25
    # Another implementation of attention runs on each: nothing about the devices foretells that.
    assert abs(forth["attention"]) > 0.5


def test_neither_step_gets_shorter_since_both_wait_for_the_host(pair: tuple[Report, Report]) -> None:
    for report, device in zip(pair, (MI300X, H100), strict=True):
        assert report.what_if(device=device).together.speedup.mid == pytest.approx(1, abs=0.02)


def test_every_real_trace_answers_or_says_why_not(real_trace: Path) -> None:
    from diagnose.errors import DiagnoseError

    report = read(real_trace)
    for asked in ({"batch": "x2"}, {"fuse": True}, {"graph": True}, {"device": H100}, {"dtype": "bfloat16"}):
        try:
            found = report.what_if(**asked).together
        except DiagnoseError:
            continue  # a line that says why: no device, no time, no such type
        assert 0 <= found.step_ns.low <= found.step_ns.mid <= found.step_ns.high
        assert found.kernel_ns.low <= found.kernel_ns.mid <= found.kernel_ns.high
