"""The roof as values: which number wins, and what it says of itself."""

import numpy as np
import pytest

from diagnose.devices.datasheet import DEVICES, DeviceSpec
from diagnose.devices.detect import lookup
from diagnose.roofs.ceilings import (
    Ceilings,
    from_spec,
    recorded_floor_ns,
    recorded_gap_ns,
    with_recording,
    with_rows,
)
from diagnose.schema import Ceiling


def ceilings_of(name: str) -> Ceilings:
    return from_spec("cuda:0", lookup(name))


@pytest.mark.parametrize("spec", DEVICES, ids=lambda spec: spec.name)
def test_no_roof_exceeds_its_datasheet_and_each_states_its_source(spec: DeviceSpec):
    rows = from_spec("cuda:3", spec).rows
    assert len({row.resource for row in rows}) == len(rows)
    for row in rows:
        assert row.device == "cuda:3"
        assert row.source
        assert row.achievable > 0
        assert row.datasheet is None or row.achievable <= row.datasheet
        assert row.low is None or row.low <= row.achievable <= row.high


@pytest.mark.parametrize(
    ("name", "resource", "achievable", "origin"),
    [
        ("NVIDIA A100-SXM4-80GB", "tensor.bfloat16", 271.2e12, "published"),  # 87 % of 312
        ("NVIDIA H100 80GB HBM3", "tensor.bfloat16", 794.5e12, "published"),  # 80 % of 989.5
        ("NVIDIA H200", "tensor.float8", 1453.4e12, "published"),  # 73 % of 1979
        ("NVIDIA B200", "tensor.bfloat16", 1745e12, "published"),  # 78 % of 2250
        ("AMD Instinct MI300X", "tensor.bfloat16", 0.525 * 1307.4e12, "published"),  # 51 to 54 %
        ("NVIDIA A100-SXM4-80GB", "dram", 0.89 * 2039e9, "published"),  # 86 to 92 %
        ("NVIDIA H100 PCIe", "dram", 0.945 * 2000e9, "published"),  # 92 to 97 %
        ("NVIDIA H200", "dram", 4012e9, "published"),  # 3996 to 4028 measured
        ("NVIDIA A100-SXM4-40GB", "dram", 0.89 * 1555e9, "family"),  # the 80 GB parts' share
        ("NVIDIA H100 PCIe", "tensor.bfloat16", 756e12 * 794.5 / 989.5, "family"),  # the SXM part's share
        ("NVIDIA H100 80GB HBM3", "tensor.tfloat32", 494.5e12 * 794.5 / 989.5, "family"),  # the same tensor cores
        ("NVIDIA H100 80GB HBM3", "vector.float32", 67e12, "datasheet"),
        ("NVIDIA GeForce RTX 5090", "dram", 1792e9, "datasheet"),
    ],
)
def test_achievable_is_published_else_the_familys_share_else_the_datasheet(
    name: str, resource: str, achievable: float, origin: str
):
    row = ceilings_of(name).get(resource)
    assert row.achievable == pytest.approx(achievable, rel=1e-6)
    assert row.origin == origin


def test_two_published_bandwidths_are_an_interval():
    """GIVEN B200, sold as 7.7 and as 8 TB/s THEN efficiency is against the lower, belief ends at the higher."""
    row = ceilings_of("NVIDIA B200").get("dram")
    assert (row.achievable, row.low, row.high, row.datasheet) == (7.7e12, 7.7e12, 8e12, 8e12)


def test_special_functions_are_16_a_clock_and_sm_on_hopper():
    assert ceilings_of("NVIDIA H100 80GB HBM3").rate("special") == pytest.approx(16 * 132 * 1.98e9)
    assert ceilings_of("NVIDIA A100-SXM4-40GB").get("special") is None


@pytest.mark.parametrize(
    ("name", "bytes_per_s", "origin"),
    [
        ("NVIDIA H100 PCIe", 6.95e12, "published"),
        ("NVIDIA H100 80GB HBM3", 9.95e12, "family"),  # the H200's: 132 SMs at the same clock
        ("NVIDIA A100-SXM4-40GB", 5.37e12, "family"),  # the 80 GB part's
    ],
)
def test_l2_bandwidth_was_measured_on_the_part_or_on_the_same_chip(name: str, bytes_per_s: float, origin: str):
    row = ceilings_of(name).get("l2")
    assert (row.achievable, row.origin) == (pytest.approx(bytes_per_s), origin)


@pytest.mark.parametrize("name", ["Tesla V100-SXM2-32GB", "NVIDIA B200", "AMD Instinct MI300X"])
def test_where_nobody_measured_l2_it_has_no_roof(name: str):
    assert ceilings_of(name).get("l2") is None


def test_the_last_cache_before_dram_counts():
    assert ceilings_of("AMD Instinct MI300X").l2_bytes == 256 * 2**20
    assert ceilings_of("NVIDIA H100 80GB HBM3").l2_bytes == 50 * 2**20


def test_ridges_of_the_datasheet_and_of_what_is_achievable():
    ceilings = ceilings_of("NVIDIA H100 80GB HBM3")
    by_datasheet = {ridge.resource: ridge.flops_per_byte for ridge in ceilings.ridge_points(datasheet=True)}
    achievable = {ridge.resource: ridge.flops_per_byte for ridge in ceilings.ridge_points()}
    assert by_datasheet["tensor.bfloat16"] == pytest.approx(989.5 / 3.35)
    assert by_datasheet["vector.float32"] == pytest.approx(20)
    assert achievable["tensor.bfloat16"] == pytest.approx(794.5 / (3.35 * 0.90104), rel=1e-3)
    assert "special" not in achievable


