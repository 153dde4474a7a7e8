"""The classifier, as a table of cases worked by hand.

Rates used below, as shipped (achievable; datasheet in brackets):
  H100 SXM   bf16 794.5 [989.5] TFLOP/s, fp32 67, special 4.18 T/s, DRAM 3.0185 [3.35] TB/s, floor 1.1 us,
             L2 9.95 TB/s up to 26.2 MB
  H100 PCIe  DRAM 1.89 [2.0] TB/s, L2 6.95 TB/s up to 26.2 MB
  A100 40GB  fp16 271.2 [312], tf32 135.6 [156], fp32 19.5, DRAM 1.384 [1.555] TB/s, floor 1.34 us
  V100 32GB  fp16 125, fp32 15.7, DRAM 0.865 [0.9] TB/s, floor 1.25 us
  A100 80GB  DRAM 1.8147 [2.039] TB/s, L2 5.37 TB/s up to 21 MB
  B200       bf16 1745 [2250], fp8 3432.5 [4500], DRAM 7.7 [8.0] TB/s, floor 2.0 us
  MI300X     bf16 686.4 [1307.4], DRAM 5.3 TB/s, floor 1.9 us, last cache 268 MB
  A10        bf16 119.8 [125], fp32 31.2, DRAM 0.585 [0.6] TB/s, no floor known
"""

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from diagnose.devices.detect import lookup
from diagnose.roofs.ceilings import Ceilings, from_spec
from diagnose.roofs.roofline import LIMITS, Evidence, Placement, Question, place
from diagnose.schema import Ceiling
from diagnose.work import Work, flops_of

H100, H100_PCIE, A100, A100_80, V100, B200, MI300X, A10 = (
    from_spec("cuda:0", lookup(name))
    for name in (
        "NVIDIA H100 80GB HBM3",
        "NVIDIA H100 PCIe",
        "NVIDIA A100-SXM4-40GB",
        "NVIDIA A100-SXM4-80GB",
        "Tesla V100-SXM2-32GB",
        "NVIDIA B200",
        "AMD Instinct MI300X",
        "NVIDIA A10",
    )
)

SGEMM = "volta_sgemm_128x64_nn"
TF32 = "sm80_xmma_gemm_tf32f32_tf32f32_f32_tn_n_tilesize128x128x16_kernel"
FLASH = "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, cutlass::half_t>>()"


def work(read: int | None, written: int | None, **flops: int) -> Work:
    return Work(flops_of({name.replace("_", ".", 1): count for name, count in flops.items()}), read, written)


def gemm(m: int, n: int, k: int, dtype: str = "bfloat16", itemsize: int = 2) -> Work:
    return Work(((f"tensor.{dtype}", 2 * m * n * k),), itemsize * (m * k + k * n), itemsize * m * n)


def decode_attention(batch: int, keys: int) -> Work:
    """16 query heads, 2 KV heads, D 128, fp16: 4 pairs D FLOP, keys and values once."""
    pairs = batch * 16 * keys
    return Work((("special", pairs), ("tensor.float16", 4 * pairs * 128)), 2 * 2 * batch * keys * 2 * 128, 0)


@dataclass(frozen=True)
class Case:
    name: str
    device: Ceilings
    question: Question
    bound: str | None
    efficiency: float | None
    flags: tuple[str, ...] = ()


def kernel(what: Work | None, us: float, name: str = "", blocks: int | None = None) -> Question:
    return Question("kernel", what, us * 1e3, name, Evidence(blocks))


