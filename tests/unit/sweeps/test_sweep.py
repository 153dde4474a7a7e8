"""scaling(): what it runs, what it refuses, and a small MLP on this machine."""

from __future__ import annotations

import json

import pytest

import diagnose
from diagnose.errors import UsageError
from diagnose.sweeps.sweep import scaling

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("sizes", [[], [4], [4, 4], [0, 1], [-1, 2]])
def test_sizes_must_make_sense(sizes: list[int]):
    with pytest.raises(UsageError, match="two different sizes above 0"):
        scaling(print, sizes)


def test_counts_must_make_sense():
    with pytest.raises(UsageError, match="repeat >= 1"):
        scaling(print, [1, 2], repeat=0)


def test_a_function_that_prepares_is_called_once_a_size_and_what_it_made_is_timed():
    prepared, ran = [], []

    def make(size: int):
        prepared.append(size)
        return lambda: ran.append(size) or torch.ones(4)

    found = scaling(make, [2, 1], warmup=1, repeat=5)
    assert prepared == [1, 2]
    assert ran.count(1) == ran.count(2) >= 11
    assert [point.runs for point in found.points] == [5, 5]


def test_a_size_that_does_not_fit_ends_the_sweep_with_a_note():
    def step(size: int) -> None:
        if size > 2:
            raise torch.OutOfMemoryError("no room")
        torch.ones(size)

    found = scaling(step, [1, 2, 4, 8], warmup=0, repeat=2)
    assert [point.size for point in found.points] == [1, 2]
    assert found.notes == ["size 4 did not fit into memory; larger ones were not run"]


def test_what_the_step_raises_is_the_callers():
    def step(size: int) -> None:
        raise ValueError(f"mine: {size}")

    with pytest.raises(ValueError, match="mine"):
        scaling(step, [1, 2])


@pytest.fixture(scope="module")
def mlp() -> diagnose.Scaling:
    """Layers so narrow that small batches take the same time, so that Python and dispatch rule."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(32, 32) for _ in range(30)]).eval()

    def make(size: int):
        x = torch.randn(size, 32)

        def run() -> None:
            with torch.inference_mode():
                model(x)

        return run

    return diagnose.scaling(make, [1, 4, 16, 512, 2048, 8192], repeat=15)


def test_a_small_mlp_is_flat_then_rises(mlp: diagnose.Scaling):
    trends = [point.trend for point in mlp.points]
    assert trends[0] == "flat"
    assert trends[-1] == "rising"
    assert mlp.knee is not None
    assert 4 < mlp.knee < 2048
    assert "overhead" in mlp.points[0].regime
    assert mlp.points[-1].regime in ("compute", "memory", "memory or compute", "compute or memory", "unknown")
    assert mlp.points[-1].overhead_share < mlp.points[0].overhead_share


def test_its_tables_agree(mlp: diagnose.Scaling):
    frame = mlp.to_frame()
    document = json.loads(mlp.to_json())
    assert list(frame["size"]) == [row["size"] for row in document["points"]] == [1, 4, 16, 512, 2048, 8192]
    assert document["knee"] == mlp.knee
    assert len(mlp.reports) == 6
    for row in mlp.points:
        assert row.throughput_per_s == pytest.approx(row.size / row.back_to_back_ns * 1e9)
        assert row.low_ns <= row.latency_ns <= row.high_ns
    lines = str(mlp).splitlines()
    assert lines[0].startswith("Verdict: flat up to size ")
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


def test_it_is_drawn(mlp: diagnose.Scaling):
    axes = mlp.plot()
    axes.figure.canvas.draw()
    assert any("knee" in text.get_text() for text in axes.texts)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {point.regime for point in mlp.points} <= set(names)
