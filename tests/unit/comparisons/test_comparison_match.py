"""Which rows of two reports are the same work."""

from __future__ import annotations

import msgspec
from report_documents import kernel_of, place_of, signature_of

from diagnose.comparisons.match import match_rows


def row(kernel: str, op: str | None, shapes: list[object] | None = None, module: str | None = None):
    signature = None if shapes is None else signature_of(shapes)
    places = [] if module is None else [place_of(module, "model.py:1", 100)]
    return kernel_of(kernel, op, 100, signature=signature, places=places)


def pairs(before, after) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(match.before, match.after) for match in match_rows(before, after)]


def test_a_kernel_with_another_name_is_found_by_op_and_shape():
    before = [row("cutlass_1", "aten::mm", [[8, 8]]), row("cutlass_2", "aten::mm", [[64, 64]])]
    after = [row("Cijk_2", "aten::mm", [[64, 64]]), row("Cijk_1", "aten::mm", [[8, 8]])]
    assert sorted(pairs(before, after)) == [((0,), (1,)), ((1,), (0,))]


def test_equal_shapes_are_told_apart_by_place():
    before = [row("k", "aten::mm", [[8, 8]], "mlp.0"), row("k", "aten::mm", [[8, 8]], "mlp.1")]
    after = [row("n", "aten::mm", [[8, 8]], "mlp.1"), row("n", "aten::mm", [[8, 8]], "mlp.0")]
    assert sorted(pairs(before, after)) == [((0,), (1,)), ((1,), (0,))]


def test_changed_shapes_are_matched_at_their_place():
    before = [row("k", "aten::mm", [[8, 8]], "mlp.0"), row("k", "aten::mm", [[4, 4]], "mlp.1")]
    after = [row("k", "aten::mm", [[9, 9]], "mlp.0"), row("k", "aten::mm", [[5, 5]], "mlp.1")]
    assert sorted(pairs(before, after)) == [((0,), (0,)), ((1,), (1,))]


def test_a_changed_batch_keeps_each_weight_with_its_own():
    before = [row("k", "aten::mm", [[32, 768], [768, 3072]]), row("k", "aten::mm", [[32, 3072], [3072, 768]])]
    after = [row("n", "aten::mm", [[64, 3072], [3072, 768]]), row("n", "aten::mm", [[64, 768], [768, 3072]])]
    assert sorted(pairs(before, after)) == [((0,), (1,)), ((1,), (0,))]


def test_several_kernels_of_an_op_are_one_match_when_their_names_change():
    before = [row("nchw_to_nhwc", "aten::conv", [[1, 3]]), row("gemm", "aten::conv", [[1, 3]])]
    after = [row("implicit_gemm", "aten::conv", [[1, 3]])]
    assert pairs(before, after) == [((0, 1), (0,))]


def test_new_and_gone_work_stands_alone():
    before = [row("a", "aten::mm", [[8, 8]]), row("b", "aten::gelu", [[8]])]
    after = [row("a", "aten::mm", [[8, 8]]), row("c", "aten::relu", [[8]])]
    assert sorted(pairs(before, after)) == [((), (1,)), ((0,), (0,)), ((1,), ())]


def test_an_extra_call_of_another_shape_is_new_not_a_change():
    before = [row("a", "aten::mm", [[8, 8]])]
    after = [row("a", "aten::mm", [[8, 8]]), row("a", "aten::mm", [[64, 64]])]
    assert sorted(pairs(before, after)) == [((), (1,)), ((0,), (0,))]


def test_unlinked_kernels_are_matched_by_name_and_never_with_linked_ones_of_no_name():
    assert pairs([row("k", None)], [row("k", None)]) == [((0,), (0,))]
    assert pairs([row("k", None)], [row("other", None)]) == [((0,), ()), ((), (0,))]


def test_which_of_several_layers_took_most_is_chance():
    def attention(strides: list[int], *modules: str):
        signature = msgspec.structs.replace(signature_of([[16, 512, 512]]), strides=[strides])
        places = [place_of(module, "model.py:1", 100 - index) for index, module in enumerate(modules)]
        return kernel_of("bmm", "aten::bmm", 300, signature=signature, places=places)

    before = [attention([1, 2, 3], "a.0", "a.1"), attention([3, 2, 1], "a.1", "a.0")]
    after = [attention([1, 2, 3], "a.1", "a.0"), attention([3, 2, 1], "a.1", "a.0")]
    assert sorted(pairs(before, after)) == [((0,), (0,)), ((1,), (1,))]
