"""Two reports side by side: the sum of the differences, the cause, the noise, what is said first."""

from __future__ import annotations

import msgspec
import pytest
from report_documents import (
    cpu_document,
    deviceless_document,
    gpu_document,
    hostile_document,
    kernel_of,
    place_of,
    ranked,
    signature_of,
    steps_of,
    unknown_device_document,
    waterfall_of,
)  # fmt: skip

from diagnose import schema
from diagnose.comparisons.comparing import difference_of
from diagnose.schema import Document
from diagnose.tables.comparison import Difference

replaced = msgspec.structs.replace
KERNELS = {"aten::mm": 600_000, "aten::softmax": 200_000, "aten::add": 100_000}


def document(
    times: dict[str, int], idle_ns: int = 100_000, steps: list[int] | None = None, calls: int = 1, factor: int = 1
) -> Document:
    """One step of these kernels and idle time; ``steps``: extra lengths of steady steps, as idle time."""
    extra = steps or [0]
    rows = ranked(
        [kernel_of(f"kernel_{op}", op, ns * len(extra) * factor, calls=calls * len(extra),
                   signature=signature_of([[8, 8]]), places=[place_of("layer", "m.py:3", ns)])
         for op, ns in times.items()]
    )  # fmt: skip
    parts = [{"uncosted": sum(times.values()) * factor, "idle_launch": idle_ns + more} for more in extra]
    whole = {part: sum(step[part] for step in parts) for part in parts[0]}
    walls = [sum(step.values()) for step in parts]
    return replaced(
        gpu_document(), kernels=rows, recording=schema.RecordingCost(None, None),
        window=schema.Window("0", sum(walls), [replaced(step, steady=True) for step in steps_of(walls)]),
        waterfall=waterfall_of("cuda:0", None, whole)
        + [row for index, step in enumerate(parts) for row in waterfall_of("cuda:0", index, step)],
    )  # fmt: skip


STEADY = [0, 5_000, 10_000]


def adds_up(found: Difference) -> bool:
    return sum(change.difference_ns for change in found.changes) == found.step_after_ns - found.step_before_ns


@pytest.mark.parametrize("before", [gpu_document(), cpu_document(), deviceless_document(), unknown_device_document()])
@pytest.mark.parametrize("after", [gpu_document(), cpu_document(), deviceless_document(), hostile_document()])
def test_differences_add_up_whatever_is_compared(before: Document, after: Document):
    found = difference_of(before, after)
    assert adds_up(found)
    assert found.verdict


def test_the_same_recording_has_no_difference():
    found = difference_of(gpu_document(), gpu_document())
    assert found.verdict.startswith("no difference: ")
    assert all(change.difference_ns == 0 and change.status == "same" for change in found.changes)
    assert all(row.difference in (0, None) for row in found.quantities)


class TestCause:
    def verdict(self, after: Document) -> str:
        return difference_of(document(KERNELS, steps=STEADY), after).verdict

    def test_a_new_kernel_comes_first(self):
        found = self.verdict(document({**KERNELS, "aten::layer_norm": 400_000}, steps=STEADY))
        assert found.startswith("slower by 40 %")
        assert "mostly layer_norm +400 us (new, layer), all of it" in found

    def test_a_slower_kernel_comes_first(self):
        found = self.verdict(document({**KERNELS, "aten::softmax": 900_000}, steps=STEADY))
        assert "mostly softmax +700 us (200 us → 900 us, layer)" in found

    def test_idle_time_comes_first(self):
        assert "mostly idle: launching +300 us" in self.verdict(document(KERNELS, 400_000, steps=STEADY))

    def test_what_went_away_explains_a_faster_step(self):
        less = {"aten::mm": 600_000, "aten::add": 100_000}
        found = self.verdict(document(less, steps=STEADY))
        assert found.startswith("faster by 20 %")
        assert "mostly softmax -200 us (gone, layer)" in found

    def test_more_calls_are_counted(self):
        before = document({"aten::mm": 600_000}, steps=STEADY)
        after = document({"aten::mm": 900_000}, steps=STEADY, calls=3)
        assert "(1 → 3 calls a step, layer)" in difference_of(before, after).verdict

    def test_rows_of_one_op_are_summed_before_the_largest_is_named(self):
        def of(each: int, other: int) -> Document:
            rows = [kernel_of(f"k{i}", "aten::mm", each, signature=signature_of([[i, i]])) for i in range(1, 9)]
            rows.append(kernel_of("g", "aten::gelu", other))
            total = 8 * each + other
            parts = {"uncosted": total}
            return replaced(
                document({}), kernels=ranked(rows), window=schema.Window("0", total, steps_of([total])),
                waterfall=waterfall_of("cuda:0", None, parts) + waterfall_of("cuda:0", 0, parts),
            )  # fmt: skip

        assert "mostly mm +800 us" in difference_of(of(100_000, 100_000), of(200_000, 400_000)).verdict

    def test_everything_slower_alike_is_no_kernels_doing(self):
        found = difference_of(document(KERNELS, steps=STEADY), document(KERNELS, steps=STEADY, factor=2))
        assert "all kernels take 2.00 times as long" in found.verdict

    def test_twice_the_work_is_not_called_a_slower_clock(self):
        after = document(KERNELS, steps=STEADY, factor=2, calls=2)
        assert "times as long" not in difference_of(document(KERNELS, steps=STEADY), after).verdict