CASES = (
    # 2 x 8192^3 = 1.0995 TFLOP / 794.5 T = 1383.9 us; 402.7 MB / 3.0185 T = 133.4 us; 1383.9 / 1500
    Case("GEMM", H100, kernel(gemm(8192, 8192, 8192), 1500), "compute", 0.9226),
    # 33.55 MFLOP = 0.04 us; 33.57 MB / 3.0185 T = 11.12 us; 11.12 / 13
    Case("decode linear, batch 1", H100, kernel(gemm(1, 4096, 4096), 13), "memory", 0.8555),
    # B 16: 537 MFLOP = 0.68 us; 33.82 MB = 11.20 us: the weights alone decide; 11.20 / 30
    Case("decode linear, batch 16", H100, kernel(gemm(16, 4096, 4096), 30), "memory", 0.3734, ("under-used",)),
    # 2^27 adds, 3 x 268.4 MB = 805.3 MB / 3.0185 T = 266.8 us; 0.134 G / 67 T = 2 us; 266.8 / 290
    Case("pointwise add", H100, kernel(work(2**29, 2**28, vector_float32=2**27), 290), "memory", 0.9200),
    # 12 KB = 4 ns, below the floor of 1.1 us: 1.1 / 1.6
    Case("tiny add", H100, kernel(work(8192, 4096, vector_float32=1024), 1.6), "overhead", 0.6875, ("too-small",)),
    # 2.4 MB / 3.0185 T = 0.795 us, still below the floor: 1.1 / 1.4
    Case("almost as long as the floor", H100, kernel(work(1_600_000, 800_000, vector_float32=400_000), 1.4), "overhead",
         0.7857, ("too-small",)),
    # the same in 10 us: 1.1 / 10
    Case("slow tiny add", H100, kernel(work(8192, 4096, vector_float32=1024), 10), "overhead", 0.11,
         ("too-small", "under-used")),
    # 263 GFLOP / 794.5 T = 331.0 us; 1 GB / 3.0185 T = 331.3 us: either limit is the limit; 331.3 / 400
    Case("at the ridge", H100, kernel(work(10**9, 0, tensor_bfloat16=263 * 10**9), 400), "memory", 0.8282,
         ("balanced",)),
    # 300 GFLOP = 377.6 us, t_c / t_m = 1.14
    Case("just right of it", H100, kernel(work(10**9, 0, tensor_bfloat16=300 * 10**9), 400), "compute", 0.9440,
         ("balanced",)),
    # 500 GFLOP = 629.3 us, t_c / t_m = 1.9
    Case("far right of it", H100, kernel(work(10**9, 0, tensor_bfloat16=500 * 10**9), 700), "compute", 0.8990),
    # attention D 64, 16 x 16 heads, 2048^2: 1.0737 G pairs x 256 = 274.9 GFLOP = 346.0 us; exp 1.0737 G = 256.8 us
    Case("flash attention, D 64", H100,
         kernel(work(201 * 10**6, 67 * 10**6, tensor_bfloat16=256 * 2**30, special=2**30), 500, FLASH),
         "compute", 0.6920),
    # D 32: matmul 173.0 us, exp 256.8 us: the special-function unit is the roof
    Case("flash attention, D 32", H100,
         kernel(work(100 * 10**6, 33 * 10**6, tensor_bfloat16=128 * 2**30, special=2**30), 500, FLASH),
         "compute", 0.5135, ("under-used",)),
    # a product of [8, 4096] x [4096, 4096]: 268 MFLOP = 0.34 us; 33.69 MB / 3.0185 T = 11.16 us; / 12
    Case("decode linear, batch 8", H100, kernel(gemm(8, 4096, 4096), 12), "memory", 0.9300),
    # 0.5 MFLOP and 24.6 KB: 8 ns at most; 1.1 / 1.4
    Case("tiny GEMM", H100, kernel(gemm(64, 64, 64), 1.4), "overhead", 0.7857, ("too-small",)),
    # 4.295 GFLOP / 271.2 T = 15.84 us; 35.65 MB / 1.384 T = 25.76 us: t_c / t_m = 0.61; / 30
    Case("GEMM left of the ridge", A100, kernel(gemm(128, 4096, 4096), 30), "memory", 0.8587),
    # 17.18 GFLOP = 63.35 us; 41.94 MB = 30.31 us; / 70
    Case("GEMM right of it", A100, kernel(gemm(512, 4096, 4096), 70), "compute", 0.9050),
    # 8.59 GFLOP = 31.67 us; 37.75 MB = 27.28 us: t_c / t_m = 1.16; / 40
    Case("GEMM at the ridge", A100, kernel(gemm(256, 4096, 4096), 40), "compute", 0.7919, ("balanced",)),
    # needs 1383.9 us, 1111 us by the datasheet, took 1200: our ceiling is too low
    Case("better than achievable", H100, kernel(gemm(8192, 8192, 8192), 1200), "compute", 1.1533, ("ceiling-too-low",)),
    # 1383.9 / 1340 = 1.033: within 5 %
    Case("3 % above", H100, kernel(gemm(8192, 8192, 8192), 1340), "compute", 1.0328),
    # took 500 us, impossible below 1111
    Case("impossible GEMM", H100, kernel(gemm(8192, 8192, 8192), 500), None, 2.7678, ("above-roof",)),
    # 1 GB in 100 us, DRAM needs 298.5 by the datasheet, and 52 MB of cache do not help
    Case("impossible traffic", H100, kernel(work(10**9, 0), 100), None, 3.3129, ("above-roof",)),
    # 12 MB: DRAM 6.35 us, took 2.2; L2 12 MB / 6.95 T = 1.727 us; 1.727 / 2.2
    Case("in L2", H100_PCIE, kernel(work(6 * 10**6, 6 * 10**6), 2.2), "memory", 0.7848, ("cache-resident",)),
    # 12 MB in 1.2 us is more than L2 gives
    Case("faster than L2", H100_PCIE, kernel(work(6 * 10**6, 6 * 10**6), 1.2), None, 5.2910, ("above-roof",)),
    # 20 MB: 6.63 us at DRAM's rate, took 5.5; 20 MB / 9.95 T = 2.01 us; / 5.5: far below what L2 gives
    Case("in L2, slowly", H100, kernel(work(10**7, 10**7), 5.5), "memory", 0.3655,
         ("cache-resident", "under-used")),
    # 16 MB: 8.82 us from DRAM, took 4; 16 MB / 5.37 T = 2.979 us
    Case("in L2", A100_80, kernel(work(8 * 10**6, 8 * 10**6), 4), "memory", 0.7449, ("cache-resident",)),
    # 20 MB: 2.60 us at DRAM's rate, took 2.2; nobody measured this L2
    Case("maybe in L2", B200, kernel(work(10**7, 10**7), 2.2), "memory", 1.1806, ("maybe-cached",)),
    # 100 MB in 25 us: 29.9 us from DRAM, but (100 - 52.4) MB take 14.2
    Case("partly in L2", H100, kernel(work(50 * 10**6, 50 * 10**6), 25), "memory", 1.3252, ("maybe-cached",)),
    # fp32 GEMM without tensor cores: 2.147 GFLOP / 15.7 T = 136.8 us; 12.6 MB / 0.865 T = 14.5 us; 136.8 / 160
    Case("fp32 GEMM", V100, kernel(gemm(1024, 1024, 1024, "float32", 4), 160, SGEMM), "compute", 0.8549),
    # the same name unread: V100 has no TF32
    Case("fp32 GEMM, no name", V100, kernel(gemm(1024, 1024, 1024, "float32", 4), 160), "compute", 0.8549),
    # 137.4 GFLOP / 135.6 T = 1013.5 us; / 1200
    Case("TF32 GEMM", A100, kernel(gemm(4096, 4096, 4096, "float32", 4), 1200, TF32), "compute", 0.8446),
    # no name: 19.5 T would take 7048 us, it took 1200: TF32
    Case("TF32 by its time", A100, kernel(gemm(4096, 4096, 4096, "float32", 4), 1200), "compute", 0.8446),
    # no name, 8000 us: either; against the faster roof, said
    Case("fp32 or TF32", A100, kernel(gemm(4096, 4096, 4096, "float32", 4), 8000), "compute", 0.1267,
         ("arithmetic-unknown", "under-used")),
    # FP8 4096 x 16384 x 8192: 1.0995 TFLOP / 3432.5 T = 320.3 us; 302 MB (one byte each) = 39.2 us; 320.3 / 400
    Case("FP8 GEMM", B200, kernel(gemm(4096, 16384, 8192, "float8_e4m3fn", 1), 400), "compute", 0.8008),
    # 2 GB / 7.7 T = 259.7 us; / 270
    Case("cast of 1 GB", B200, kernel(work(10**9, 10**9), 270), "memory", 0.9620),
    # t_0 of 2.0 us above 0.5 MB / 7.7 T = 65 ns
    Case("small norm", B200, kernel(work(262144, 262144, vector_float32=600_000), 2.7), "overhead", 0.7407,
         ("too-small",)),
    # 1.0995 TFLOP / 686.4 T = 1601.8 us; / 1700
    Case("GEMM", MI300X, kernel(gemm(8192, 8192, 8192), 1700), "compute", 0.9423),
    # 134.2 MB / 5.3 T = 25.3 us; / 45
    Case("decode linear", MI300X, kernel(gemm(1, 8192, 8192), 45), "memory", 0.5629, ("under-used",)),
    # 3 x 40 MB / 5.3 T = 22.6 us, took 15: fits half of 268 MB
    Case("in Infinity Cache", MI300X, kernel(work(80 * 10**6, 40 * 10**6), 15), "memory", 1.5094, ("maybe-cached",)),
    # softmax of 2^26 floats: 537 MB / 0.5853 T = 917.3 us; 5 x 2^26 / 31.2 T = 10.8 us; / 1000
    Case("softmax", A10, kernel(work(2**28, 2**28, vector_float32=5 * 2**26), 1000), "memory", 0.9172),
    # 2 x 4096^3 / 119.8 T = 1147.2 us; 100.7 MB / 0.5853 T = 172 us; / 1250
    Case("GEMM", A10, kernel(gemm(4096, 4096, 4096), 1250), "compute", 0.9178),
    # no FLOP, 1 GB / 1.38395 T = 722.6 us; / 800
    Case("memset", A100, Question("set", work(0, 10**9), 800e3), "memory", 0.9032),
    # read and written: 2 GB / 0.865 T = 2312 us; / 2400
    Case("device copy", V100, Question("copy", work(10**9, 10**9), 2400e3), "memory", 0.9634),
    # one byte over the link for each byte copied: 1 GB / 63 G = 15.87 ms; / 18
    Case("pinned copy from the host", H100, Question("host_copy", work(10**9, 10**9), 18e6), "communication", 0.8818),
    # all-reduce of 1 GB on 8: 1 GB x 2 x 7 / 8 / 450 G = 3.889 ms; / 5
    Case("all-reduce", H100, Question("collective", work(10**9, 10**9), 5e6, link_bytes=1.75e9),
         "communication", 0.7778),
    Case("all-reduce, size unknown", H100, Question("collective", None, 5e6), "communication", None),
)  # fmt: skip


