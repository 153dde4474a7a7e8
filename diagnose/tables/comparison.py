"""A comparison of two reports as rows: what every rendering of it takes. Times are of one step, None is unknown."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from diagnose.schema import Tool

Unit = Literal["ns", "bytes", "flops", "count", "share"]
Status = Literal["faster", "slower", "new", "gone", "same"]


class Side(Struct, frozen=True, kw_only=True):
    """One of the two reports.

    Attributes:
        path: Where it was read from; None where it was recorded just now.
        device: The device with most kernel time; None where nothing ran on one.
        torch_version: None where the recording does not say.
        steps: Recorded steps.
        steady: Those that count.
    """

    path: str | None
    device: str | None
    torch_version: str | None
    steps: int
    steady: int


class Quantity(Struct, frozen=True, kw_only=True):
    """One figure of both, a step.

    Attributes:
        name: As in ``--fail-on``.
        low_before, high_before, low_after, high_after: What a repetition may give; None where that is not known.
        within_noise: Whether both could be the same; None where that is not known.
    """

    name: str
    unit: Unit
    before: float | None
    after: float | None
    low_before: float | None = None
    high_before: float | None = None
    low_after: float | None = None
    high_after: float | None = None
    within_noise: bool | None = None

    @property
    def difference(self) -> float | None:
        """After minus before."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def relative(self) -> float | None:
        """The difference as a share of before; None also where before is 0."""
        return None if self.difference is None or not self.before else self.difference / self.before


class Change(Struct, frozen=True, kw_only=True):
    """What one piece of work, or one kind of waiting, owns of a step's wall time in both.

    The differences of all changes add up to that of the recorded step, exactly.

    Attributes:
        status: ``same`` where it owns equally much.
        part: Of the waterfall, of time that belongs to no kernel; None for kernels.
        op: None where the kernels are linked to none. Of a part, the op or call behind most of its difference.
        kernels_before, kernels_after: Names; empty where new or gone.
        shapes_before, shapes_after: Of the op's tensors, of the row with most time.
        where: Module path or source line of it, where known.
        matched_by: What both have in common; None where new, gone or a part.
        before_ns, after_ns: Of the step's wall time.
        calls_before, calls_after: A step.
        kernel_before_ns, kernel_after_ns: Kernel time a step, also where something else ran beside it.
    """

    status: Status
    part: str | None = None
    op: str | None = None
    kernels_before: list[str] = []
    kernels_after: list[str] = []
    shapes_before: str | None = None
    shapes_after: str | None = None
    where: str | None = None
    matched_by: str | None = None
    before_ns: int
    after_ns: int
    calls_before: float | None = None
    calls_after: float | None = None
    kernel_before_ns: float | None = None
    kernel_after_ns: float | None = None

    @property
    def difference_ns(self) -> int:
        """After minus before."""
        return self.after_ns - self.before_ns


class Judged(Struct, frozen=True, kw_only=True):
    """One ``--fail-on`` expression held against the two; ``crossed`` None: a figure is not known."""

    expression: str
    crossed: bool | None
    within_noise: bool | None
    words: str


class Difference(Struct, frozen=True, kw_only=True):
    """The whole comparison.

    Attributes:
        verdict: Slower, faster or no difference beyond noise; and the cause.
        noise: What the verdict on noise rests on.
        changes: The largest difference first.
        step_before_ns, step_after_ns: The recorded steps, which the changes add up to.
        thresholds: Empty where none was asked for.
    """

    tool: Tool
    before: Side
    after: Side
    verdict: str
    noise: str
    quantities: list[Quantity]
    step_before_ns: int
    step_after_ns: int
    changes: list[Change]
    thresholds: list[Judged] = []
    notes: list[str] = []

    def quantity(self, name: str) -> Quantity | None:
        """The figure of that name."""
        return next((row for row in self.quantities if row.name == name), None)
