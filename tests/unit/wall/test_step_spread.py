"""Which steady steps stand out, and by what."""

from __future__ import annotations

from diagnose.schema import Step, WaterfallRow
from diagnose.wall.step_spread import step_spread


def steps_of(*walls: int, unsteady: frozenset[int] = frozenset()) -> list[Step]:
    return [Step(f"ProfilerStep#{index}", 0, wall, index not in unsteady) for index, wall in enumerate(walls)]


def rows_of(parts: dict[str, list[int]], device: str = "cuda:0") -> list[WaterfallRow]:
    return [
        WaterfallRow(None, device, index, part, None, ns, 0.0) for part, by_step in parts.items()
        for index, ns in enumerate(by_step)
    ]  # fmt: skip


def test_even_steps_have_no_outliers() -> None:
    found = step_spread(steps_of(100, 101, 99, 100, 102, 100, 98, 100), [])
    assert found is not None
    assert (found.count, found.median_ns, found.outliers) == (8, 100, [])
    assert (found.low_quartile_ns, found.high_quartile_ns) == (100, 100)


def test_an_outlier_is_named_with_the_part_that_differs_most() -> None:
    walls = [100, 101, 99, 100, 102, 100, 98, 180]
    parts = {"idle_data": [5, 5, 5, 5, 5, 5, 5, 75], "uncosted": [95, 96, 94, 95, 97, 95, 93, 105]}
    found = step_spread(steps_of(*walls), rows_of(parts))
    assert found is not None
    (outlier,) = found.outliers
    assert (outlier.step, outlier.name, outlier.wall_ns, outlier.off_ns) == (7, "ProfilerStep#7", 180, 80)
    assert (outlier.part, outlier.part_ns) == ("idle_data", 70)


def test_a_short_step_is_an_outlier_too_by_what_it_lacks() -> None:
    walls = [100] * 7 + [40]
    parts = {"uncosted": [80] * 7 + [10], "idle_sync": [20] * 7 + [30]}
    found = step_spread(steps_of(*walls), rows_of(parts))
    assert found is not None
    assert [(outlier.off_ns, outlier.part, outlier.part_ns) for outlier in found.outliers] == [(-60, "uncosted", -70)]


def test_devices_are_added_up() -> None:
    walls = [100] * 7 + [200]
    rows = rows_of({"uncosted": [50] * 7 + [90]}, "cuda:0") + rows_of({"uncosted": [50] * 7 + [110]}, "cuda:1")
    found = step_spread(steps_of(*walls), rows)
    assert found is not None
    assert found.outliers[0].part_ns == 100


def test_steps_that_are_not_steady_are_left_out() -> None:
    found = step_spread(steps_of(900, 100, 101, 99, 100, unsteady=frozenset([0])), [])
    assert found is not None
    assert (found.count, found.median_ns, found.outliers) == (4, 100, [])
    assert step_spread(steps_of(5, unsteady=frozenset([0])), []) is None


def test_of_few_steps_only_a_large_difference_counts_and_there_are_no_quartiles() -> None:
    assert step_spread(steps_of(100, 100, 115), []).outliers == []
    found = step_spread(steps_of(100, 100, 130), [])
    assert (found.low_quartile_ns, found.high_quartile_ns, len(found.outliers)) == (None, None, 1)
    assert found.outliers[0].part is None
    assert step_spread(steps_of(100, 300), []).outliers == []  # of two nobody knows which is the odd one


def test_a_difference_of_a_few_percent_is_no_outlier_however_even_the_rest() -> None:
    assert step_spread(steps_of(*[1000] * 9, 1040), []).outliers == []
    assert len(step_spread(steps_of(*[1000] * 9, 1060), []).outliers) == 1