def has_flags(placement: Placement, flags: tuple[str, ...]) -> bool:
    return set(placement.flags) == set(flags)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {case.device.get('dram').datasheet:.3g}")
def test_cases_worked_by_hand(case: Case):
    placement = place(case.question, case.device)
    assert placement.bound == case.bound
    assert placement.efficiency == (None if case.efficiency is None else pytest.approx(case.efficiency, abs=1e-3))
    assert has_flags(placement, case.flags), placement.flags
    believed = "above-roof" not in case.flags and case.name != "all-reduce, size unknown"
    assert placement.is_believed == believed


FEW = "too few blocks: {} for 108 SMs"
# Published: batch, keys, us of FlashAttention 2.0.9 (a grid of batch x 16 blocks), why it is slow, us of FlashDecoding.
FLASH_DECODING = (
    (256, 256, 390.5, None, 63.4),
    (64, 1024, 364.8, None, 77.7),
    (16, 4096, 401.7, None, 57.0),
    (4, 16384, 582.7, FEW.format(64), 58.2),  # 64 blocks are 59 % of the SMs
    (2, 32768, 1156.1, FEW.format(32), 60.3),
    (1, 65536, 2300.6, FEW.format(16), 64.4),
)


class TestThePublishedFlashDecodingTable:
    """67.1 MB of keys and values, 537 MFLOP in every row: 48.5 us of DRAM (43.2 by the datasheet), 2 us of matmul."""

    @pytest.mark.parametrize(("batch", "keys", "us", "reason"), [row[:4] for row in FLASH_DECODING])
    def test_flash_attention_is_memory_bound_by_intensity_and_far_below_its_bandwidth(
        self, batch: int, keys: int, us: float, reason: str | None
    ):
        what = decode_attention(batch, keys)
        assert what.bytes_accessed == 67_108_864
        assert dict(what.flops or ())["tensor.float16"] == 536_870_912
        placement = place(kernel(what, us, FLASH, batch * 16), A100)
        assert (placement.bound, placement.flags) == ("memory", ("under-used",))
        assert placement.memory_ns == pytest.approx(48_490, rel=1e-3)
        assert placement.efficiency == pytest.approx(48.49 / us, rel=1e-3)
        assert placement.reasons == (() if reason is None else (reason,))

    @pytest.mark.parametrize(("batch", "keys", "us"), [(*row[:2], row[4]) for row in FLASH_DECODING])
    def test_flash_decoding_is_memory_bound_and_not_under_used(self, batch: int, keys: int, us: float):
        placement = place(kernel(decode_attention(batch, keys), us, FLASH, 1024), A100)
        assert (placement.bound, placement.flags, placement.reasons) == ("memory", (), ())
        assert 0.6 < placement.efficiency < 0.9


