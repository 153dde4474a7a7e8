"""Rules about memory on real recordings: what they say holds together, and some of it counted again from the file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.memory import RULES
from diagnose.trace.chrome import read_trace


@cache
def case_of(path: Path) -> Case:
    kept: list[Case] = []
    analyse(read_trace(path), keep=kept.append)
    return kept[0]


def events_of(path: Path) -> list[dict[str, Any]]:
    return [event for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"] if "dur" in event]


def test_every_proposal_holds_together(real_trace: Path) -> None:
    case = case_of(real_trace)
    for proposal in [each for rule in RULES for each in rule(case)]:
        gap = proposal.gap_ns
        assert gap is not None
        assert 0 <= gap.low <= gap.mid <= gap.high
        claimed = [cell.row for cell in proposal.cells if cell.row is not None]
        assert gap.high * len(case.steps) <= case.time_ns(claimed) + len(case.steps)
        assert proposal.where
        assert proposal.advice
        savings = [case.replayer.saving(change) for change in (proposal.low, proposal.mid, proposal.high)]
        assert all(saving is not None and saving <= case.wall_ns for saving in savings)


def test_the_prefill_copies_query_key_value_and_result_of_each_layer(trace_path: Callable[[str], Path]) -> None:
    """24 layers; query, key and value are made contiguous before the attention, its result after it."""
    path = trace_path("h100_qwen_0.5b_prefill_b16")
    rows = {each.rule: each.evidence for rule in RULES for each in rule(case_of(path))}
    copies = rows["reordering-copies"]
    assert copies["copies_per_step"] == 4 * 24
    assert copies["copy_bytes_per_step"] == 4 * 24 * 2 * 2 * 16 * 559 * 1024  # bfloat16, read and written
    assert rows.keys() == {"reordering-copies", "pointwise-chain"}
    # Two norms written out in each layer and one at the end, of which the first begins with no addition.
    assert rows["pointwise-chain"]["largest_run"] == "add, copy_, pow, mean, add, rsqrt, mul, copy_, mul"
    assert rows["pointwise-chain"]["largest_run_per_step"] == 2 * 24


def test_the_training_step_turns_its_images_around(trace_path: Callable[[str], Path]) -> None:
    path = trace_path("mi300x_resnet_train_checkpoint")
    case = case_of(path)
    rows = {each.rule: each.evidence for rule in RULES for each in rule(case)}
    events = events_of(path)
    launched = {event["args"]["correlation"] for event in events if event.get("cat") in ("cuda_runtime", "cuda_driver")}
    turned = [event for event in events if event["name"].startswith(("batched_transpose_", "transpose_"))]
    turned = [event for event in turned if event["args"]["correlation"] in launched]  # the others came before
    assert rows["channels-last"]["layout_kernels_per_step"] == len(turned) / 3
    assert rows["channels-last"]["layout_ns_per_step"] == pytest.approx(sum(each["dur"] for each in turned) / 3 * 1e3)
    # Of its 20 convolutions 19 lie in checkpointed blocks: 772 us of 1,403 us that a step computes again.
    again = rows["recomputed-activations"]
    assert (again["recomputed_kernels_per_step"], again["recomputed_ns_per_step"]) == (205, 1_403_319)
    assert again["matmul_and_convolution_ns_per_step"] == 772_024


def test_attention_that_is_fused_is_left_alone(real_trace: Path) -> None:
    fused = ("_flash_attention_forward", "unified_attention")
    case = case_of(real_trace)
    names = {case.op_name(group) for group in range(len(case.placed.groups))}
    if any(part in name for part in fused for name in names):
        assert not [each for rule in RULES for each in rule(case) if each.rule == "unfused-attention"]
