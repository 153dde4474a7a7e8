"""Work reaches items: by op and kernel, by the copy's own bytes, by signature; and where it cannot, the reason does."""

from __future__ import annotations

from math import prod

import pytest

from diagnose.costs.registry import Phase, Price
from diagnose.items import collect
from diagnose.pricing.pricing import Fallback, price_items
from diagnose.work import Op, Work
from tests.builders import TraceBuilder, launched

MATRIX = ((256, 256), "bfloat16")
TWO_N_CUBED = 2 * 256**3
MATRIX_BYTES = 256 * 256 * 2


def priced(built: TraceBuilder, fallback: Fallback | None = None) -> list[Work | str]:
    """The work of each item, or the reason why there is none."""
    found = price_items(collect(built.reading().trace), fallback)
    return [
        found.works[work] if work >= 0 else found.reasons[reason]
        for work, reason in zip(found.work.tolist(), found.reason.tolist(), strict=True)
    ]


def flops(work: Work | str) -> int | None:
    assert isinstance(work, Work), work
    return work.total_flops


def test_a_matmul_on_one_kernel() -> None:
    built = TraceBuilder()
    launched(built, "aten::mm", [MATRIX, MATRIX], 50, 10, kernel="gemm")
    (work,) = priced(built)
    assert isinstance(work, Work)
    assert work.flops == (("tensor.bfloat16", TWO_N_CUBED),)
    assert (work.bytes_read, work.bytes_written) == (2 * MATRIX_BYTES, MATRIX_BYTES)
    assert work.source == "formula"


def test_an_ops_flops_are_shared_among_its_kernels_exactly() -> None:
    built = TraceBuilder()
    built.op("aten::mm", 0, 40, inputs=[MATRIX, MATRIX])
    for index, blocks in enumerate((7, 13, 64)):
        correlation = built.launch(5 + 5 * index, 2)
        built.kernel("gemm", 50 + 20 * index, 10, correlation=correlation, grid=(blocks, 1, 1))
    works = priced(built)
    assert sum(flops(work) or 0 for work in works) == TWO_N_CUBED
    assert flops(works[0]) < flops(works[1]) < flops(works[2])  # type: ignore[operator]


def test_calls_of_one_op_with_other_shapes_have_other_work() -> None:
    built = TraceBuilder()
    for index, size in enumerate((64, 128, 64)):
        tensor = ((size, size), "bfloat16")
        launched(built, "aten::mm", [tensor, tensor], 50 + 100 * index, 10, kernel="gemm")
    assert [flops(work) for work in priced(built)] == [2 * 64**3, 2 * 128**3, 2 * 64**3]


def test_copies_and_sets_move_what_they_say() -> None:
    built = TraceBuilder()
    built.copy("Memcpy HtoD (Pinned -> Device)", 0, 5, size=1000)
    built.memset(10, 5, size=300)
    built.copy("Memcpy DtoH (Device -> Pinned)", 20, 5, size=None)
    copy, memset, unknown = priced(built)
    assert copy == Work((), 1000, 1000, source="metadata")
    assert memset == Work((), 0, 300, source="metadata")
    assert unknown == "the recording does not say how many bytes"


def test_a_collective_moves_its_message() -> None:
    built = TraceBuilder()
    built.collective(0, 5, elements=1000)
    built.kernel("ncclDevKernel_SendRecv", 10, 5)
    described, bare = priced(built)
    assert isinstance(described, Work)
    assert (described.bytes_read, described.bytes_written, described.source) == (4000, 4000, "collective")
    assert bare == "a collective whose size was not recorded"


@pytest.mark.parametrize(
    ("op", "inputs", "reason"),
    [
        ("nobody::knows", [1.5], "no formula for this op"),
        ("aten::mm", None, "shapes were not recorded"),
        ("aten::mm", [1.5, 2], "argument 0 is not a recorded tensor"),
    ],
)
def test_the_reason_of_unknown_work(op: str, inputs: list[object] | None, reason: str) -> None:
    built = TraceBuilder()
    launched(built, "aten::relu", [MATRIX], 20, 10)
    launched(built, op, inputs, 50, 10)
    found = priced(built)[1]
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize(
    ("op", "inputs", "reason"),
    [
        ("nobody::knows", [MATRIX, 1.5, MATRIX], "no formula for this op"),
        ("aten::mm", [MATRIX, ((3, 3, 3), "bfloat16")], "unexpected arguments"),
        ("aten::mm", [MATRIX], "argument 1 was not recorded"),
    ],
)
def test_unknown_work_on_recorded_tensors_has_a_lower_bound(op: str, inputs: list[object], reason: str) -> None:
    built = TraceBuilder()
    launched(built, op, inputs, 50, 10)
    found = price_items(collect(built.reading().trace))
    (work,) = found.works
    sizes = [prod(value[0]) * 2 for value in inputs if isinstance(value, tuple)]
    assert (work.is_bound, work.source, work.flops, work.bytes_accessed) == (True, "inputs", None, sum(sizes))
    assert reason in found.reasons[int(found.reason[0])]


def test_a_kernel_without_an_op_says_so() -> None:
    built = TraceBuilder()
    built.kernel("mystery", 0, 5)
    assert priced(built) == ["not linked to an op"]


# ---- By signature