def test_the_verdicts_that_go_with_the_table():
    """GIVEN one sequence of 65536 keys THEN 2 % of the datasheet's bandwidth in one case, 67 % in the other."""
    attention = place(kernel(decode_attention(1, 65536), 2300.6, FLASH, 16), A100)
    decoding = place(kernel(decode_attention(1, 65536), 64.4, FLASH, 1024), A100)
    assert attention.datasheet_roof_ns / 2_300_600 == pytest.approx(0.02, abs=0.002)
    assert decoding.datasheet_roof_ns / 64_400 == pytest.approx(0.67, abs=0.005)


class TestWhatIsNotKnown:
    @pytest.mark.parametrize("what", [None, Work(None, None, None), Work((), None, None), Work(None, 100, None)])
    def test_without_work_there_is_no_bound(self, what: Work | None):
        placement = place(kernel(what, 100), H100)
        assert (placement.bound, placement.flags, placement.is_believed) == (None, ("uncosted",), False)

    @pytest.mark.parametrize(("bytes_read", "us"), [(10**9, 400), (1000, 100), (10**9, 5000)])
    def test_bytes_alone_never_make_compute(self, bytes_read: int, us: float):
        placement = place(kernel(Work(None, bytes_read, 0), us), H100)
        assert placement.bound == "memory"
        assert "flops-unknown" in placement.flags
        assert placement.compute_ns is None

    def test_bytes_alone_in_hardly_any_time_are_overhead(self):
        assert place(kernel(Work(None, 1000, 0), 1.5), H100).bound == "overhead"

    def test_flops_alone_place_a_large_kernel_and_no_small_one(self):
        large = Work((("tensor.bfloat16", 10**12),), None, None)
        assert place(kernel(large, 1500), H100).bound == "compute"
        small = Work((("tensor.bfloat16", 1000),), None, None)
        assert place(kernel(small, 100), H100).bound is None

    def test_without_ceilings_work_is_kept_and_nothing_is_judged(self):
        placement = place(kernel(gemm(64, 64, 64), 10), None)
        assert (placement.bound, placement.roof_ns, placement.is_believed) == (None, None, True)
        assert placement.flags == ("no-ceilings",)

    def test_a_collective_needs_no_ceilings(self):
        assert place(Question("collective", None, 10.0), None).bound == "communication"

    def test_a_unit_without_a_ceiling_is_named_and_left_out(self):
        placement = place(kernel(work(10**9, 0, tensor_float8=10**9), 900), A100)
        assert placement.bound == "memory"
        assert "no-compute-ceiling" in placement.flags
        assert "no ceiling for tensor.float8" in placement.reasons

    def test_a_bound_that_cannot_be_met_is_not_an_error_of_the_kernel(self):
        """GIVEN a gather charged for at most 1 GB WHEN it takes 20 us THEN only the bound was loose."""
        gather = replace(work(10**9, 0), is_bound=True)
        placement = place(kernel(gather, 20), H100)
        assert has_flags(placement, ("bounded", "bound-not-tight"))
        assert placement.bound is None

    def test_no_duration_is_said_and_divides_nothing(self):
        placement = place(kernel(gemm(64, 64, 64), 0), H100)
        assert placement.efficiency is None
        assert "no-duration" in placement.flags


