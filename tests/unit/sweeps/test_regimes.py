"""Flat, bending, rising, and the knee: from synthetic timings, nothing is run."""

from __future__ import annotations

import msgspec
import pytest
from report_documents import cpu_document, deviceless_document, gpu_document, waterfall_of

from diagnose import schema
from diagnose.sweeps.regimes import Shares, curve_of, regime_of, shares_of
from diagnose.sweeps.sweep import sweep_of
from diagnose.tables.sweep import Point, Sweep

SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def points(times: list[float], noise: float = 0.01, sizes: list[int] | None = None) -> list[Point]:
    return [
        Point(size=size, latency_ns=ns, low_ns=ns * (1 - noise), high_ns=ns * (1 + noise), runs=20, back_to_back_ns=ns,
              throughput_per_s=size / ns * 1e9)
        for size, ns in zip(sizes or SIZES, times, strict=True)
    ]  # fmt: skip


def shares(kind: str, unrecorded: str | None = None, idle: float = 0.1) -> Shares:
    kinds = dict.fromkeys(("compute", "memory", "communication", "overhead"), 0.05)
    return Shares({**kinds, kind: 0.8}, {**kinds, unrecorded or kind: 0.8}, idle, 1e6)


HINGE = [max(1e6, 1e6 * size / 20) for size in SIZES]
"""Flat at 1 ms, then in proportion: the two meet at 20."""


class TestCurve:
    def test_the_knee_is_where_level_and_line_meet(self):
        found = curve_of(points(HINGE))
        assert found.flat_ns == 1e6
        assert found.knee is not None
        assert found.knee[0] == pytest.approx(20, rel=0.01)
        assert found.knee[1] < found.knee[0] < found.knee[2]
        assert found.rise == pytest.approx(1.0)
        assert found.trends == ["flat"] * 5 + ["bending"] + ["rising"] * 4

    def test_a_sum_of_a_constant_and_a_slope_bends_and_has_its_knee_where_both_are_equal(self):
        """time = 1 ms + 10 us x size: equal at 100; the line through what still bends meets it a little earlier."""
        found = curve_of(
            points([1e6 + 1e4 * size for size in [*SIZES, 1024, 2048, 4096]], sizes=[*SIZES, 1024, 2048, 4096])
        )
        assert found.knee is not None
        assert 60 < found.knee[0] < 120

    def test_attention_rises_faster_than_its_size(self):
        found = curve_of(points([max(1e6, 1e6 * (size / 16) ** 2) for size in SIZES]))
        assert found.rise == pytest.approx(2.0)
        assert found.knee is not None
        assert found.knee[0] == pytest.approx(16, rel=0.01)

    def test_only_flat_has_no_knee(self):
        found = curve_of(points([1e6] * 10))
        assert (found.knee, found.flat_ns) == (None, 1e6)

    def test_only_rising_has_no_flat_part(self):
        found = curve_of(points([1e6 * size for size in SIZES]))
        assert (found.knee, found.flat_ns) == (None, None)
        assert set(found.trends) == {"rising"}

    def test_ten_percent_a_doubling_is_flat_until_it_adds_up(self):
        found = curve_of(points([1e6 * 1.1**step for step in range(10)]))
        assert found.trends[:4] == ["flat"] * 4
        assert found.flat_ns is not None
        assert found.flat_ns < 1.5e6

    def test_noise_decides_what_a_gentle_slope_is(self):
        times = [1e6, 1.35e6, 2.7e6, 5.4e6]
        assert curve_of(points(times, noise=0.01, sizes=[1, 2, 4, 8])).flat_ns is None
        assert curve_of(points(times, noise=0.2, sizes=[1, 2, 4, 8])).flat_ns is not None

    def test_one_rising_size_is_taken_to_be_in_proportion(self):
        found = curve_of(points([1e6, 1e6, 1e6, 2e6], sizes=[1, 2, 4, 8]))
        assert found.knee is not None
        assert (found.knee[0], found.rise) == (pytest.approx(4.0), 1.0)