class TestNoise:
    def test_overlapping_steps_are_no_difference(self):
        found = difference_of(document(KERNELS, steps=[0, 50_000]), document(KERNELS, steps=[30_000, 80_000]))
        assert found.verdict.startswith("no difference beyond noise: 1.00 ms → 1.03 ms a step (+3.0 %)")

    def test_steps_that_lie_apart_are_a_difference(self):
        found = difference_of(document(KERNELS, steps=STEADY), document(KERNELS, steps=[60_000, 70_000]))
        assert found.verdict.startswith("slower by")

    def test_less_than_one_percent_either_way_is_noise_however_quiet_the_steps(self):
        found = difference_of(document(KERNELS, steps=[0, 0]), document(KERNELS, steps=[15_000, 15_000]))
        assert "beyond noise" in found.verdict

    def test_of_one_step_it_is_unknown_and_said(self):
        found = difference_of(document(KERNELS), document(KERNELS, 200_000))
        assert found.verdict.startswith("slower by 10 % (noise unknown)")
        assert "one steady step" in found.noise

    def test_unrecorded_steps_win_where_both_have_them(self):
        plain = schema.RecordingCost(700_000, 1_000_000, [690_000, 700_000, 710_000])
        slower = schema.RecordingCost(800_000, 1_000_000, [790_000, 800_000, 810_000])
        one, other = (replaced(document(KERNELS, steps=STEADY), recording=cost) for cost in (plain, slower))
        found = difference_of(one, other)
        assert found.verdict.startswith("slower by 14 %: 700 us → 800 us")
        assert "no part of the recorded step explains it" in found.verdict
        assert "unrecorded steps 690 us to 710 us before" in found.noise

    def test_a_difference_that_the_recording_hardly_shows_is_not_blamed_on_what_it_shows(self):
        """GIVEN unrecorded steps 500 us apart AND recorded ones 100 us THEN shares are of the 500."""
        costs = [schema.RecordingCost(ns, 1_000_000, [ns] * 5) for ns in (700_000, 1_200_000)]
        one = replaced(document(KERNELS, steps=STEADY), recording=costs[0])
        other = replaced(document({**KERNELS, "aten::add": 200_000}, steps=STEADY), recording=costs[1])
        found = difference_of(one, other).verdict
        assert "the recorded steps differ by only +100 us, there mostly add +100 us" in found
        assert found.endswith("20 % of it")


class TestNotes:
    def test_another_device_or_torch_is_said_first(self):
        one = gpu_document()
        other = replaced(
            one, devices=[replaced(one.devices[0], name="AMD Instinct MI300X")],
            source=replaced(one.source, torch_version="2.13.0", path="/x"),
        )  # fmt: skip
        one = replaced(one, source=replaced(one.source, torch_version="2.11.0"))
        assert difference_of(one, other).notes[0] == (
            "the two ran on different devices (NVIDIA H100 80GB HBM3, then AMD Instinct MI300X) and versions of torch "
            "(2.11.0, then 2.13.0)"
        )

    def test_a_recording_without_device_activity_is_named(self):
        assert any(
            note.startswith("after: nothing ran") for note in difference_of(gpu_document(), deviceless_document()).notes
        )
