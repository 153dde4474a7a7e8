"""The ops with lists are found in torch's tree without looking at all of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from diagnose.recording.gathering import tensor_lists


@dataclass
class Node:
    """Counts who asks for its children."""

    correlation_id: int
    start_tid: int
    below: list[Node] = field(default_factory=list)
    asked: int = 0
    extra_fields: Any = None

    @property
    def children(self) -> list[Node]:
        self.asked += 1
        return self.below


TENSOR = SimpleNamespace(sizes=[2, 3], dtype="torch.float32", strides=[3, 1])
SHAPE = st.recursive(st.booleans(), lambda below: st.tuples(st.booleans(), st.lists(below, max_size=4)), max_leaves=30)


def grown(shape: Any, thread: int, numbers: dict[int, int], every: list[Node]) -> Node:
    """A tree whose ops are numbered in order of their beginning, in the thread's own run of numbers; others have 0."""
    is_op, below = (shape, []) if isinstance(shape, bool) else shape
    node = Node(numbers[thread] if is_op else 0, thread)
    if is_op:
        node.extra_fields = SimpleNamespace(inputs=[1.0, [TENSOR, TENSOR]])
        numbers[thread] += 1
        every.append(node)
    node.below = [grown(each, thread, numbers, every) for each in below]
    return node


@given(st.lists(st.tuples(st.integers(0, 2), SHAPE), max_size=8), st.data())
def test_every_wanted_op_is_found_and_no_other(forest: list[tuple[int, Any]], data: st.DataObject) -> None:
    numbers, every = {0: 1, 1: 1001, 2: 501}, []
    roots = [grown(shape, thread, numbers, every) for thread, shape in forest]
    wanted = sorted(node.correlation_id for node in every if data.draw(st.booleans()))
    lists, found = tensor_lists(SimpleNamespace(experimental_event_tree=lambda: roots), wanted)
    assert sorted(found) == wanted
    assert all(arguments == {1: 0} for arguments in found.values())
    assert len(lists) == min(1, len(wanted))


def test_branches_without_one_are_left_alone() -> None:
    leaves = [Node(number, 7, extra_fields=SimpleNamespace(inputs=[[TENSOR]])) for number in (12, 22, 32)]
    roots = [Node(number, 7, [leaf]) for number, leaf in zip((11, 21, 31), leaves, strict=True)]
    _, found = tensor_lists(SimpleNamespace(experimental_event_tree=lambda: roots), [22])
    assert found == {22: {0: 0}}
    assert [root.asked for root in roots] == [0, 1, 0]
