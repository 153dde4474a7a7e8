"""What ``what_if`` found, as rows: the one definition of its JSON.

All ``*_ns`` are whole nanoseconds of one step. Of every estimate ``low`` is the fastest end, ``high`` the slowest; of
``throughput`` and ``speedup`` low is the smallest number.
"""

from __future__ import annotations

from msgspec import Struct

from diagnose.schema import Interval


class Factor(Struct, frozen=True):
    """Low, middle and high of a ratio."""

    low: float
    mid: float
    high: float


class FamilyRow(Struct, frozen=True, kw_only=True):
    """Kernels of one family: their summed device time a step, recorded and predicted.

    ``unknown_ns`` is how much of the recorded time has no known work, and was scaled by a guess that says so.
    """

    family: str
    calls: float
    recorded_ns: int
    predicted_ns: Interval
    unknown_ns: int


class Predicted(Struct, frozen=True, kw_only=True):
    """One change, or all that were asked for together.

    Attributes:
        change: ``device NVIDIA H200``, ``batch x2``... or ``together``.
        step_ns: Latency: the median steady step.
        kernel_ns: Summed device time of a step.
        speedup: Recorded step over predicted one.
        throughput: Work a second as a multiple of the recorded one: the speed-up times the batch factor.
        families: Most recorded time first.
        assumptions: What has to hold, a sentence each.
    """

    change: str
    step_ns: Interval
    kernel_ns: Interval
    speedup: Factor
    throughput: Factor
    families: list[FamilyRow]
    assumptions: list[str]


class Outlook(Struct, frozen=True, kw_only=True):
    """Every prediction for one recording.

    Attributes:
        path: Of the recording, None where it is live.
        device: What it was recorded on.
        step_ns, kernel_ns: As recorded.
        predictions: One a change, then all together where there are several.
        notes: What makes the predictions less certain than their intervals.
    """

    path: str | None
    device: str
    step_ns: int
    kernel_ns: int
    predictions: list[Predicted]
    notes: list[str]
