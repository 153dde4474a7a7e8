"""Why a row is far below its roof: said where the recording shows it, and only there."""

import pytest

from diagnose.devices.detect import lookup
from diagnose.roofs.ceilings import from_spec
from diagnose.roofs.roofline import Evidence, Placement, Question, place
from diagnose.work import Work, flops_of

H100, A100 = (from_spec("cuda:0", lookup(name)) for name in ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"))
NVJET = "nvjet_tst_128x256_64x4_2x1_v_bz_TNT"
HGEMM = "void cutlass::Kernel<cutlass_80_simt_hgemm_128x64_8x5_nn_align1>(Params)"
COPY = Work((), 10**9, 10**9)


def gemm(m: int, n: int, k: int, dtype: str = "bfloat16", itemsize: int = 2) -> Work:
    return Work(((f"tensor.{dtype}", 2 * m * n * k),), itemsize * (m * k + k * n), itemsize * m * n)


LARGE = gemm(8192, 8192, 8192)  # 1384 us on H100


def slow(evidence: Evidence, name: str = "my_gemm", what: Work = LARGE, us: float = 4000) -> Placement:
    placement = place(Question("kernel", what, us * 1e3, name, evidence), H100)
    assert "under-used" in placement.flags
    return placement


@pytest.mark.parametrize(
    ("name", "evidence", "reasons"),
    [
        # 64 blocks on 132 SMs: 48 %
        ("my_gemm", Evidence(64), ("too few blocks: 64 for 132 SMs",)),
        ("my_gemm", Evidence(64, tiles=64), ("too few blocks: 64 for 132 SMs",)),
        # each of 64 blocks works on 32 tiles; nvjet says so by its name
        ("my_gemm", Evidence(64, tiles=2048), ()),
        (NVJET, Evidence(64), ()),
        # but not if it has no more tiles than blocks
        (NVJET, Evidence(64, tiles=64), ("too few blocks: 64 for 132 SMs",)),
        # 140 of 2 x 132 places: 47 % are empty
        ("my_gemm", Evidence(140, blocks_per_sm=1), ("partial waves: 1.06 waves of blocks, the last one not full",)),
        ("my_gemm", Evidence(264, blocks_per_sm=1), ()),
        # 1400 / 132 = 10.6 waves: 4 % of 11 are empty
        ("my_gemm", Evidence(1400, blocks_per_sm=1), ()),
        ("my_gemm", Evidence(140, blocks_per_sm=4), ("less than one wave: 140 blocks, and the device holds 528",)),
        # 132 persistent blocks, 140 tiles
        (NVJET, Evidence(132, tiles=140), ("partial waves: 1.06 waves of tiles, the last one not full",)),
        ("my_gemm", Evidence(132, tiles=2640), ()),
        # 126 of 132 places
        ("my_gemm", Evidence(126, blocks_per_sm=1), ()),
    ],
)
def test_blocks_and_waves(name: str, evidence: Evidence, reasons: tuple[str, ...]):
    assert slow(evidence, name).reasons == reasons


class TestTensorCores:
    def test_a_vector_kernel_where_they_could_be_is_named(self):
        placement = place(Question("kernel", gemm(4096, 4096, 4096), 9e6, HGEMM), A100)
        assert placement.math == "tensor.bfloat16"
        assert placement.reasons == ("no tensor core, though bfloat16 allows it",)

    def test_a_product_that_only_reads_weights_needs_none(self):
        """[1, 4096] x [4096, 4096]: 24 us of memory, 2 us of vector units."""
        name = "void gemv2T_kernel_val<int, int, __half, __half, __half, float>(Params)"
        placement = place(Question("kernel", gemm(1, 4096, 4096), 100e3, name), A100)
        assert (placement.bound, placement.reasons) == ("memory", ())

    def test_float32_products_are_told_of_tf32(self):
        # 137.4 GFLOP / 19.5 T = 7048 us
        placement = place(
            Question("kernel", gemm(4096, 4096, 4096, "float32", 4), 15e6, "ampere_sgemm_128x64_nn"), A100
        )
        assert placement.reasons == ("no tensor core: TF32 would use them",)

    def test_sizes_that_do_not_suit_them_are_named_if_they_were_used(self):
        odd = Evidence(odd_sizes=("k = 4095 is no multiple of 8",))
        assert slow(odd, NVJET).reasons == ("odd sizes: k = 4095 is no multiple of 8",)
        assert slow(odd, "", COPY).reasons == ()


class TestMemory:
    def test_strided_access_is_named_by_the_arguments_or_by_torchs_kernel(self):
        (reason,) = slow(Evidence(strided="neighbours lie 7 elements apart"), "", COPY).reasons
        assert reason == "strided access: neighbours lie 7 elements apart"
        name = "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<AddFunctor>>(int)"
        assert slow(Evidence(), name, COPY).reasons == (
            "strided access: torch's kernel for strided or broadcast tensors",
        )

    def test_products_load_tiles(self):
        assert slow(Evidence(strided="x"), NVJET).reasons == ()

    def test_who_shares_the_device_is_told_so(self):
        (reason,) = slow(Evidence(shared=0.4), "", COPY).reasons
        assert reason == "shares the device: other kernels ran during 40 % of its time"
        assert slow(Evidence(shared=0.2), "", COPY).reasons == ()


class TestTheRest:
    def test_the_special_function_unit_is_named(self):
        what = Work(flops_of({"vector.float32": 10**6, "special": 10**9}), 10**6, 0)
        placement = place(Question("kernel", what, 500e3), H100)
        assert placement.math == "special"
        assert any("special functions" in reason for reason in placement.reasons)

    def test_special_functions_never_disprove_a_kernel(self):
        """GIVEN a gelu whose exp would take 239 us on that unit WHEN it takes 200 THEN it is believed."""
        what = Work(flops_of({"vector.float32": 10**9, "special": 10**9}), 3 * 10**8, 2 * 10**8)
        placement = place(Question("kernel", what, 200e3), H100)
        assert placement.is_believed
        assert placement.math == "vector.float32"
        assert placement.bound == "memory"

    def test_a_short_kernel_spends_its_time_starting(self):
        # 4 MB / 3.0185 T = 1.33 us, above the floor of 1.1; took 3.2
        short = place(Question("kernel", Work((), 2 * 10**6, 2 * 10**6), 3200), H100)
        assert short.bound == "memory"
        assert short.reasons == ("short: 1.1 of its 3.2 us are what a kernel takes that does nothing",)

    def test_nothing_is_said_of_a_kernel_near_its_roof(self):
        everything = Evidence(3, odd_sizes=("x",), strided="y", shared=1.0)
        assert place(Question("kernel", LARGE, 1.5e6, "my_gemm", everything), H100).reasons == ()