class TestArithmetic:
    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_pointwise_half_computes_in_float32(self, dtype: str):
        placement = place(kernel(work(10**6, 0, **{f"vector_{dtype}": 67 * 10**9}), 1200), H100)
        assert placement.math == "vector.float32"
        assert placement.compute_ns == pytest.approx(1e6)

    def test_units_run_side_by_side(self):
        """794.5 GFLOP and 33.5 GFLOP: 1000 and 500 us, together 1000."""
        what = work(10**6, 0, tensor_bfloat16=7945 * 10**8, vector_float32=335 * 10**8)
        assert place(kernel(what, 1500), H100).compute_ns == pytest.approx(1e6)

    def test_every_unit_has_to_have_had_the_time(self):
        """1000 us of tensor work (803 by the datasheet) would do in 940 us, 990 us of vector work would not."""
        what = work(10**6, 0, tensor_bfloat16=7945 * 10**8, vector_float32=66_330 * 10**6)
        assert "above-roof" in place(kernel(what, 940), H100).flags

    def test_double_precision_matrices_without_tensor_cores_for_them_use_the_vector_units(self):
        assert place(kernel(gemm(1024, 1024, 1024, "float64", 8), 300), V100).math == "vector.float64"

    def test_amd_matrix_cores_multiply_float32(self):
        name = "Cijk_Ailk_Bljk_SB_MT128x128x16_MI32x32x2x1_SN"
        assert place(kernel(gemm(4096, 4096, 4096, "float32", 4), 1500, name), MI300X).math == "tensor.float32"

    @pytest.mark.parametrize(
        ("allow_tf32", "name", "math", "flags"),
        [
            (True, "", "tensor.tfloat32", {"under-used"}),
            (False, "", "vector.float32", set()),
            (None, "", "tensor.tfloat32", {"under-used", "arithmetic-unknown"}),
            (True, "ampere_sgemm_128x64_nn", "vector.float32", set()),  # the name knows better than the switch
            (False, TF32, "tensor.tfloat32", {"under-used"}),
        ],
    )
    def test_the_tf32_switch_decides_where_the_name_does_not(
        self, allow_tf32: bool | None, name: str, math: str, flags: set[str]
    ):
        """137.4 GFLOP in 8 ms: 88 % of the vector units' 19.5 TFLOP/s, 13 % of TF32's 135.6."""
        question = replace(kernel(gemm(4096, 4096, 4096, "float32", 4), 8000, name), allow_tf32=allow_tf32)
        placement = place(question, A100)
        assert (placement.math, set(placement.flags)) == (math, flags)

    @pytest.mark.parametrize(("device", "math"), [(V100, "vector.float32"), (MI300X, "tensor.tfloat32")])
    def test_the_switch_alone_makes_no_tf32_where_there_is_none_and_proves_none_on_amd(
        self, device: Ceilings, math: str
    ):
        question = replace(kernel(gemm(4096, 4096, 4096, "float32", 4), 12_000), allow_tf32=True)
        assert place(question, device).math == math
        assert ("arithmetic-unknown" in place(question, device).flags) is (device is MI300X)

    def test_sequential_is_the_sum_and_the_roof_the_larger(self):
        placement = place(kernel(gemm(8192, 8192, 8192), 1600), H100)
        assert placement.sequential_ns == pytest.approx(placement.compute_ns + placement.memory_ns)
        assert placement.roof_ns == max(placement.compute_ns, placement.memory_ns, placement.floor_ns)


