"""Modules and lines of real recordings with stacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diagnose.analysis import analyse
from diagnose.places.module_tree import module_tree
from diagnose.schema import Document
from diagnose.trace.chrome import read_trace

STACKED = [
    "h100_vit_bf16_b4",
    "h100_bert_small_b1",
    "h100_qwen_0.5b_prefill_b16",
    "b200_vllm_moe_tp8_rank0",
    "mi300x_bert_small_b1",
    "mi300x_resnet_train_checkpoint",
]


@pytest.fixture(scope="module", params=STACKED)
def document(request: pytest.FixtureRequest, trace_path: Callable[[str], Path]) -> Document:
    return analyse(read_trace(trace_path(request.param)))


def test_places_sum_to_their_rows_and_modules_to_the_whole(document: Document) -> None:
    for row in document.kernels:
        assert sum(place.calls for place in row.places) == row.calls
        assert sum(place.time_ns for place in row.places) == row.time_ns
    assert sum(node.own_ns for node in module_tree(document)) == document.coverage.kernel_ns


def test_what_a_model_computes_has_a_line(document: Document) -> None:
    """Matrix products are a model's own: each knows the line of its function, whether forward or backward."""
    found = [
        place
        for row in document.kernels
        if row.op in {"aten::addmm", "aten::mm", "aten::bmm", "aten::convolution_backward", "aten::linear"}
        for place in row.places
    ]
    assert found
    assert all(place.line is not None for place in found)
    assert not any((place.line or "").startswith(("torch/", "/", "<")) for place in found)


def test_no_module_of_torch_compile_or_function_stands_for_a_module(document: Document) -> None:
    modules = {place.module for row in document.kernels for place in row.places if place.module}
    assert modules
    assert not any(":" in module or "(" in module or "GraphModule" in module for module in modules)
