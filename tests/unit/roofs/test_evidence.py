"""What a recording shows around its kernels, from the trace to the report's reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from diagnose.analysis import Options, analyse
from diagnose.devices.user_rows import user_rows
from diagnose.items import collect
from diagnose.limits import LIMITS
from diagnose.roofs.evidence import beside_others
from diagnose.schema import Document, KernelRow
from diagnose.trace.extras import Arithmetic, Extras, encode_extras
from tests.builders import TraceBuilder, launched

H100 = "NVIDIA H100 80GB HBM3"
SM = {"maxThreadsPerMultiprocessor": 2048, "regsPerMultiprocessor": 65536, "sharedMemPerMultiprocessor": 233472}


def report(built: TraceBuilder, **options: Any) -> Document:
    return analyse(built.reading(), Options(devices=(), **options))


def row_of(document: Document, kernel: str) -> KernelRow:
    return next(row for row in document.kernels if row.kernel == kernel)


def test_time_beside_others_is_counted_on_both_sides_and_copies_do_not_count():
    built = TraceBuilder(H100)
    built.step(0, 0, 5)
    built.kernel("a", 100, 50)
    built.kernel("b", 140, 40, stream=8)  # the last 10 us of a
    built.kernel("c", 120, 5, stream=9)  # inside a
    built.kernel("d", 300, 10)
    built.copy("Memcpy HtoD (Pinned -> Device)", 300, 10, size=1000, stream=9)
    built.kernel("e", 300, 10, device=1)
    recording = collect(built.reading().trace)
    names = [recording.trace.strings[name] for name in recording.items.name.tolist()]
    found = dict(zip(names, (beside_others(recording) // 1000).tolist(), strict=True))
    assert found == {"a": 15, "b": 10, "c": 5, "d": 0, "e": 0, "Memcpy HtoD (Pinned -> Device)": 0}


def test_a_kernel_that_ran_beside_a_collective_is_told_so():
    built = TraceBuilder(H100)
    built.step(0, 0, 20)
    tensor = ((1 << 24,), "float32")
    launched(built, "aten::relu", [tensor], 100, 200, kernel="relu")  # 134 MB: 44 us at the roof
    built.collective(150, 100, elements=1 << 20)
    assert "shares the device: other kernels ran during 50 % of its time" in row_of(report(built), "relu").reasons


class TestTheGrid:
    def trace(self, name: str, **kernel: Any) -> KernelRow:
        built = TraceBuilder(None)
        built.header(H100, **SM)
        built.step(0, 0, 20)
        a, b = ((4096, 4096), "bfloat16"), ((4096, 4096), "bfloat16")  # 173 us at the roof
        launched(built, "aten::mm", [a, b], 100, 400, kernel=name, **kernel)
        return row_of(report(built), name)

    def test_registers_and_shared_memory_make_waves(self):
        """160 blocks of 128 threads, 100 KB of shared memory each: 2 an SM, 264 at once, 61 % of a wave."""
        row = self.trace("my_gemm", grid=(160, 1, 1), block=(128, 1, 1),
                         **{"registers per thread": 128, "shared memory": 100 * 1024})  # fmt: skip
        assert row.reasons == ["less than one wave: 160 blocks, and the device holds 264"]

    def test_tiles_and_the_names_make_persistent_kernels(self):
        """16 x 32 tiles of 256 x 128 on 40 blocks: 12.8 rounds each, 2 % of 13 empty."""
        assert self.trace("nvjet_tst_256x128_64x4_2x1_v_bz_TNT", grid=(40, 1, 1)).reasons == []
        row = self.trace("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize256x128x64_kernel", grid=(40, 1, 1))
        assert row.reasons == []
        assert self.trace("my_gemm", grid=(40, 1, 1)).reasons == ["too few blocks: 40 for 132 SMs"]

    def test_without_what_an_sm_has_there_are_no_waves(self):
        built = TraceBuilder(H100)
        built.step(0, 0, 20)
        matrix = ((4096, 4096), "bfloat16")
        launched(built, "aten::mm", [matrix, matrix], 100, 400, kernel="my_gemm", grid=(160, 1, 1))
        assert row_of(report(built), "my_gemm").reasons == []


def norm_then_relu(elements: int, us: float, between: int = 0, same: bool = True) -> KernelRow:
    """A kernel writes ``elements`` float32, ``between`` others pass, and a relu reads them."""
    built = TraceBuilder(H100)
    built.step(0, 0, 20)
    tensor, other = ((elements,), "float32"), ((between,), "float32")
    launched(built, "aten::sigmoid", [tensor if same else ((elements // 3,), "float32")], 1000, 500, kernel="sigmoid")
    if between:
        launched(built, "aten::tanh", [other], 2000, 500, kernel="tanh")
    launched(built, "aten::relu", [tensor], 3000, us, kernel="relu")
    return row_of(report(built), "relu")


class TestWhatWasJustWritten:
    """H100: 52.4 MB of L2, 26.2 usable. 4 M float32 are 16.8 MB; in and out 33.6 MB: 11.1 us from DRAM, 3.4 from L2."""

    def test_explains_a_fast_consumer(self):
        row = norm_then_relu(1 << 22, 5.2)
        assert row.flags == ["cache-resident"]
        assert "of its inputs were written just before by sigmoid" in row.reasons[0]
        assert row.bound == "memory"

    def test_does_not_explain_it_once_other_traffic_has_passed(self):
        row = norm_then_relu(1 << 22, 8.5, between=1 << 23)
        assert row.flags == ["maybe-cached"]
        assert "sigmoid" not in " ".join(row.reasons)
        assert norm_then_relu(1 << 22, 4.5, between=1 << 23).flags == ["above-roof"]

    def test_is_told_by_its_size(self):
        assert norm_then_relu(1 << 22, 8.5, same=False).flags == ["maybe-cached"]

    def test_hides_no_doubled_shape(self):
        """A relu at 90 % of DRAM over 268 MB; recorded with twice the elements it is not believed."""
        us = 2 * 4 * (1 << 25) / 3.0185e12 / 0.9 * 1e6
        assert norm_then_relu(1 << 25, round(us, 3)).flags == []
        assert norm_then_relu(1 << 26, round(us, 3)).flags == ["above-roof"]


@pytest.mark.parametrize(
    ("switches", "op", "math"),
    [
        (Arithmetic(matmul_allow_tf32=True, cudnn_allow_tf32=False), "aten::mm", "tensor.tfloat32"),
        (Arithmetic(matmul_allow_tf32=False, cudnn_allow_tf32=True), "aten::mm", "vector.float32"),
        (Arithmetic(), "aten::mm", "tensor.tfloat32"),
        (Arithmetic(matmul_allow_tf32=False, cudnn_allow_tf32=True), "aten::cudnn_convolution", "tensor.tfloat32"),
        (Arithmetic(matmul_allow_tf32=True, cudnn_allow_tf32=False), "aten::cudnn_convolution", "vector.float32"),
    ],
)
def test_the_recorded_switch_of_the_op_settles_float32_products(switches: Arithmetic, op: str, math: str):
    built = TraceBuilder(H100)
    built.step(0, 0, 20)
    matrix = ((4096, 4096), "float32")
    image, weight = ((32, 256, 64, 64), "float32"), ((256, 256, 3, 3), "float32")
    arguments = [image, weight, [1, 1], [1, 1], [1, 1], 1, False, True, True]
    launched(built, op, [matrix, matrix] if op == "aten::mm" else arguments, 100, 4000, kernel="a_product")
    built.top["diagnose"] = msgspec.Raw(encode_extras(Extras(arithmetic=switches)))
    row = row_of(report(built), "a_product")
    assert row.math == math
    assert ("arithmetic-unknown" in row.flags) is (switches == Arithmetic())


def big_copy(name: str, **header: Any) -> TraceBuilder:
    built = TraceBuilder(None)
    built.header(name, **header)
    built.step(0, 0, 20)
    launched(built, "aten::relu", [((1 << 28,), "float32")], 100, 5000, kernel="relu")
    return built


def test_a_slice_has_its_own_roof():
    name = "NVIDIA A100-SXM4-40GB MIG 3g.20gb"
    built = big_copy(name, computeMajor=8, computeMinor=0, numSms=42, totalGlobalMem=20937965568)
    document = report(built)
    dram = next(row for row in document.ceilings if row.resource == "dram")
    assert dram.datasheet == pytest.approx(1555e9 / 2)
    assert (document.devices[0].name, document.devices[0].identified_by) == (name, "name")


def test_the_users_own_row_wins_and_says_so(tmp_path: Path):
    file = tmp_path / "devices.toml"
    file.write_text('[[device]]\nname = "Frobnicator 9000"\ndram_bytes_per_s = 1e12\nsource = "me"\n')
    document = analyse(big_copy("Frobnicator 9000").reading(), Options(devices=user_rows(file)))
    assert document.devices[0].identified_by == "user"
    (dram,) = [each for each in document.ceilings if each.resource == "dram"]
    assert (dram.achievable, dram.origin, dram.source) == (1e12, "user", "me")
    assert row_of(document, "relu").bound == "memory"


def test_every_constant_reaches_the_classifier():
    built = big_copy(H100)
    assert "under-used" in row_of(report(built), "relu").flags
    assert row_of(report(built, limits=replace(LIMITS, under_used=0.01)), "relu").flags == []