def with_unlinked(*, grid: tuple[int, int, int] = (264, 1, 1), name: str = "gemm", sizes: tuple[int, ...] = (256,)):
    """Linked kernels of one name and grid, one for each size; then one that has lost its op, after all of them."""
    built = TraceBuilder()
    for index, size in enumerate(sizes):
        tensor = ((size, size), "bfloat16")
        launched(built, "aten::mm", [tensor, tensor], 50 + 100 * index, 10, kernel="gemm")
    built.kernel(name, 1000, 10, grid=grid)
    return built


def test_an_unlinked_kernel_takes_the_work_of_its_equals() -> None:
    linked, unlinked = priced(with_unlinked())
    assert flops(unlinked) == flops(linked) == TWO_N_CUBED
    assert isinstance(unlinked, Work)
    assert unlinked.source == "signature"


def test_not_if_its_equals_differ() -> None:
    assert priced(with_unlinked(sizes=(256, 128)))[-1] == "not linked to an op"


@pytest.mark.parametrize("other", [{"grid": (265, 1, 1)}, {"name": "gemm2"}])
def test_not_if_name_or_grid_differ(other: dict[str, object]) -> None:
    assert priced(with_unlinked(**other))[-1] == "not linked to an op"


# ---- Asking further


def test_the_fallback_is_asked_only_where_no_formula_answers() -> None:
    built = TraceBuilder()
    launched(built, "aten::mm", [MATRIX, MATRIX], 50, 10)
    launched(built, "nobody::knows", [MATRIX], 150, 10)
    asked: list[str] = []

    def fallback(op: Op) -> Price:
        asked.append(op.name)
        return Price((Phase(Work((), 1, 2, source="meta")),))

    known, found = priced(built, fallback)
    assert asked == ["nobody::knows"]
    assert flops(known) == TWO_N_CUBED
    assert found == Work((), 1, 2, source="meta")


def test_each_distinct_call_is_priced_once() -> None:
    built = TraceBuilder()
    for index in range(20):
        launched(built, "nobody::knows", [1.5], 50 + 100 * index, 10)
    asked: list[str] = []

    def fallback(op: Op) -> Price:
        asked.append(op.name)
        return Price(None, "no")

    assert priced(built, fallback) == ["no"] * 20
    assert len(asked) == 1


# ---- The CPU


def test_on_a_cpu_views_and_wrappers_do_nothing() -> None:
    built = TraceBuilder(device=None)
    built.op("aten::linear", 0, 100, inputs=[MATRIX, MATRIX, None])
    built.op("aten::t", 5, 10, inputs=[MATRIX])
    built.op("aten::mm", 20, 70, inputs=[MATRIX, MATRIX])
    wrapper, view, product = priced(built)
    assert flops(wrapper) == flops(view) == 0
    assert flops(product) == TWO_N_CUBED


def test_on_a_cpu_work_done_by_a_child_counts_once() -> None:
    built = TraceBuilder(device=None)
    built.op("aten::mean", 0, 100, inputs=[((64, 64), "float32"), None])
    built.op("aten::sum", 10, 50, inputs=[((64, 64), "float32"), [], False, None])
    built.op("aten::mean", 200, 100, inputs=[((64, 64), "float32"), None])  # a build that does it all in one
    frame, worker, alone = priced(built)
    assert flops(frame) == 0
    assert flops(worker) > 0  # type: ignore[operator]
    assert flops(alone) > 0  # type: ignore[operator]


def moved_by(op, inputs, *activities):
    """Bytes read, written and extra of each activity of one op: kernels by name, memory sets by their bytes."""
    trace = TraceBuilder()
    trace.op(op, 0, 90, inputs=inputs)
    for index, activity in enumerate(activities):
        correlation = trace.launch(2 + 4 * index, 2)
        if isinstance(activity, str):
            trace.kernel(activity, 100 + 10 * index, 5, correlation=correlation)
        else:
            trace.memset(100 + 10 * index, 5, size=activity, correlation=correlation)
    return [(work.bytes_read, work.bytes_written, work.extra_bytes) for work in priced(trace) if isinstance(work, Work)]


def test_a_set_beside_the_kernel_that_does_the_work_is_the_price_of_the_algorithm():
    """One rule for cuDNN's padding, cuBLAS's semaphores and MIOpen's cleared buffers: all of it is extra."""
    assert moved_by("aten::mm", [MATRIX, MATRIX], 4096, "gemm_kernel") == [
        (0, 4096, 4096),
        (2 * MATRIX_BYTES, MATRIX_BYTES, 0),
    ]
    image, weight = ((2, 8, 16, 16), "float32"), ((8, 8, 3, 3), "float32")
    settings = [[1, 1], [1, 1], [1, 1], 1, False, False, True]
    found = moved_by("aten::cudnn_convolution", [image, weight, *settings], 2048, 512, "implicit_convolve_sgemm")
    assert [extra for _, _, extra in found] == [2048, 512, 0]
    # ROCm records no bytes: what MIOpen clears follows from the op, and is as extra.
    found = moved_by("aten::miopen_convolution", [image, weight, None, *settings], None, "conv_fwd")
    cleared = 2 * 8 * 16 * 16 * 4
    assert found[0] == (0, cleared, cleared)
    assert found[1][2] == 0


def test_a_set_that_is_all_that_its_op_does_is_its_work():
    assert moved_by("aten::zero_", [((64, 64), "float32")], 16384) == [(0, 16384, 0)]


def test_a_set_of_an_op_that_nobody_knows_is_not_called_extra():
    assert moved_by("mylib::mystery", [((64, 64), "float32")], 4096, "mystery_kernel")[0] == (0, 4096, 0)
