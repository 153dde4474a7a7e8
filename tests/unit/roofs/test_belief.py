"""Faster than DRAM allows: what the cache explains, and what nothing explains."""

import pytest
from msgspec.structs import replace

from diagnose.devices.detect import lookup
from diagnose.roofs.ceilings import Ceilings, from_spec
from diagnose.roofs.roofline import LIMITS, Placement, Question, Reuse, place
from diagnose.work import Work

H100, A100, MI300X, V100 = (
    from_spec("cuda:0", lookup(name))
    for name in ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "AMD Instinct MI300X", "Tesla V100-SXM2-32GB")
)
MB = 10**6


def ask(read: int, written: int, us: float, device: Ceilings = H100, reuse: Reuse | None = None) -> Placement:
    return place(Question("kernel", Work((), read, written), us * 1e3, reuse=reuse), device)


class TestWhatAnEarlierKernelWrote:
    """H100: usable L2 26.2 MB at 9.95 TB/s, DRAM 3.0185 TB/s (3.35 by the datasheet)."""

    def test_explains_a_kernel_that_fits_the_cache_and_is_named(self):
        # 20 MB: 6.6 us from DRAM; 2.01 from L2
        placement = ask(10 * MB, 10 * MB, 3, reuse=Reuse(10 * MB, "layer_norm"))
        assert (placement.bound, placement.flags) == ("memory", ("cache-resident",))
        assert placement.efficiency == pytest.approx(2.01 / 3, rel=1e-2)
        (reason,) = placement.reasons
        assert "10.0 MB of its inputs were written just before by layer_norm" in reason

    def test_explains_a_kernel_that_does_not_fit_whole(self):
        # 24 MB in, 24 out: 15.9 us from DRAM. 24 + 2.2 MB need not meet it: 21.8 MB = 7.2 us
        placement = ask(24 * MB, 24 * MB, 9, reuse=Reuse(24 * MB, "gelu"))
        assert placement.flags == ("cache-resident",)
        assert placement.memory_ns == pytest.approx(7220, rel=1e-2)
        assert ask(24 * MB, 24 * MB, 5, reuse=Reuse(24 * MB, "gelu")).flags == ("above-roof",)

    def test_is_not_claimed_where_it_was_not_seen(self):
        # 60 MB in 16 us: DRAM needs 17.9 by the datasheet. Nobody looked: 52 MB of cache may explain it
        assert ask(45 * MB, 15 * MB, 16).flags == ("maybe-cached",)
        # looked, and nothing: 15 MB of output may stay in the cache, 45 MB take 13.4
        assert ask(45 * MB, 15 * MB, 16, reuse=Reuse(0)).flags == ("maybe-cached",)
        assert ask(45 * MB, 15 * MB, 12, reuse=Reuse(0)).flags == ("above-roof",)

    def test_with_a_cache_of_unknown_speed_is_said_and_not_measured_against(self):
        # V100: 6.3 MB of L2, 3.1 usable: 3 MB in 2.6 us, 3.5 from DRAM
        placement = ask(2 * MB, MB, 2.6, V100, Reuse(2 * MB, "relu"))
        assert placement.flags == ("maybe-cached",)
        assert "2.00 MB of its inputs were written just before by relu" in placement.reasons[0]

    def test_says_nothing_about_arithmetic(self):
        work = Work((("tensor.bfloat16", 10**12),), 10 * MB, 10 * MB)
        placement = place(Question("kernel", work, 500e3, reuse=Reuse(10 * MB, "gelu")), H100)
        assert placement.flags == ("above-roof",)


class TestNoErrorIsHidden:
    def test_a_low_ceiling_on_one_side_does_not_excuse_the_other(self):
        """263 GFLOP take 331 us, 266 by the datasheet, 1 GB takes 331 and 299: in 280 us only the first is possible."""
        work = Work((("tensor.bfloat16", 263 * 10**9),), 10**9, 0)
        assert place(Question("kernel", work, 280e3), H100).flags == ("above-roof",)
        assert place(Question("kernel", replace(work, bytes_read=MB), 280e3), H100).flags == ("ceiling-too-low",)

    @pytest.mark.parametrize(
        ("device", "read", "written", "efficiency"),
        [
            (H100, 10**9, 10**9, 0.95),
            (H100, 50 * MB, 50 * MB, 0.9),
            (A100, 40 * MB, 40 * MB, 0.95),
            (V100, 20 * MB, 20 * MB, 0.95),
            (MI300X, 300 * MB, 300 * MB, 0.9),
            (MI300X, 200 * MB, 200 * MB, 0.9),
        ],
    )
    @pytest.mark.parametrize("reuse", [Reuse(0), None])
    def test_doubled_bytes_of_a_kernel_that_dram_limits_are_not_believed(
        self, device: Ceilings, read: int, written: int, efficiency: float, reuse: Reuse | None
    ):
        """Beyond the cache, whether or not anybody looked at what ran before."""
        us = (read + written) / device.rate("dram") / efficiency * 1e6
        assert ask(read, written, us, device, reuse).is_believed
        doubled = ask(2 * read, 2 * written, us, device, reuse)
        assert doubled.flags == ("above-roof",)
        assert doubled.bound is None
        assert not doubled.is_believed

    def test_a_producer_explains_no_more_than_the_cache_holds(self):
        # 1 + 1 GB in 350 us: 26 MB of it change nothing
        assert ask(10**9, 10**9, 350, reuse=Reuse(10**9, "gelu")).flags == ("above-roof",)

    def test_the_usable_part_can_be_set(self):
        question = Question("kernel", Work((), 24 * MB, 24 * MB), 6e3, reuse=Reuse(24 * MB, "gelu"))
        assert place(question, H100).flags == ("above-roof",)
        assert place(question, H100, replace(LIMITS, usable_l2=0.9)).flags == ("cache-resident",)
