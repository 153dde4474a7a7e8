"""The steady step: its noise, and its parts, which add up."""

from __future__ import annotations

import msgspec
import pytest
from report_documents import cpu_document, deviceless_document, gpu_document

from diagnose.steady import account_of, apportioned, part_times, spread_of, step_times


class TestSpread:
    def test_of_a_few_values_is_their_range(self):
        found = spread_of([100, 90, 130, 105])
        assert found is not None
        assert (found.middle, found.low, found.high, found.count) == (100, 90, 130, 4)

    def test_of_many_values_is_the_interval_of_their_median(self):
        """The middle half is 4 wide: 2 x 4 / sqrt(16) = 2 either way."""
        found = spread_of(
            [96.0, 98.0, 98.0, 98.0, 98.0, 99.0, 99.0, 100.0, 100.0, 101.0, 101.0, 102, 102, 102, 102, 104]
        )
        assert found is not None
        assert (found.middle, found.low, found.high) == (100.0, 98.0, 102.0)

    def test_an_interruption_does_not_widen_it(self):
        quiet, loud = spread_of([100, 101, 102, 103, 104]), spread_of([100, 101, 102, 103, 10_000])
        assert quiet is not None
        assert loud is not None
        assert (quiet.low, quiet.high) == (loud.low, loud.high)

    def test_is_never_below_one_percent(self):
        found = spread_of([1000, 1000, 1000])
        assert found is not None
        assert (found.low, found.high) == (990, 1010)

    def test_of_one_value_is_unknown_and_of_none_there_is_none(self):
        found = spread_of([7])
        assert found is not None
        assert (found.low, found.high) == (None, None)
        assert spread_of([]) is None


class TestAccount:
    def test_leaves_the_first_step_out(self):
        assert step_times(gpu_document()) == [2_920_000, 2_900_000, 3_010_000]

    def test_parts_are_the_mean_of_the_steady_steps(self):
        assert part_times(gpu_document(), {"idle_launch", "idle_sync"}) == [700_000, 680_000, 790_000]

    @pytest.mark.parametrize("document", [gpu_document(), cpu_document(), deviceless_document()])
    def test_adds_up_to_the_median_step(self, document):
        account = account_of(document)
        assert sum(account.kernels) + sum(account.parts.values()) == account.step_ns > 0

    def test_of_one_step_is_what_was_measured(self):
        document = cpu_document()
        rows = [msgspec.structs.replace(row, exposed_ns=row.time_ns) for row in document.kernels]
        document = msgspec.structs.replace(document, kernels=rows)
        account = account_of(document)
        assert account.kernels == [row.exposed_ns for row in rows]
        assert account.parts == {"idle_launch": 1_260_000}

    def test_without_device_activity_nothing_is_known_of_the_step(self):
        assert account_of(deviceless_document()).parts == {"idle_unknown": 5_000_000}


def test_apportioned_is_whole_and_in_proportion():
    assert apportioned({"a": 1, "b": 1, "c": 1}, 10) == {"a": 4, "b": 3, "c": 3}
    assert apportioned({"a": 0, "b": 7}, 5) == {"a": 0, "b": 5}