def test_without_a_dram_roof_there_is_no_ridge():
    assert Ceilings("cuda:0", ()).ridge_points() == []


def test_a_measured_row_replaces_the_tables_and_leaves_the_others():
    table = ceilings_of("NVIDIA H100 80GB HBM3")
    measured = Ceiling("cuda:0", "dram", 3.0e12, 3.35e12, None, None, "measured", "a copy of 4 GB")
    new = Ceiling("cuda:0", "launch_call", 4e-6, None, None, None, "measured", "an empty kernel")
    ceilings = with_rows(table, [measured, new])
    assert ceilings.get("dram") == measured
    assert ceilings.get("launch_call") == new
    assert ceilings.get("tensor.bfloat16") == table.get("tensor.bfloat16")
    assert len(ceilings.rows) == len(table.rows) + 1


class TestTheRecordingsOwnFloor:
    def test_is_the_first_percentile_of_enough_kernels(self):
        durations = np.concatenate([np.full(10, 1400), np.full(990, 50_000)]).astype(np.int64)
        assert recorded_floor_ns(durations) == 1400
        assert recorded_floor_ns(durations[:99]) is None

    @pytest.mark.parametrize(
        ("name", "recorded_ns", "expected_ns", "origin"),
        [
            ("NVIDIA H100 80GB HBM3", 1500, 1500, "recording"),  # within what is known of H100: 1.1 to 1.6 us
            ("NVIDIA H100 80GB HBM3", 900, 900, "recording"),  # shorter kernels exist after all
            ("NVIDIA H100 80GB HBM3", 40_000, 1100, "published"),  # only large kernels here: says nothing
            ("AMD Instinct MI300X", 4400, 4400, "recording"),  # inside a graph
            ("AMD Instinct MI300X", 677, 677, "recording"),
        ],
    )
    def test_wins_unless_the_recording_merely_has_no_small_kernels(
        self, name: str, recorded_ns: float, expected_ns: float, origin: str
    ):
        row = with_recording(ceilings_of(name), recorded_ns, None).get("kernel_floor")
        assert row.achievable == pytest.approx(expected_ns * 1e-9)
        assert row.origin == origin

    def test_of_an_unknown_device_is_taken_only_if_some_device_has_one_like_it(self):
        unknown = Ceilings("cuda:0", ())
        assert with_recording(unknown, 3000, None).rate("kernel_floor") == pytest.approx(3e-6)
        assert with_recording(unknown, 30_000, None).get("kernel_floor") is None
        assert with_recording(unknown, None, None) == unknown


class TestTheRecordingsOwnGap:
    @staticmethod
    def columns(count: int, *, gap: int, stream: int = 7, launch_lead: int = 100) -> tuple[np.ndarray, ...]:
        start = np.arange(count, dtype=np.int64) * (1000 + gap)
        end = start + 1000
        launch_end = np.concatenate([[-1], end[:-1] - launch_lead]).astype(np.int64)
        return np.full(count, stream, dtype=np.int64), start, end, launch_end

    def test_is_the_median_between_queued_kernels_of_a_stream(self):
        assert recorded_gap_ns(*self.columns(60, gap=800)) == 800

    def test_is_unknown_with_too_few_pairs(self):
        assert recorded_gap_ns(*self.columns(50, gap=800)) is None

    def test_does_not_count_kernels_that_were_launched_late_or_by_nobody_known(self):
        assert recorded_gap_ns(*self.columns(60, gap=800, launch_lead=-1)) is None
        stream, start, end, _ = self.columns(60, gap=800)
        assert recorded_gap_ns(stream, start, end, np.full(60, -1)) is None

    def test_does_not_mix_streams_and_needs_no_order(self):
        one, other = self.columns(60, gap=800), self.columns(60, gap=800, stream=9)
        both = [np.concatenate(pair) for pair in zip(one, other, strict=True)]
        shuffled = np.random.default_rng(0).permutation(120)
        assert recorded_gap_ns(*[column[shuffled] for column in both]) == 800

    def test_kernels_that_overlap_say_nothing_of_the_gap_between_those_that_do_not(self):
        """GIVEN programmatic dependent launches among ordinary ones THEN the gap is the ordinary ones'."""
        assert recorded_gap_ns(*self.columns(60, gap=-200)) is None
        ordinary, early = self.columns(60, gap=800), self.columns(200, gap=-200, stream=9)
        assert recorded_gap_ns(*[np.concatenate(pair) for pair in zip(ordinary, early, strict=True)]) == 800

    def test_what_runs_between_two_kernels_is_no_gap(self):
        """GIVEN a memset of 400 ns, 200 ns after each kernel WHEN it is no kernel THEN its pairs do not count."""
        stream, start, end, launch_end = self.columns(60, gap=800)
        sets = (stream, end + 200, end + 600, launch_end)
        both = [np.concatenate(pair) for pair in zip((stream, start, end, launch_end), sets, strict=True)]
        is_kernel = np.arange(120) < 60
        assert recorded_gap_ns(*both, is_kernel) is None
        assert recorded_gap_ns(*both) == 200

    def test_of_no_kernels_at_all_is_unknown(self):
        empty = np.array([], dtype=np.int64)
        assert recorded_gap_ns(empty, empty, empty, empty) is None
        assert recorded_floor_ns(empty) is None
