import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.costs.registry import KernelSignature, Phase
from diagnose.costs.sharing import AUXILIARY, share
from diagnose.work import Work, flops_of


def kernel(name, blocks=1, duration_ns=1):
    return KernelSignature(name, blocks, duration_ns)


def phase(flops=0, read=0, written=0, pattern=None, extra=False):
    compiled = None if pattern is None else re.compile(pattern)
    return Phase(Work(flops_of({"tensor.float16": flops}), read, written), compiled, extra)


def total(works, field):
    return sum(getattr(work, field) or 0 for work in works if work is not None)


def test_an_op_without_kernels_shares_nothing():
    assert share([phase(10)], []) == ()


def test_a_lone_kernel_takes_the_phase_as_it_is():
    whole = Work((("tensor.bfloat16", 7),), 5, 3, extra_bytes=2, source="meta", is_bound=True)
    assert share([Phase(whole)], [kernel("gemm")]) == (whole,)


def test_equal_kernels_share_by_blocks_and_the_remainder_goes_to_the_largest_fraction():
    works = share([phase(10, 7, 1)], [kernel("a", 1), kernel("b", 2)])
    assert [work.total_flops for work in works] == [3, 7]
    assert [work.bytes_read for work in works] == [2, 5]
    assert [work.bytes_written for work in works] == [0, 1]


def test_without_a_grid_kernels_share_by_time_and_without_time_equally():
    assert [w.total_flops for w in share([phase(9)], [kernel("a", None, 100), kernel("b", 5, 200)])] == [3, 6]
    assert [w.total_flops for w in share([phase(9)], [kernel("a", None, 0), kernel("b", None, 0)])] == [5, 4]


def test_layout_kernels_get_their_own_traffic_as_extra_bytes_in_launch_order():
    phases = [
        phase(0, 100, 100, "nchwToNhwc", extra=True),
        phase(0, 30, 30, "nchwToNhwc", extra=True),
        phase(1000, 130, 50),
        phase(0, 50, 50, "nhwcToNchw", extra=True),
    ]
    names = ["nchwToNhwcKernel", "nchwToNhwcKernel", "cutlass fprop", "nhwcToNchwKernel"]
    works = share(phases, [kernel(name) for name in names])
    assert [work.extra_bytes for work in works] == [200, 60, 0, 100]
    assert [work.total_flops for work in works] == [0, 0, 1000, 0]
    assert [work.bytes_accessed for work in works] == [200, 60, 180, 100]


def test_an_extra_phase_without_its_kernel_did_not_happen():
    phases = [phase(0, 100, 100, "nchwToNhwc", extra=True), phase(1000, 130, 50)]
    assert share(phases, [kernel("gemm")]) == (phases[1].work,)


def test_an_extra_kernel_stays_on_its_side_of_the_kernel_that_needs_it():
    phases = [
        phase(0, 1, 1, "transpose", extra=True),
        phase(0, 2, 2, "transpose", extra=True),
        phase(100, 9, 9, "bwd"),
        phase(0, 4, 4, "transpose", extra=True),
    ]
    works = share(phases, [kernel("transpose"), kernel("igemm_bwd"), kernel("transpose")])
    assert [work.extra_bytes for work in works] == [2, 0, 8]


@pytest.mark.parametrize(
    "name",
    [
        "void cudnn::ops::nchwToNhwcKernel<float, float>",
        "batched_transpose_32x32_half",
        "transpose_NCHW2CNHW_V2_2D_WG_off64",
        "void cask_cudnn_infer::computeOffsetsKernel<false, false>",
        "cask_cudnn_infer::computeBOffsetsKernel(x)",
        "void cublasLt::splitKreduce_kernel<32, 16, int>",
        "void cudnn::cnn::reduce_wgrad_nchw_helper<float, float>",
        "void cudnn::winograd_nonfused::winogradForwardData4x4<float>",
        "void fft2d_r2c_32x32<float, false>",
        "SubTensorOpWithScalar1d",
        "Memset (Device)",
        "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>",
    ],
)
def test_an_auxiliary_kernel_that_nobody_claims_is_unknown_beside_the_one_that_works(name):
    works = share([phase(1000, 130, 50)], [kernel(name, 1000), kernel("sm80_xmma_fprop", 1)])
    assert works == (None, phase(1000, 130, 50).work)


@pytest.mark.parametrize(
    "name",
    [
        "nvjet_tst_64x64_64x16_2x1_2cta_v_bz_bias_TNT",
        "ampere_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1",
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_64x6_tn_align8>",
        "Cijk_Alik_Bljk_B_BS_BH_Bias_HA_S_SAV_UserArgs_MT16x16x1024",
        "_ZN2ck16tensor_operation6device37kernel_batched_gemm_xdlops_bwd_weight",
    ],
)
def test_kernels_that_do_the_work_are_not_taken_for_auxiliary_ones(name):
    assert not AUXILIARY.search(name)