class TestOnACpu:
    """Measured roofs only: 100 GFLOP/s, 20 GB/s, a last-level cache of 32 MB at 200 GB/s, 1 us for an op."""

    CPU = Ceilings(
        "cpu",
        tuple(
            Ceiling("cpu", resource, rate, None, None, None, "measured", "measured here")
            for resource, rate in {"tensor.float32": 1e11, "dram": 2e10, "l2": 2e11, "kernel_floor": 1e-6}.items()
        ),
        l2_bytes=32 * 10**6,
    )

    def ask(self, what: Work, us: float) -> Placement:
        return place(Question("self", what, us * 1e3, "aten::mm"), self.CPU)

    def test_a_large_product_is_compute_and_a_copy_is_memory(self):
        # 2 x 1024^3 = 2.147 GFLOP / 100 G = 21.5 ms; 12.6 MB / 20 G = 0.63 ms
        placement = self.ask(gemm(1024, 1024, 1024, "float32", 4), 25_000)
        assert (placement.bound, placement.math) == ("compute", "tensor.float32")
        assert placement.efficiency == pytest.approx(0.859, abs=1e-3)
        assert placement.datasheet_roof_ns is None
        assert self.ask(work(10**9, 10**9), 110_000).bound == "memory"

    def test_an_op_that_moves_nothing_is_overhead(self):
        placement = self.ask(work(0, 0), 3)
        assert (placement.bound, placement.flags) == ("overhead", ("too-small",))
        assert placement.efficiency == pytest.approx(1 / 3)

    def test_a_small_copy_lives_in_the_cache(self):
        # 10 MB: 500 us from DRAM, 50 from cache
        placement = self.ask(work(5 * 10**6, 5 * 10**6), 60)
        assert placement.flags == ("cache-resident",)
        assert placement.efficiency == pytest.approx(50 / 60)

    def test_a_measured_roof_that_is_exceeded_was_too_low(self):
        product = gemm(1024, 1024, 1024, "float32", 4)
        assert self.ask(product, 18_000).flags == ("ceiling-too-low",)
        assert self.ask(product, 1_000).flags == ("ceiling-too-low",)  # 20 times: nothing says it is impossible
        strict = replace(LIMITS, headroom=1.5)
        assert place(Question("self", product, 10e6, "aten::mm"), self.CPU, strict).flags == ("above-roof",)

    def test_a_product_walks_from_memory_to_compute(self):
        bounds = []
        for m in (1, 2, 4, 8, 16, 64, 256):
            what = gemm(m, 4096, 4096, "float32", 4)
            slow = place(Question("self", what, 1e12), self.CPU)
            bounds.append(slow.bound)
        # t_m = 67.1 MB / 20 G = 3.36 ms; t_c = m x 33.6 MFLOP / 100 G = m x 0.336 ms: the knee lies at 10
        assert bounds == ["memory"] * 4 + ["compute"] * 3


