"""Whatever ran: every nanosecond of the window has one owner, and the shares are those of DESIGN's rule.

The rule is written out once more here, slowly, in exact fractions.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from diagnose.analysis import analyse
from diagnose.wall.waterfall import PARTS, Spans, split
from tests.builders import TraceBuilder, launched

CLASS = {0: 0, 1: 0, 2: 0, 3: 0, 4: 1, 5: 2, 6: 3}
COSTED = {0: ("compute_roof", "compute_above_roof"), 1: ("memory_roof", "memory_above_roof")}
WHOLE = {2: "small_kernels", 3: "uncosted", 4: "exposed_communication", 5: "exposed_copy", 6: "carried_over"}

Span = tuple[int, int, int, float]
SCALES = st.sampled_from([1, 7, 1_000_003])

SPANS = st.lists(
    st.tuples(
        st.integers(-20, 120), st.integers(0, 60), st.integers(0, 6),
        st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5]), st.floats(0, 3)),
    ).map(lambda drawn: (drawn[0], drawn[0] + drawn[1], drawn[2], drawn[3])),
    max_size=12,
)  # fmt: skip
BOUNDARIES = st.lists(st.integers(0, 100), min_size=2, max_size=5).map(sorted)


def shared(active: list[tuple[int, Span]], length: int) -> dict[tuple[int, str], Fraction]:
    """What each (span, part) owns of one interval."""
    first = min((CLASS[span[2]] for _, span in active), default=None)
    if first is None:
        return {(-1, "idle_unknown"): Fraction(length)}
    owners = [(row, span) for row, span in active if CLASS[span[2]] == first]
    uses = {row: min(Fraction(1), Fraction(span[3])) for row, span in owners if span[2] in COSTED}
    each = Fraction(length, len(owners))
    owned = {(row, WHOLE[span[2]]): each for row, span in owners if span[2] not in COSTED}
    rest, total = each * len(uses), sum(uses.values())
    scale = min(Fraction(1), rest / (length * total)) if total else Fraction(1)
    for row, span in owners:
        if row in uses:
            at_roof, above = COSTED[span[2]]
            owned[row, at_roof] = length * uses[row] * scale
            owned[row, above] = (rest - length * total * scale) / len(uses)
    return owned


def slowly(
    spans: list[Span], boundaries: list[int]
) -> tuple[dict[tuple[int, str], Fraction], dict[int, Fraction], dict[tuple[int, str], int]]:
    """Parts by (step, part), exposed time by span, and in how many shares each part was rounded."""
    parts: dict[tuple[int, str], Fraction] = defaultdict(Fraction)
    exposed: dict[int, Fraction] = defaultdict(Fraction)
    shares: dict[tuple[int, str], int] = defaultdict(int)
    cuts = sorted({*boundaries, *(time for low, high, *_ in spans for time in (low, high))})
    for low, high in pairwise(cuts):
        if not boundaries[0] <= low < boundaries[-1]:
            continue
        step = max(index for index, edge in enumerate(boundaries[:-1]) if edge <= low)
        active = [(row, span) for row, span in enumerate(spans) if span[0] <= low and span[1] >= high]
        for (row, part), ns in shared(active, high - low).items():
            parts[step, part] += ns
            exposed[row] += ns
            shares[step, part] += 1
    return parts, exposed, shares


@given(SPANS, BOUNDARIES, SCALES)
@example([(0, 10, 0, 1 / 3)] * 3, [0, 10], 1)
@example([(0, 10, 0, 0.1), (0, 10, 1, 0.2), (0, 10, 0, 0.7)], [0, 10], 1_000_003)
def test_the_parts_are_the_rules_and_add_up(drawn: list[Span], edges: list[int], scale: int) -> None:
    spans = [(low * scale, high * scale, kind, use) for low, high, kind, use in drawn]
    boundaries = [edge * scale for edge in edges]
    columns = [np.array(column) for column in zip(*spans, strict=True)] if spans else [np.zeros(0)] * 4
    start, end, kind = (column.astype(np.int64) for column in columns[:3])
    found = split(Spans(start, end, kind, columns[3].astype(np.float64)), np.array(boundaries, np.int64))

    # Exactly, in whole nanoseconds.
    assert found.parts.sum(axis=1).tolist() == np.diff(boundaries).tolist()
    assert (found.parts >= 0).all()
    assert (found.exposed >= 0).all()
    idle = int((found.idle_end - found.idle_start).sum())
    assert int(found.exposed.sum()) + idle == boundaries[-1] - boundaries[0]
    assert idle == int(found.parts[:, PARTS.index("idle_unknown")].sum())

    # To less than a nanosecond a share, by the rule in fractions.
    parts, exposed, shares = slowly(spans, boundaries)
    for step in range(len(boundaries) - 1):
        for index, part in enumerate(PARTS):
            off = abs(int(found.parts[step, index]) - parts[step, part])
            assert off < shares[step, part] or off == 0
    rounded = sum(shares.values())
    for row in range(len(spans)):
        assert abs(int(found.exposed[row]) - exposed[row]) <= rounded
        if spans[row][0] >= spans[row][1]:
            assert found.exposed[row] == 0


# ---- Whole reports of random recordings

ACTIVITY = st.tuples(
    st.sampled_from(["mm", "relu", "unknown", "copy", "memset", "collective", "no launch"]),
    st.integers(0, 400),  # launch
    st.integers(-30, 300),  # device start after it
    st.integers(0, 120),  # duration
    st.integers(0, 1),  # device
    st.integers(1, 3),  # stream
)


def recording_of(activities: list[tuple[str, int, int, int, int, int]], steps: list[int]) -> TraceBuilder:
    built = TraceBuilder()
    for number, at in enumerate(steps):
        built.step(number, at, 50)
    tensor = ((512, 512), "bfloat16")
    for what, at, lead, length, device, stream in activities:
        where = {"device": device, "stream": stream}
        start, dur = at + lead, length / 8
        if what in ("mm", "relu", "unknown"):
            inputs = {"mm": [tensor, tensor], "relu": [tensor], "unknown": None}[what]
            launched(built, f"aten::{what}", inputs, start, dur, kernel=what, launch_at=at, **where)
        elif what == "copy":
            built.copy("Memcpy HtoD (Pinned -> Device)", start, dur, size=1000, correlation=built.launch(at), **where)
        elif what == "memset":
            built.memset(start, dur, size=1000, correlation=built.launch(at), **where)
        elif what == "collective":
            built.collective(start, dur, elements=1000, correlation=built.launch(at), **where)
        else:
            built.kernel("lost", start, dur, **where)
    return built


@given(st.lists(ACTIVITY, min_size=1, max_size=12), st.lists(st.integers(0, 300), max_size=3, unique=True).map(sorted))
def test_whole_reports_add_up(activities: list[tuple[str, int, int, int, int, int]], steps: list[int]) -> None:
    document = analyse(recording_of(activities, steps).reading())
    window = document.window
    assert sum(step.wall_ns for step in window.steps) == window.wall_ns
    assert [step.start_ns for step in window.steps] == [
        sum(step.wall_ns for step in window.steps[:index]) for index in range(len(window.steps))
    ]
    for device in {row.device for row in document.devices}:
        mine = [row for row in document.waterfall if row.device == device]
        for number, step in enumerate(window.steps):
            assert sum(row.ns for row in mine if row.step == number) == step.wall_ns
        assert sum(row.ns for row in mine if row.step is None) == window.wall_ns
        nobody = sum(row.ns for row in mine if row.step is None and row.part.startswith(("idle", "carried")))
        assert sum(row.exposed_ns for row in document.kernels if row.device == device) == window.wall_ns - nobody
    coverage = document.coverage
    total = sum(length for *_, length, _, _ in activities) * 1000 // 8
    assert coverage.kernel_ns + coverage.out_of_window_ns == total
    assert coverage.costed_ns + coverage.bounded_ns + sum(row.ns for row in coverage.uncosted) == coverage.kernel_ns
    assert sum(row.calls for row in document.kernels) <= len(activities)
