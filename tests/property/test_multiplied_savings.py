"""Two savings that multiply: more threads do faster what another change leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.analysis import analyse
from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import findings_of
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change, both, sped_up
from tests.builders import TraceBuilder

ITEMS = st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 2), st.floats(0, 1)), min_size=1, max_size=20)


@settings(max_examples=30, deadline=None)
@given(ITEMS)
def test_faster_work_is_never_negative_and_never_longer_than_the_better_change_alone(items):
    duration = np.array([ns for ns, _, _ in items], np.int64)
    less = Change(duration=np.array([round(ns * share) for ns, share, _ in items], np.int64))
    faster = Change(duration=np.array([round(ns * share) for ns, _, share in items], np.int64))
    found = sped_up(less, faster, duration).duration
    assert (found >= 0).all()
    assert (found <= less.duration).all()
    shortened = less.duration < duration
    assert (found[shortened] <= both(less, faster, duration).duration[shortened]).all()
    expected = [share * other * ns for ns, share, other in items]
    assert found == pytest.approx(expected, abs=2)  # two roundings, one of them doubled


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.booleans())
def test_findings_that_multiply_get_their_product_and_no_more_than_there_is(first, second, multiplies):
    case = one_product()
    rules = [lambda seen: [proposal(seen, "less", first)]]
    rules.append(lambda seen: [proposal(seen, "faster", second, multiplies=multiplies)])
    found = findings_of(case, rules)
    left = first * second if multiplies else min(first, second)
    assert sum(row.recoverable_ns.mid for row in found) == pytest.approx(1_000_000 * (1 - left), abs=6_000)
    assert sum(row.recoverable_ns.mid for row in found) <= case.replayer.limit_ns


def one_product() -> Case:
    built, kept = TraceBuilder(None), []
    built.op("aten::mm", 0, 1000, inputs=[((512, 512), "float32")] * 2)
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def proposal(case: Case, rule: str, share: float, *, multiplies: bool = False) -> Proposal:
    change = Change(duration=np.rint(case.replayer.duration * share).astype(np.int64))
    return Proposal(
        rule=rule, bound="compute", title=rule, evidence={}, where=[], cells=[Cell(0, "kernel")], low=change,
        mid=change, high=change, advice="", assumes="", multiplies=multiplies,
    )  # fmt: skip
