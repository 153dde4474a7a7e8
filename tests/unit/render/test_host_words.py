"""The sentences under the waterfall: idle time by op and line, phases, steps that stand out."""

from __future__ import annotations

import msgspec

from diagnose.analysis import analyse
from diagnose.render.host_words import idle_words, outlier_words, phase_words
from diagnose.render.text import to_text
from diagnose.schema import Document, IdleRow, StepOutlier, StepSpread
from tests.builders import TraceBuilder, launched


def document() -> Document:
    """One kernel in a forward pass, launched late, another one on another device."""
    trace = TraceBuilder()
    trace.annotation("## forward ##", 0, 300)
    launched(trace, "aten::mm", None, 100, 100, launch_at=90)
    launched(trace, "aten::mm", None, 120, 10, launch_at=100, device=1)
    return analyse(trace.reading())


def idle(part: str, ns: int, op: str | None = "aten::mm", line: str | None = None, device: str = "cuda:0") -> IdleRow:
    return IdleRow(
        process_rank=None, device=device, part=part, bound=None, op=op, call="cudaLaunchKernel", module=None, line=line,
        count=1, ns=ns,
    )  # fmt: skip


def with_idle(*rows: IdleRow) -> Document:
    return msgspec.structs.replace(document(), idle=list(rows))


def test_the_longest_idle_time_is_named_with_its_op_and_line() -> None:
    words = idle_words(
        with_idle(
            idle("idle_launch", 40_000, line="/home/someone/model.py:12"),
            idle("idle_sync", 30_000, "aten::_local_scalar_dense"),
            idle("idle_data", 20_000),
            idle("idle_slot", 10_000),
            idle("idle_queued", 5_000, None),
        )
    )
    assert words == (
        "40.0 us launching mm at model.py:12; 30.0 us synchronising in _local_scalar_dense; "
        "20.0 us data loading before mm; 15.0 us in 2 more places"
    )


def test_rows_that_read_alike_are_added_up() -> None:
    assert idle_words(with_idle(idle("idle_launch", 40_000), idle("idle_launch", 2_000))) == "42.0 us launching mm"


def test_other_devices_idle_time_is_not_the_shown_ones() -> None:
    assert idle_words(with_idle(idle("idle_launch", 40_000, device="cuda:1"))) is None


def test_a_device_that_hardly_idles_needs_no_names() -> None:
    assert idle_words(with_idle(idle("idle_slot", 1_000))) is None


def test_phases_have_their_share_and_small_ones_no_word() -> None:
    assert phase_words(document()) == "forward 67 %, no phase 33 %"
    assert phase_words(msgspec.structs.replace(document(), phases=[])) is None


def outlier(step: int, off_ns: int, part: str | None, part_ns: int) -> StepOutlier:
    return StepOutlier(step=step, name=f"ProfilerStep#{step}", wall_ns=1, off_ns=off_ns, part=part, part_ns=part_ns)


def with_outliers(*outliers: StepOutlier) -> Document:
    spread = StepSpread(count=9, median_ns=1, low_quartile_ns=1, high_quartile_ns=1, outliers=list(outliers))
    return msgspec.structs.replace(document(), step_spread=spread)


def test_steps_that_stand_out_are_named_with_what_differs_the_furthest_first() -> None:
    words = outlier_words(
        with_outliers(
            outlier(2, 5_000, None, 0),
            outlier(3, 90_000, "idle_data", 80_000),
            outlier(4, -20_000, "uncosted", -19_000),
        )
    )
    assert words == (
        "ProfilerStep#3 is 90.0 us over the median (80.0 us more idle: data loading); "
        "ProfilerStep#4 is 20.0 us under the median (19.0 us less no work known); 1 more"
    )
    assert outlier_words(with_outliers()) is None
    assert outlier_words(document()) is None


def test_names_from_a_recording_cannot_control_the_terminal() -> None:
    shown = with_idle(idle("idle_launch", 40_000, "evil\x1b[31m\nop", line="\x1b]0;x\x07.py:1"))
    words = idle_words(shown)
    assert words is not None
    assert "\x1b" not in words + to_text(shown)
    assert "\n" not in words


def test_the_report_shows_them_under_the_waterfall() -> None:
    lines = to_text(document()).splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("Idle: "))
    assert any(line.startswith("Phases: ") for line in lines[at:])
    assert any(line.startswith("Where the time goes") for line in lines[:at])


def test_time_of_several_steps_is_said_to_be_so() -> None:
    shown = with_idle(idle("idle_launch", 40_000))
    window = msgspec.structs.replace(shown.window, steps=[*shown.window.steps[:1]] * 3)
    assert idle_words(msgspec.structs.replace(shown, window=window)) == "in all 3 steps 40.0 us launching mm"