def test_when_every_kernel_looks_auxiliary_the_work_is_still_theirs():
    works = share([phase(0, 100, 100)], [kernel("direct_copy_kernel_cuda")])
    assert works == (phase(0, 100, 100).work,)


def test_a_phase_whose_kernel_has_another_name_goes_to_the_unclaimed_one():
    phases = [phase(10, 1, 1, "dgrad"), phase(20, 2, 2, "wgrad")]
    works = share(phases, [kernel("volta_scudnn_stridedB"), kernel("wgrad_alg0")])
    assert [work.total_flops for work in works] == [10, 20]


def test_as_many_unclaimed_kernels_as_phases_take_one_each_in_order():
    phases = [phase(10, 1, 1, "dgrad"), phase(20, 2, 2, "wgrad")]
    works = share(phases, [kernel("winogradForwardData"), kernel("sgemm_nt", 9), kernel("sgemm_nt", 1)])
    assert works == (None, phases[0].work, phases[1].work)


def test_a_phase_without_any_kernel_of_its_own_joins_the_first():
    phases = [phase(10, 1, 1, "dgrad"), phase(20, 2, 2, "wgrad")]
    (work,) = share(phases, [kernel("wgrad_dgrad_fused")])
    assert work.total_flops == 30


def test_what_no_phase_claims_is_unknown():
    assert share([phase(10, 1, 1, "gemm")], [kernel("gemm"), kernel("something else")]) == (
        phase(10, 1, 1).work,
        None,
    )


def test_unknown_numbers_stay_unknown_when_shared():
    works = share([Phase(Work(None, None, 8))], [kernel("a"), kernel("b")])
    assert [(work.flops, work.bytes_read, work.bytes_written) for work in works] == [(None, None, 4)] * 2


NAMES = ["gemm", "dgrad", "wgrad", "nchwToNhwc", "splitKreduce_kernel", "Memset", "other"]
FIELDS = ("bytes_read", "bytes_written", "extra_bytes")
COUNTS = st.integers(0, 10**12)
KERNELS = st.lists(
    st.builds(
        KernelSignature,
        st.sampled_from(NAMES),
        st.one_of(st.none(), st.integers(0, 10**6)),
        st.integers(0, 10**9),
    ),
    min_size=1,
    max_size=8,
)
PHASES = st.lists(
    st.builds(
        lambda tensor, special, read, written, extra, pattern, is_extra: Phase(
            Work(
                flops_of({"tensor.float16": 0 if is_extra else tensor, "special": 0 if is_extra else special}),
                read,
                written,
                min(extra, read + written),
            ),
            None if pattern is None else re.compile(pattern),
            is_extra,
        ),
        COUNTS,
        COUNTS,
        COUNTS,
        COUNTS,
        COUNTS,
        st.sampled_from([None, *NAMES]),
        st.booleans(),
    ),
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(PHASES, KERNELS)
def test_required_work_sums_exactly_over_the_kernels(phases, kernels):
    works = share(phases, kernels)
    required = [phase.work for phase in phases if not phase.is_extra]
    assert len(works) == len(kernels)
    for resource in ("tensor.float16", "special"):
        shared = sum(dict(work.flops).get(resource, 0) for work in works if work is not None)
        assert shared == sum(dict(work.flops).get(resource, 0) for work in required)
    least = {field: sum(getattr(work, field) for work in required) for field in FIELDS}
    for field in FIELDS:
        assert least[field] <= total(works, field)
    alone = share([phase for phase in phases if not phase.is_extra], kernels)
    assert {field: total(alone, field) for field in FIELDS} == least


@settings(max_examples=50, deadline=None)
@given(PHASES, KERNELS)
def test_shares_are_never_negative_and_always_the_same(phases, kernels):
    works = share(phases, kernels)
    assert works == share(phases, kernels)
    for work in works:
        if work is not None:
            assert min(work.bytes_read, work.bytes_written, work.extra_bytes, *dict(work.flops).values(), 0) == 0


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.lists(st.integers(1, 10**6), min_size=2, max_size=6))
def test_a_kernel_with_more_blocks_never_gets_less(flops, blocks):
    works = share([phase(flops)], [kernel("gemm", count) for count in blocks])
    got = [work.total_flops for work in works]
    for one, other in zip(range(len(blocks)), range(1, len(blocks)), strict=False):
        if blocks[one] > blocks[other]:
            assert got[one] >= got[other]
