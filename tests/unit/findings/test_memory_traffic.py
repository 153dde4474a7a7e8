"""Rules about copies, casts, weights and the cache: what other orders and types would spare; times in microseconds."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import Rule, findings_of
from diagnose.findings.memory_layout import channels_last, reordering_copies, weight_casts
from diagnose.findings.memory_weights import cache_bandwidth, weight_bandwidth
from diagnose.schema import Finding, Interval
from tests.builders import TraceBuilder

H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
IMAGES = ((64, 256, 128, 128), "bfloat16")
FILTERS = ((256, 256, 3, 3), "bfloat16")
CONVOLUTION = [IMAGES, FILTERS, [1, 1], [1, 1], [1, 1], 1, False, False, True]
TO_NHWC = "void cudnn::engines_precompiled::nchwToNhwcKernel<__nv_bfloat16, __nv_bfloat16, float>()"


class Nested:
    """Kernels back to back, each of the innermost of some ops, launched long before they run."""

    def __init__(self, device: str = H100) -> None:
        self.built = TraceBuilder(device)
        self.host, self.at = 1, 60
        self.run(
            [("aten::mm", None)], (GEMM, 200)
        )  # what waits for the first launch is none of the kernels in question

    def run(self, ops: list[tuple[str, list[Any] | None]], *kernels: tuple[str, int]) -> None:
        """``ops`` from the outermost to the innermost; ``kernels`` with their durations."""
        length = 2 * (len(ops) + len(kernels))
        for depth, (name, inputs) in enumerate(ops):
            self.built.op(name, f"{self.host + 0.1 * depth:.1f}", length - depth, inputs=inputs)
        for number, (kernel, us) in enumerate(kernels):
            launch = self.built.launch(self.host + 1 + number, 1)
            self.built.kernel(kernel, self.at, us, correlation=launch)
            self.at += us
        self.host += length + 1

    def case(self) -> Case:
        self.built.step(0, 0, self.host)
        kept: list[Case] = []
        analyse(self.built.reading(), keep=kept.append)
        return kept[0]


def found(case: Case, rule: Rule) -> Finding | None:
    rows = findings_of(case, [rule])
    assert len(rows) <= 1
    return rows[0] if rows else None


# ---- Layout of convolutions


def convolution(images: Any = IMAGES) -> Case:
    stream = Nested()
    arguments = [images, *CONVOLUTION[1:]]
    stream.run([("aten::cudnn_convolution", arguments)], (TO_NHWC, 400), ("sm90_xmma_fprop_bf16", 2000))
    return stream.case()


def test_layout_kernels_go_with_channels_last() -> None:
    finding = found(convolution(), channels_last)
    assert finding is not None
    assert finding.recoverable_ns == Interval(200_000, 320_000, 400_000)
    assert finding.evidence["layout_ns_per_step"] == 400_000
    assert "channels_last" in finding.advice


def test_tensors_that_are_channels_last_already_need_no_advice() -> None:
    images = (*IMAGES, (256 * 128 * 128, 1, 256 * 128, 256))
    assert found(convolution(images), channels_last) is None


# ---- Copies into another order


DENSE = ((16, 16, 2048, 64), "bfloat16")
TURNED = (*DENSE, (2048 * 1024, 64, 1024, 1))


def copied(source: Any, *above: str) -> Case:
    stream = Nested()
    names = [(name, [source]) for name in above]
    stream.run([*names, ("aten::copy_", [DENSE, source, False])], ("copy_kernel", 400))
    stream.run([("aten::mm", None)], (GEMM, 1000))
    return stream.case()


def test_a_copy_for_contiguous_is_priced() -> None:
    finding = found(copied(TURNED, "aten::contiguous", "aten::clone"), reordering_copies)
    assert finding is not None
    assert finding.recoverable_ns == Interval(100_000, 200_000, 400_000)
    assert finding.evidence["copy_bytes_per_step"] == 2 * 2 * 16 * 16 * 2048 * 64
    assert finding.evidence["called_by"] == "aten::contiguous"


@pytest.mark.parametrize(
    ("source", "above"),
    [
        (DENSE, ("aten::contiguous", "aten::clone")),  # the same order
        (TURNED, ("aten::clone",)),  # the user's own clone
        ((*DENSE, (0, 0, 64, 1)), ("aten::contiguous", "aten::clone")),  # a repeated gradient
        (((16, 16, 2048, 64), "float32", (2048 * 1024, 64, 1024, 1)), ("aten::contiguous",)),  # a cast
    ],
)
def test_other_copies_are_not(source: Any, above: tuple[str, ...]) -> None:
    assert found(copied(source, *above), reordering_copies) is None


def test_keys_repeated_for_grouped_heads_name_enable_gqa() -> None:
    repeated = ((16, 4, 4, 2048, 64), "bfloat16")
    source = (*repeated, (4 * 2048 * 64, 2048 * 64, 0, 64, 1))
    stream = Nested()
    copy = ("aten::copy_", [repeated, source, False])
    stream.run([("aten::reshape", [source]), ("aten::clone", [source]), copy], ("copy_kernel", 400))
    finding = found(stream.case(), reordering_copies)
    assert finding is not None
    assert "enable_gqa=True" in finding.advice


# ---- Casts of weights


WEIGHT, NARROW = ((8192, 8192), "float32"), ((8192, 8192), "bfloat16")
INPUT = ((64, 8192), "float32")


def cast(source: Any, target: Any) -> Case:
    stream = Nested()
    linear = ("aten::linear", [INPUT, WEIGHT, None])
    above = [linear, ("aten::to", [source]), ("aten::_to_copy", [source])]
    stream.run([*above, ("aten::copy_", [target, source, False])], ("copy_kernel", 200))
    stream.run([("aten::mm", None)], (GEMM, 800))
    return stream.case()


def test_a_weight_cast_for_a_linear_layer_is_priced() -> None:
    finding = found(cast(WEIGHT, NARROW), weight_casts)
    assert finding is not None
    assert finding.recoverable_ns == Interval(100_000, 180_000, 200_000)
    assert finding.evidence["cast_bytes_per_step"] == 6 * 8192 * 8192
    assert finding.advice.startswith("model = model.to(torch.bfloat16)")


@pytest.mark.parametrize(
    ("source", "target"),
    [(((8192, 4096), "float32"), ((8192, 4096), "bfloat16")), (NARROW, WEIGHT)],
    ids=["an activation", "widening"],
)
def test_other_casts_are_left_alone(source: Any, target: Any) -> None:
    assert found(cast(source, target), weight_casts) is None


# ---- Weights that are read for a few rows


def decode(rows: int, us: int, *, dtype: str = "bfloat16", device: str = H100) -> Case:
    stream = Nested(device)
    for _ in range(10):
        stream.run([("aten::mm", [((rows, 8192), dtype), ((8192, 8192), dtype)])], (GEMM, us))
    return stream.case()


def test_weights_of_eight_and_four_bits_are_priced_by_their_bytes() -> None:
    finding = found(decode(4, 60), weight_bandwidth)
    assert finding is not None
    weight, others = 2 * 8192 * 8192, 2 * 2 * 4 * 8192
    for got, left in zip(
        (finding.recoverable_ns.low, finding.recoverable_ns.mid, finding.recoverable_ns.high),
        (0.5 / 0.53, 0.5 / 0.80, 0.25 / 0.97),
        strict=True,
    ):
        assert got == pytest.approx(600_000 * weight * (1 - left) / (weight + others), rel=1e-4)
    assert finding.evidence["rows"] == 4
    assert finding.evidence["weight_bytes_per_step"] == 10 * weight
    assert "Float8" in finding.advice


def test_a_device_without_float8_is_not_told_of_it() -> None:
    finding = found(decode(4, 100, device=A100), weight_bandwidth)
    assert finding is not None
    assert "Int8" in finding.advice
    assert "Float8" not in finding.advice


@pytest.mark.parametrize("case", [(512, 200), (4, 6)], ids=["many rows", "faster than the memory"])
def test_other_products_are_not(case: tuple[int, int]) -> None:
    assert found(decode(*case), weight_bandwidth) is None


def test_weights_that_are_trained_are_not_quantised() -> None:
    stream = Nested()
    stream.run([("aten::mm", [((4, 8192), "bfloat16"), ((8192, 8192), "bfloat16")])], (GEMM, 60))
    stream.built.annotation("Optimizer.step#SGD.step", stream.host, 10)
    stream.run([("aten::_foreach_add_", None)], ("multi_tensor_apply_kernel", 60))
    assert found(stream.case(), weight_bandwidth) is None


def attention(queries: int, device: str = H100) -> Case:
    stream = Nested(device)
    query, cache = ((64, queries, 8, 128), "bfloat16"), ((64, 8192, 8, 128), "bfloat16")
    arguments = [query, cache, cache, None, None, queries, 8192, 0.0, False, False, 0.1, None, None, None, None]
    stream.run([("aten::_flash_attention_forward", arguments)], ("flash_fwd_splitkv_kernel", 1300 * queries))
    return stream.case()


def test_a_cache_in_eight_bits_is_priced() -> None:
    case = attention(1)
    finding = found(case, cache_bandwidth)
    assert finding is not None
    cache = 2 * 2 * 64 * 8192 * 8 * 128
    assert finding.evidence["cache_bytes_per_step"] == cache
    work = case.work(next(group for group in range(2) if "attention" in case.op_name(group)))
    assert work is not None
    moved = work.bytes_accessed
    assert moved is not None
    assert finding.recoverable_ns.mid == pytest.approx(1_300_000 * 0.5 * cache / moved, rel=1e-4)
    assert finding.recoverable_ns.low == pytest.approx(1_300_000 * 0.375 * cache / moved, rel=1e-4)


def test_no_cache_is_narrowed_without_float8_or_in_a_prefill() -> None:
    assert found(attention(1, A100), cache_bandwidth) is None
    assert found(attention(8192), cache_bandwidth) is None
