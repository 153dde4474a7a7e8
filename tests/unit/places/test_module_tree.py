"""The kernel table by module."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.places.module_tree import folded, module_tree, summarized
from diagnose.schema import Document, Interval, Place
from tests.report_documents import gpu_document


def document(*rows: tuple[list[tuple[str | None, int, int]], int | None, int | None]) -> Document:
    """A report of rows: their places as (module, calls, time), FLOPs a call, and middle of the gap."""
    base = gpu_document()
    kernels = []
    for index, (places, flops, gap) in enumerate(rows):
        time, calls = sum(place[2] for place in places), sum(place[1] for place in places)
        kernels.append(
            msgspec.structs.replace(
                base.kernels[0],
                place=index + 1,
                calls=calls,
                time_ns=time,
                flops=flops,
                bytes_read=10,
                bytes_written=5,
                gap_ns=None if gap is None else Interval(0, gap, 2 * gap),
                places=[Place(module, None, None, "forward", count, ns) for module, count, ns in places],
            )
        )
    return msgspec.structs.replace(base, kernels=kernels)


def test_a_module_has_what_is_inside_it() -> None:
    found = module_tree(
        document(
            ([("Net.a", 2, 60), ("Net.b", 1, 30)], 100, 45),
            ([("Net", 1, 10)], None, None),
            ([(None, 1, 20)], 7, None),
        )
    )
    by_path = {node.path: node for node in found}
    assert [(node.path, node.depth) for node in found] == [("Net", 0), ("Net.a", 1), ("Net.b", 1), (None, 0)]
    net = by_path["Net"]
    assert (net.calls, net.time_ns, net.own_ns) == (4, 100, 10)
    assert net.flops is None, "of one kernel inside nothing is known"
    assert (by_path["Net.a"].flops, by_path["Net.a"].bytes_accessed) == (200, 30)
    assert (by_path["Net.a"].gap_ns, by_path["Net.b"].gap_ns) == (30, 15)
    assert (net.gap_ns, net.gap_of_ns) == (45, 90)
    assert net.share == 100 / 120
    assert by_path[None].gap_ns is None


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["M.a.x", "M.a", "M.b.0", "M.b.1", None]), st.integers(1, 5), st.integers(0, 99)),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)  # fmt: skip
def test_every_nanosecond_is_in_one_module(rows: list[list[tuple[str | None, int, int]]], fold: bool) -> None:
    found = module_tree(document(*((places, 1, None) for places in rows)), fold=fold)
    total = sum(ns for places in rows for _, _, ns in places)
    if not found:
        assert all(module is None for places in rows for module, _, _ in places)
        return
    assert sum(node.own_ns for node in found) == total
    assert sum(node.time_ns for node in found if node.depth == 0) == total
    for node in found:
        inner = [other for other in found if other.path and node.path and other.path.rpartition(".")[0] == node.path]
        assert node.time_ns == node.own_ns + sum(other.time_ns for other in inner)
        assert all(other.depth == node.depth + 1 for other in inner)


def test_one_phase_alone() -> None:
    assert sum(node.own_ns for node in module_tree(document(([("Net", 1, 5)], 1, None)), phase="backward")) == 0


def test_the_layers_of_a_stack_are_one() -> None:
    assert folded("GPT2.h.11.mlp") == "GPT2.h.*.mlp"
    assert folded("Net.Layer_3.Linear_12") == "Net.Layer_*.Linear_*"
    assert folded("Net.conv2d") == "Net.conv2d"
    layers = document(([(f"GPT2.h.{index}.mlp", 1, 10) for index in range(12)], 1, None))
    assert [node.path for node in module_tree(layers, fold=True)] == ["GPT2", "GPT2.h", "GPT2.h.*", "GPT2.h.*.mlp"]


def test_a_summary_opens_what_costs_most() -> None:
    rows = [("Net.head", 1, 10), ("Net.body.attention", 1, 50), ("Net.body.mlp", 1, 40)]
    nodes = module_tree(document((rows, 1, None)))
    assert [node.path for node in summarized(nodes, 1)] == ["Net"]
    assert [node.path for node in summarized(nodes, 2)] == ["Net.body", "Net.head"]
    assert [node.path for node in summarized(nodes, 3)] == ["Net.body.attention", "Net.body.mlp", "Net.head"]


def test_a_summary_leaves_out_what_costs_next_to_nothing() -> None:
    rows = [("Net.body.a", 1, 500), ("Net.body.b", 1, 495), ("Net.tiny", 1, 5)]
    assert [node.path for node in summarized(module_tree(document((rows, 1, None))), 3)] == ["Net.body.a", "Net.body.b"]


def test_nothing_is_known_without_places() -> None:
    assert module_tree(document(([(None, 1, 10)], 1, None))) == []
