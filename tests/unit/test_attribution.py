"""Each row's time by place and phase, against a count of the events themselves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.analysis import analyse
from tests.builders import TraceBuilder, launched

CALL = st.tuples(st.sampled_from(["up", "down"]), st.sampled_from(["k1", "k2"]), st.integers(1, 500))
CALLS = st.lists(CALL, min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(CALLS)
def test_the_time_of_each_place_is_that_of_its_kernels(calls: list[tuple[str, str, int]]) -> None:
    trace = TraceBuilder()
    expected: Counter[tuple[str, str, str]] = Counter()
    counted: Counter[tuple[str, str, str]] = Counter()
    for index, (function, kernel, dur) in enumerate(calls):
        at = 1000 * (index + 1)
        trace.event("python_function", f"net.py({len(function)}): {function}", at - 20, 15)
        trace.event("python_function", f"nn.Module: {function.title()}_0", at - 19, 13)
        launched(trace, "aten::relu", [((8,), "float32")], at=at, dur=dur, kernel=kernel)
        key = (kernel, function.title(), f"net.py:{len(function)} def {function}")
        expected[key] += dur * 1000
        counted[key] += 1
    document = analyse(trace.reading())
    found = {
        (row.kernel, place.module, place.line): (place.calls, place.time_ns)
        for row in document.kernels
        for place in row.places
    }
    assert found == {key: (counted[key], ns) for key, ns in expected.items()}
    for row in document.kernels:
        assert [place.time_ns for place in row.places] == sorted((p.time_ns for p in row.places), reverse=True)


def test_a_phase_divides_a_place() -> None:
    trace = TraceBuilder()
    trace.annotation("forward", 80, 50)
    trace.annotation("Optimizer.step#SGD.step", 180, 50)
    for at in (100, 200):
        launched(trace, "aten::relu", [((8,), "float32")], at=at, dur=5, kernel="k")
    (row,) = analyse(trace.reading()).kernels
    assert sorted((place.phase, place.calls, place.time_ns) for place in row.places) == [
        ("forward", 1, 5000),
        ("optimizer", 1, 5000),
    ]
    assert {(place.module, place.line, place.caller) for place in row.places} == {(None, None, None)}


def test_an_idle_interval_and_a_row_name_the_same_line() -> None:
    trace = TraceBuilder()
    trace.event("python_function", "net.py(3): forward", 50, 900)
    launched(trace, "aten::relu", [((8,), "float32")], at=100, dur=5)
    launched(trace, "aten::tanh", [((8,), "float32")], at=800, dur=5)
    document = analyse(trace.reading())
    late = max(document.idle, key=lambda row: row.ns)
    assert (late.op, late.line) == ("aten::tanh", "net.py:3 def forward")
    assert {place.line for row in document.kernels for place in row.places} == {"net.py:3 def forward"}