def test_every_constant_can_be_set():
    question = kernel(gemm(8192, 8192, 8192), 1900)
    assert place(question, H100).flags == ()
    assert place(question, H100, replace(LIMITS, under_used=0.8)).flags == ("under-used",)


@pytest.mark.parametrize(("gflops", "is_balanced"), [(60, False), (70, True), (180, True), (210, False)])
def test_ceilings_that_are_intervals_widen_the_balance(gflops: int, is_balanced: bool):
    """1 GB at 1 TB/s is 1000 us, somewhere between 667 (1.5 TB/s) and 2000 (0.5); 100 TFLOP/s is sure."""
    rows = (
        Ceiling("cuda:0", "dram", 1e12, 2e12, 0.5e12, 1.5e12, "published", "two that differ"),
        Ceiling("cuda:0", "tensor.bfloat16", 1e14, 2e14, None, None, "published", "one"),
    )
    what = work(10**9, 0, tensor_bfloat16=gflops * 10**9)
    assert ("balanced" in place(kernel(what, 3000), Ceilings("cuda:0", rows)).flags) is is_balanced


class TestSmallMessages:
    """H100 SXM: PCIe 5 at 63 GB/s one way, kernel floor 1.1 us."""

    def test_a_tiny_copy_is_held_against_the_floor_not_against_a_fraction_of_a_nanosecond(self):
        placement = place(Question("host_copy", work(8, 8), 2_200), H100)
        assert placement.roof_ns == pytest.approx(1_100)
        assert placement.efficiency == pytest.approx(0.5)

    def test_one_shorter_than_the_floor_is_held_against_the_link(self):
        placement = place(Question("host_copy", work(6300, 6300), 900), H100)
        assert placement.roof_ns == pytest.approx(100)  # 6300 B / 63 GB/s
