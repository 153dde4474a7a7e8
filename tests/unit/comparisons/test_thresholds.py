"""--fail-on: what an expression means, and when it is crossed."""

from __future__ import annotations

import msgspec
import pytest
from report_documents import deviceless_document, gpu_document, steps_of

from diagnose import schema
from diagnose.comparisons.thresholds import judge, parse_threshold
from diagnose.errors import UsageError
from diagnose.schema import Document

replaced = msgspec.structs.replace


def lasting(walls: list[int], plain: list[int] | None = None) -> Document:
    cost = schema.RecordingCost(None if plain is None else min(plain), None, plain or [])
    steps = [replaced(step, steady=True) for step in steps_of(walls)]
    return replaced(gpu_document(), window=schema.Window("0", sum(walls), steps), recording=cost)


def crossed(expression: str, before: Document, after: Document, *, is_strict: bool = False) -> bool | None:
    return judge(parse_threshold(expression, is_strict=is_strict), before, after).crossed


QUIET, SLOWER, NOISY = lasting([1000, 1000, 1000]), lasting([1100, 1100, 1100]), lasting([950, 1100, 1300])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("step_time:+5%", True), ("step_time:+15%", False), ("step_time:-5%", False), ("step_time:+50ns", True),
        ("step_time:+1us", False), ("step_time:1.05us", True), ("step_time:2us", False), ("launches:+0%", False),
        ("peak_memory:4GB", True), ("peak_memory:5GB", False), ("peak_memory:3.9GiB", False), ("mfu:-1%", False),
        ("flops:1T", False), ("flops:100G", True), ("idle:+1%", False), ("idle_launch:+0ns", False),
        ("compute:+5%", False), ("kernel:gemm:+5%", False), ("step_time:0", True),
    ],
)  # fmt: skip
def test_what_is_crossed_by_a_step_that_is_ten_percent_longer(expression: str, expected: bool):
    assert crossed(expression, QUIET, SLOWER) is expected


def test_a_fall_can_be_the_bad_direction():
    assert crossed("step_time:-5%", SLOWER, QUIET) is True
    assert crossed("step_time:-15%", SLOWER, QUIET) is False


def test_within_noise_nothing_is_crossed_unless_strict():
    assert crossed("step_time:+5%", QUIET, NOISY) is False
    assert crossed("step_time:+5%", QUIET, NOISY, is_strict=True) is True
    assert crossed("step_time:1us", QUIET, NOISY) is False
    assert crossed("step_time:1us", QUIET, NOISY, is_strict=True) is True
    assert "within noise" in judge(parse_threshold("step_time:+5%"), QUIET, NOISY).words


def test_of_one_step_noise_is_unknown_and_excuses_nothing():
    assert crossed("step_time:+5%", lasting([1000]), lasting([1100])) is True


def test_a_figure_that_was_not_recorded_is_not_judged():
    without = replaced(QUIET, totals=replaced(QUIET.totals, peak_memory_bytes=None))
    assert crossed("peak_memory:+5%", without, QUIET) is None
    assert crossed("peak_memory:8GB", QUIET, without) is None
    assert crossed("peak_memory:5GB", without, QUIET) is False
    assert crossed("idle:+5%", QUIET, deviceless_document()) is None


class TestKernels:
    def test_are_found_by_op_or_name(self):
        longer = [replaced(row, time_ns=row.time_ns * 2) if row.op == "aten::mm" else row for row in QUIET.kernels]
        after = replaced(QUIET, kernels=longer)
        assert crossed("kernel:^aten::mm$:+50%", QUIET, after) is True
        assert crossed("kernel:cutlass:+50%", QUIET, after) is True
        assert crossed("kernel:flash:+50%", QUIET, after) is False

    def test_are_followed_to_another_name(self):
        """GIVEN a pattern that only the earlier kernel's name fits WHEN its counterpart is slower THEN it is seen."""
        after = [
            replaced(row, kernel="renamed", time_ns=row.time_ns * 2) if "flash" in row.kernel else row
            for row in QUIET.kernels
        ]
        assert crossed("kernel:flash_fwd:+50%", QUIET, replaced(QUIET, kernels=after)) is True

    def test_that_nobody_has_are_an_error(self):
        with pytest.raises(UsageError, match="no kernel and no op"):
            crossed("kernel:nonesuch:+5%", QUIET, QUIET)

    def test_a_pattern_may_hold_colons(self):
        assert parse_threshold("kernel:aten::mm:+5%").pattern.pattern == "aten::mm"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("step_time", "expected METRIC:LIMIT"), ("step_time:", "expected METRIC:LIMIT"), ("step_time:fast", "expected"),
        ("step_time:5%", "say \\+5% or -5%"), ("step_time:5", "ends in one of ns, us, ms, s"),
        ("speed:+5%", "no metric 'speed'"), ("kernel:(:+5%", "not a regular expression"), ("peak_memory:5s", "kB"),
        ("", "expected"), (":+5%", "no metric"),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_named(expression: str, message: str):
    with pytest.raises(UsageError, match=message):
        parse_threshold(expression)
