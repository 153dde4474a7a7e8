"""``scaling(step, sizes)``: a step run at several sizes, and the regime that each is in."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from diagnose.analysis import VERSION
from diagnose.errors import UsageError
from diagnose.live.session import profile
from diagnose.recording.recorder import drain_devices, require_torch
from diagnose.report import Report
from diagnose.schema import Tool
from diagnose.steady import spread_of
from diagnose.sweeps.regimes import Curve, Shares, curve_of, regime_of, shares_of
from diagnose.sweeps.verdict import verdict_of
from diagnose.tables.sweep import Point, Sweep

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_FEWEST_RUNS: Final = 5
_RECORDED_STEPS: Final = 5
_BATCHES: Final = 3
"""Of runs back to back; the median of three keeps one interruption out of the throughput."""

Step = Callable[..., Any]


def scaling(step: Step, sizes: Sequence[float], *, warmup: int = 3, repeat: int = 20, seconds: float = 2.0) -> Scaling:
    """Runs a step at several sizes and says where its time is flat, why, where it begins to grow, and what limits it.

    Args:
        step: ``step(size)`` runs the step. Where it returns a function instead, it has only prepared: that function,
            without arguments, is the step, and making inputs stays out of the times.
        sizes: At least two positive numbers, a factor of two apart or so: batch sizes, sequence lengths.
        warmup: Runs at each size that count for nothing.
        repeat: Timed runs at each size.
        seconds: Time for them at each size; from five runs on, it ends them early.

    Raises:
        DiagnoseError: torch is missing.
        UsageError: The sizes or counts make no sense, or another profiler is running.
    """
    ordered = _checked(sizes, warmup, repeat)
    require_torch()
    points: list[Point] = []
    reports: list[Report | None] = []
    shares: list[Shares | None] = []
    notes: list[str] = []
    for size in ordered:
        try:
            run = _prepared(step, size)
            point = _timed(run, size, warmup, repeat, seconds)
            report, problem = _recorded(run)
        except Exception as error:
            if not _is_out_of_memory(error) or len(points) < 2:
                raise
            notes.append(f"size {size:g} did not fit into memory; larger ones were not run")
            break
        if problem is not None:
            notes.append(f"size {size:g} could not be diagnosed: {problem}")
        points.append(point)
        reports.append(report)
        shares.append(None if report is None else shares_of(report.document, point.latency_ns))
    return Scaling(sweep_of(points, shares, _device(reports), notes), reports)


def _checked(sizes: Sequence[float], warmup: int, repeat: int) -> list[float]:
    ordered = sorted(set(sizes))
    if len(ordered) < 2 or not all(size > 0 for size in ordered):
        raise UsageError(f"scaling() needs at least two different sizes above 0, got {list(sizes)!r}")
    if warmup < 0 or repeat < 1:
        raise UsageError(f"scaling() needs warmup >= 0 and repeat >= 1, got {warmup} and {repeat}")
    return ordered


def _prepared(step: Step, size: float) -> Callable[[], Any]:
    made = step(size)
    return made if callable(made) else lambda: step(size)


def _timed(run: Callable[[], Any], size: float, warmup: int, repeat: int, seconds: float) -> Point:
    for _ in range(warmup):
        run()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < repeat and (len(times) < _FEWEST_RUNS or time.perf_counter() - begin < seconds):
        times.append(_elapsed_ns(run, 1))
    batch = -(-len(times) // _BATCHES)
    together = statistics.median(_elapsed_ns(run, batch) / batch for _ in range(_BATCHES))
    spread = spread_of(times)
    assert spread is not None
    low, high = (spread.low, spread.high)
    return Point(
        size=size,
        latency_ns=spread.middle,
        low_ns=spread.middle if low is None else low,
        high_ns=spread.middle if high is None else high,
        runs=len(times),
        back_to_back_ns=together,
        throughput_per_s=size / together * 1e9,
    )


def _elapsed_ns(run: Callable[[], Any], times: int) -> float:
    """From idle devices to idle devices."""
    drain_devices()
    begin = time.perf_counter_ns()
    for _ in range(times):
        run()
    drain_devices()
    return max(1, time.perf_counter_ns() - begin)


def _recorded(run: Callable[[], Any]) -> tuple[Report | None, str | None]:
    """A report of a few steps; else what went wrong."""
    with profile() as session:
        for index in range(_RECORDED_STEPS):
            if index:
                session.step()
            run()
            drain_devices()
    return session.report, session.error


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _device(reports: Sequence[Report | None]) -> str | None:
    devices = [report.device for report in reports if report is not None]
    return next((row.name for row in devices if row is not None), None)


def sweep_of(
    points: Sequence[Point], shares: Sequence[Shares | None], device: str | None, notes: Sequence[str] = ()
) -> Sweep:
    """Timed sizes, ascending, with what their recordings say, as the table of regimes."""
    curve: Curve = curve_of(points)
    placed = [
        _placed(point, share, curve, index) for index, (point, share) in enumerate(zip(points, shares, strict=True))
    ]
    knee = curve.knee or (None, None, None)
    return Sweep(
        tool=Tool("torch-diagnose", VERSION),
        device=device,
        verdict=verdict_of(placed, curve),
        flat_ns=curve.flat_ns,
        knee=knee[0],
        knee_low=knee[1],
        knee_high=knee[2],
        rise=curve.rise,
        points=placed,
        notes=list(notes),
    )


def _placed(point: Point, shares: Shares | None, curve: Curve, index: int) -> Point:
    trend = curve.trends[index]
    regime, bound = regime_of(trend, shares)
    return msgspec.structs.replace(
        point,
        slope=curve.slopes[index - 1] if index else None,
        trend=trend,
        regime=regime,
        bound=bound,
        overhead_share=None if shares is None else shares.kinds["overhead"],
        overhead_share_unrecorded=None if shares is None else shares.unrecorded["overhead"],
        idle_share=None if shares is None else shares.idle,
        recorded_ns=None if shares is None else shares.recorded_ns,
    )


class Scaling:
    """A step at several sizes. Made by ``diagnose.scaling``; ``print`` shows one screen.

    Attributes:
        tables: Everything that was found, as in the JSON.
        reports: The report at each size, None where it could not be made.
    """

    def __init__(self, tables: Sweep, reports: Sequence[Report | None] = ()) -> None:
        self.tables = tables
        self.reports = list(reports)

    @property
    def verdict(self) -> str:
        """One sentence: where it is flat and why, the knee, what limits it beyond."""
        return self.tables.verdict

    @property
    def points(self) -> list[Point]:
        """The sizes, ascending."""
        return self.tables.points

    @property
    def knee(self) -> float | None:
        """The size at which time begins to grow; None where the sizes do not show it."""
        return self.tables.knee

    @property
    def notes(self) -> list[str]:
        """What did not work."""
        return self.tables.notes

    def to_json(self, indent: int = 2) -> str:
        """Every table as JSON."""
        encoded = msgspec.json.encode(self.tables)
        return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()

    def to_frame(self) -> pd.DataFrame:
        """One row a size."""
        import pandas as pd

        return pd.DataFrame([msgspec.structs.asdict(row) for row in self.points], columns=Point.__struct_fields__)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Latency and throughput over size, with the flat part, the rising part and the knee."""
        from diagnose.render.scaling_plot import plot_scaling

        return plot_scaling(self.tables, ax)

    def __str__(self) -> str:
        from diagnose.render.scaling_text import to_text

        return to_text(self.tables)

    def __repr__(self) -> str:
        return f"<diagnose.Scaling: {self.verdict}>"
