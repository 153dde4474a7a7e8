"""Whatever two reports hold: every row is matched once, and the differences add up to the nanosecond."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from report_documents import gpu_document, kernel_of, place_of, ranked, signature_of, steps_of, waterfall_of

from diagnose import schema
from diagnose.comparisons.comparing import difference_of
from diagnose.comparisons.match import match_rows

ROW = st.builds(
    lambda kernel, op, shape, module, ns: kernel_of(
        kernel, op, ns, exposed_ns=ns // 2, signature=None if shape is None else signature_of([shape]),
        places=[] if module is None else [place_of(module, "m.py:1", ns)],
    ),
    st.sampled_from(["k", "l", "m"]),
    st.sampled_from([None, "aten::a", "aten::b"]),
    st.sampled_from([None, [2], [2, 3], [4, 3]]),
    st.sampled_from([None, "x", "y"]),
    st.integers(1, 10**9),
)  # fmt: skip
ROWS = st.lists(ROW, max_size=8)


@st.composite
def documents(draw: st.DrawFn) -> schema.Document:
    """Rows that share the busy time of one to four steps of any length, the first of them unsteady or not."""
    rows = ranked(draw(ROWS))
    owned = sum(row.exposed_ns for row in rows)
    count = draw(st.integers(1, 4))
    cuts = sorted(draw(st.lists(st.integers(0, owned), min_size=count - 1, max_size=count - 1)))
    busy = [high - low for low, high in zip([0, *cuts], [*cuts, owned], strict=True)]
    parts = [{"uncosted": ns, "idle_sync": draw(st.integers(1, 10**8))} for ns in busy]
    whole = {part: sum(step[part] for step in parts) for part in parts[0]}
    walls = [sum(step.values()) for step in parts]
    return msgspec.structs.replace(
        gpu_document(), kernels=rows, window=schema.Window("0", sum(walls), steps_of(walls)),
        waterfall=waterfall_of("cuda:0", None, whole)
        + [row for index, step in enumerate(parts) for row in waterfall_of("cuda:0", index, step)],
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(documents(), documents())
def test_the_differences_add_up_exactly(before: schema.Document, after: schema.Document):
    found = difference_of(before, after)
    assert sum(change.before_ns for change in found.changes) == found.step_before_ns
    assert sum(change.after_ns for change in found.changes) == found.step_after_ns
    assert all(change.before_ns >= 0 <= change.after_ns for change in found.changes)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_every_row_is_in_one_match(before: list[schema.KernelRow], after: list[schema.KernelRow]):
    found = match_rows(before, after)
    assert sorted(index for match in found for index in match.before) == list(range(len(before)))
    assert sorted(index for match in found for index in match.after) == list(range(len(after)))
    for match in found:
        assert (match.by is None) == (not match.before or not match.after)


@settings(max_examples=30, deadline=None)
@given(documents())
def test_nothing_differs_from_itself(document: schema.Document):
    found = difference_of(document, document)
    assert all(change.difference_ns == 0 for change in found.changes)
    assert found.verdict.startswith("no difference")
