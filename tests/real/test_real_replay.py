"""Real recordings run again: unchanged they last what was measured, and faster kernels save what they can."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from diagnose.items import collect
from diagnose.replays.replayer import Change, Replayer
from diagnose.trace.chrome import read_trace


@cache
def replayer_of(path: Path) -> Replayer:
    return Replayer(collect(read_trace(path).trace))


def test_unchanged_it_gives_the_measured_wall_time(real_trace: Path) -> None:
    replayer = replayer_of(real_trace)
    assert replayer.error is not None
    assert replayer.error <= 0.005
    assert np.abs(replayer.boundaries(Change()) - replayer.recording.steps.boundaries).max() <= (
        0.005 * replayer.measured_ns
    )


def test_everything_removed_is_the_limit(real_trace: Path) -> None:
    replayer = replayer_of(real_trace)
    assert replayer.limit_ns == replayer.wall_ns
    for change in (Change(duration=replayer.duration // 2), Change(host=replayer.host // 2)):
        saved = replayer.saving(change)
        assert saved is not None
        assert 0 <= saved <= replayer.limit_ns


@pytest.mark.parametrize(
    ("name", "by_table", "by_replay"),
    [
        ("h100_qwen_0.5b_prefill_b16", 0.32, 0.045),
        ("a100_resnet_ddp_rank0", 0.12, 0.0),
        ("h100_vit_bf16_b4", 0.08, 0.0),
        ("v100_resnet_ddp_rank0", 0.49, 0.49),
    ],
)
def test_kernels_twice_as_fast(name: str, by_table: float, by_replay: float, trace_path: Callable[[str], Path]) -> None:
    """What the kernel table promises, and what the step would really be shorter by: known from an earlier replay."""
    replayer = replayer_of(trace_path(name))
    own = replayer.recording.items.is_own
    saved = replayer.saving(Change(duration=np.where(own, replayer.duration // 2, replayer.duration)))
    assert saved is not None
    assert replayer.duration[own].sum() / 2 / replayer.wall_ns == pytest.approx(by_table, abs=0.01)
    assert saved / replayer.wall_ns == pytest.approx(by_replay, abs=0.01)
