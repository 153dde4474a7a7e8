"""The lines of a step with stacks, given to steps that were timed without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.places.places import find_places, place_of_op
from diagnose.recording.line_step import LineStep, joined, with_places
from diagnose.trace.extras import CodePlace, Extras
from diagnose.trace.tables import Trace
from tests.builders import TraceBuilder

FLOAT = "float32"


def steps(*each: list[tuple[str, tuple[int, ...]]], thread: int = 100) -> TraceBuilder:
    """Steps of ops with one tensor each; an op that is named ``parent/child`` holds one child."""
    trace = TraceBuilder(None)
    at = 0
    for number, ops in enumerate(each):
        trace.step(number, at, 20 * len(ops) + 5)
        for name, shape in ops:
            outer, _, inner = name.partition("/")
            trace.op(outer, at + 1, 10, inputs=[(shape, FLOAT)], thread=thread)
            if inner:
                trace.op(inner, at + 2, 5, inputs=[(shape, FLOAT)], thread=thread)
            at += 20
        at += 10
    return trace


def given_places(timed: TraceBuilder, stacked: TraceBuilder) -> list[int]:
    """For each op of ``timed`` the row of the op of ``stacked`` whose place it gets."""
    one, other = timed.reading().trace, stacked.reading().trace
    return joined(one, other, np.arange(len(other.ops.start))).tolist()


def test_the_same_ops_in_the_same_order_get_their_own_lines_in_every_step() -> None:
    ops = [("aten::mm", (4, 4)), ("aten::relu", (4,)), ("aten::mm", (4, 4))]
    assert given_places(steps(ops, ops), steps(ops)) == [0, 1, 2, 0, 1, 2]


def test_a_further_op_does_not_move_the_others() -> None:
    ops = [("aten::mm", (4, 4)), ("aten::relu", (4,)), ("aten::mm", (4, 4))]
    timed = [ops[0], ("aten::logged", (1,)), *ops[1:]]
    assert given_places(steps(timed), steps(ops)) == [0, -1, 1, 2]


def test_where_the_counts_differ_only_a_place_that_all_share_is_given() -> None:
    timed, stacked = (
        steps([("aten::mm", (4, 4))] * 3).reading().trace,
        steps([("aten::mm", (4, 4))] * 2).reading().trace,
    )
    assert joined(timed, stacked, np.array([5, 5])).tolist() == [5, 5, 5]
    assert joined(timed, stacked, np.array([5, 6])).tolist() == [-1, -1, -1]


def test_shapes_that_change_from_step_to_step_do_not_cost_the_lines() -> None:
    timed = [("aten::mm", (7, 4)), ("aten::relu", (7,))]
    assert given_places(steps(timed), steps([("aten::mm", (9, 4)), ("aten::relu", (9,))])) == [0, 1]


def test_ops_are_told_apart_by_the_ops_around_them() -> None:
    stacked = [("aten::linear/aten::copy_", (4,)), ("aten::to/aten::copy_", (4,))]
    assert given_places(steps(stacked[::-1]), steps(stacked)) == [2, 3, 0, 1]


def test_threads_are_told_apart() -> None:
    stacked = steps([("aten::mm", (4, 4))], thread=1)
    assert given_places(steps([("aten::mm", (4, 4))], thread=2), stacked) == [-1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "a/b"]), min_size=1, max_size=12), st.integers(1, 3))
def test_equal_steps_always_map_op_to_op(names: list[str], count: int) -> None:
    ops = [(f"aten::{name.replace('/', '/aten::')}", (2,)) for name in names]
    stacked = steps(ops)
    rows = list(range(sum(1 + ("/" in name) for name in names)))
    assert given_places(steps(*[ops] * count), stacked) == rows * count


def of_ops(trace: Trace, extras: Extras) -> list[str | None]:
    places = find_places(trace, extras)
    return [place_of_op(places, row).line for row in range(len(trace.ops.start))]


def test_the_extras_carry_the_lines_and_say_what_has_none(tmp_path: Path) -> None:
    stacked = steps([("aten::mm", (4, 4)), ("aten::linear/aten::addmm", (4,))])
    timed = steps([("aten::mm", (4, 4)), ("aten::linear/aten::addmm", (4,)), ("aten::other", (4,))])
    known = Extras(places=(CodePlace("Net", "a.py:1"), CodePlace("Net", "a.py:2")), op_places={1: 0, 2: 1})
    step = LineStep(stacked.write(tmp_path / "lines.json"), known)
    path = timed.write(tmp_path / "timed.json")
    extras = with_places(Extras(torch_version="2.13"), path, step)
    assert of_ops(timed.reading().trace, extras) == ["a.py:1", "a.py:2", "a.py:2", None]
    assert len(extras.op_places) == 2, "an op inside another one has its place"
    assert extras.torch_version == "2.13"
    assert extras.notes == ("the source lines come from one more step; 1 of 4 ops ran differently there and have none",)


def test_a_step_that_cannot_be_read_costs_the_lines_alone(tmp_path: Path) -> None:
    path = steps([("aten::mm", (4, 4))]).write(tmp_path / "timed.json")
    broken = tmp_path / "lines.json"
    broken.write_text("{")
    for missing in (broken, tmp_path / "never.json"):
        assert with_places(Extras(), path, LineStep(missing, Extras())) == Extras()