class TestRegime:
    @pytest.mark.parametrize(
        ("trend", "kind", "expected"),
        [("flat", "overhead", "overhead"), ("flat", "memory", "weight bandwidth"),
         ("flat", "compute", "unfilled device"),
         ("rising", "memory", "memory"), ("rising", "compute", "compute"), ("bending", "overhead", "overhead")],
    )  # fmt: skip
    def test_the_same_flat_times_are_told_apart_by_who_owns_them(self, trend, kind, expected):
        assert regime_of(trend, shares(kind)) == (expected, kind)

    def test_where_recording_decides_it_says_both(self):
        assert regime_of("flat", shares("overhead", "memory")) == ("weight bandwidth or overhead", None)

    def test_without_a_recording_it_is_unknown(self):
        assert regime_of("flat", None) == ("unknown", None)

    def test_without_ceilings_the_idle_time_decides(self):
        nobody = dict.fromkeys(("compute", "memory", "communication", "overhead"), 0.0)
        assert regime_of("flat", Shares(nobody, nobody, 0.7, 1e6))[0] == "overhead"
        assert regime_of("flat", Shares(nobody, nobody, 0.2, 1e6))[0] == "unknown"


class TestShares:
    def test_are_those_of_the_median_steady_step(self):
        found = shares_of(gpu_document(), 2_920_000)
        assert found is not None
        assert found.kinds["compute"] == pytest.approx(1_380_000 / 2_920_000)
        assert found.kinds["overhead"] == pytest.approx((20_000 + 700_000) / 2_920_000)
        assert found.idle == pytest.approx(740_000 / 2_920_000)

    def test_what_recording_added_is_taken_off_the_overhead(self):
        found = shares_of(gpu_document(), 2_420_000)
        assert found is not None
        assert found.unrecorded["overhead"] == pytest.approx(220_000 / 2_420_000)
        assert found.unrecorded["compute"] == pytest.approx(1_380_000 / 2_420_000)

    def test_are_unknown_where_nothing_ran_on_a_device(self):
        assert shares_of(deviceless_document(), 1.0) is None

    def test_of_a_cpu_count_python_between_the_ops(self):
        document = cpu_document()
        parts = {"idle_launch": 900, "memory_roof": 100}
        document = msgspec.structs.replace(
            document, window=schema.Window("0", 1000, [schema.Step("s", 0, 1000, True)]),
            waterfall=waterfall_of("cpu", None, parts) + waterfall_of("cpu", 0, parts),
        )  # fmt: skip
        found = shares_of(document, 1000)
        assert found is not None
        assert found.kinds["overhead"] == 0.9


def sweep(times: list[float], kinds: list[str]) -> Sweep:
    return sweep_of(points(times), [shares(kind) for kind in kinds], "a device")


class TestVerdict:
    def test_names_flat_part_knee_and_what_follows(self):
        found = sweep(HINGE, ["overhead"] * 5 + ["memory"] * 2 + ["compute"] * 3)
        assert found.verdict == (
            "flat up to size 16 (1.00 ms: overhead), then memory, compute from 128 on; knee near size 20"
        )

    def test_of_the_same_times_with_a_busy_device_is_weight_bandwidth(self):
        found = sweep(HINGE, ["memory"] * 5 + ["compute"] * 5)
        assert found.verdict.startswith("flat up to size 16 (1.00 ms: weight bandwidth), then compute")

    def test_says_what_to_run_where_no_knee_was_seen(self):
        assert sweep([1e6] * 10, ["overhead"] * 10).verdict.endswith(
            "larger sizes are nearly free, and would show the knee"
        )
        rising = sweep([1e6 * size for size in SIZES], ["compute"] * 10).verdict
        assert rising == "time grows from the smallest size, 1, on: compute", "there is none below"
        larger = [msgspec.structs.replace(point, size=8 * point.size) for point in points([1e6 * n for n in SIZES])]
        assert sweep_of(larger, [shares("compute")] * 10, "a device").verdict == (
            "time grows from the smallest size, 8, on: compute; smaller sizes would show a flat part"
        )
        bending = sweep([1e6] * 5 + [1e6 * 1.45**step for step in range(1, 6)], ["memory"] * 10)
        assert bending.knee is None
        assert "not yet in proportion" in bending.verdict

    def test_throughput_is_size_over_time(self):
        found = sweep(HINGE, ["overhead"] * 10)
        assert [point.throughput_per_s for point in found.points][:2] == [1000.0, 2000.0]
