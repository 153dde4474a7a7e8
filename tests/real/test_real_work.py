"""Real traces: how much of the kernel time has exact work, collectives and bounds left out of the share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diagnose.reading import read

COMPLETE = ["h100_vit_bf16_b4", "h100_bert_small_b1", "h100_qwen_0.5b_prefill_b16", "mi300x_resnet_train_checkpoint"]


@pytest.mark.parametrize("name", COMPLETE)
def test_kernel_time_without_collectives_and_bounds_is_costed(name: str, trace_path: Callable[[str], Path]) -> None:
    document = read(trace_path(name)).document
    communication = [row for row in document.kernels if row.bound == "communication"]
    costed = document.coverage.costed_ns - sum(row.time_ns for row in communication if row.cost_source is not None)
    whole = document.coverage.kernel_ns - sum(row.time_ns for row in communication) - document.coverage.bounded_ns
    assert costed >= 0.995 * whole > 0


def test_flattened_tensors_and_cleared_buffers_of_a_training_step_are_known(trace_path: Callable[[str], Path]) -> None:
    document = read(trace_path("mi300x_resnet_train_checkpoint")).document
    unknown = {(row.op, row.kernel.split("<")[0]) for row in document.coverage.uncosted}
    # Its list of parameters was not written to the file, and nothing else tells what it was.
    assert {op for op, _ in unknown} == {"aten::_foreach_add_"}


def test_looking_up_rows_in_a_serving_step_is_known_by_its_views(trace_path: Callable[[str], Path]) -> None:
    document = read(trace_path("mi300x_vllm_decode_graph_capture")).document
    (row,) = [row for row in document.kernels if row.op == "aten::index"]
    # 32 rows of 2880 bfloat16 of as many, and 32 indices.
    assert (row.bytes_read, row.bytes_written) == (32 * 2880 * 2 + 32 * 8, 32 * 2880 * 2)
