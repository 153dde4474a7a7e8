"""Rules about what one kernel could keep on the chip; the streams are always busy, so a kernel's time is the step's.

Times are microseconds. Rates are taken from the ceilings, the rest of the arithmetic is in the tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import Rule, findings_of
from diagnose.findings.memory_attention import unfused_attention
from diagnose.findings.memory_chains import pointwise_chains
from diagnose.schema import Finding
from diagnose.trace.chrome import read_trace
from tests.builders import TraceBuilder

HEADS, TOKENS, WIDTH = 64, 2048, 64
SCORES = ((HEADS, TOKENS, TOKENS), "bfloat16")
SCORES_4D = ((4, 16, TOKENS, TOKENS), "bfloat16")
QUERY = ((HEADS, TOKENS, WIDTH), "bfloat16")
TURNED = ((HEADS, WIDTH, TOKENS), "bfloat16")
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
LARGE = ((1 << 28,), "bfloat16")
"""537 MB: beyond any cache."""


class Busy:
    """Kernels back to back on a stream, launched long before they run."""

    def __init__(self, device: str = "NVIDIA H100 80GB HBM3") -> None:
        self.built = TraceBuilder(device)
        self.host, self.at = 1, 40

    def run(self, op: str, inputs: list[Any] | None, us: int, kernel: str = "kernel", **others: Any) -> None:
        self.built.op(op, self.host, 3, inputs=inputs, **others)
        self.built.kernel(kernel, self.at, us, correlation=self.built.launch(self.host + 1, 1))
        self.host += 4
        self.at += us

    def case(self) -> Case:
        self.built.step(0, 0, self.host)
        kept: list[Case] = []
        analyse(self.built.reading(), keep=kept.append)
        return kept[0]


def found(case: Case, rule: Rule) -> Finding | None:
    rows = findings_of(case, [rule])
    assert len(rows) <= 1
    return rows[0] if rows else None


def rate(case: Case, resource: str) -> float:
    known = case.placed.hardware.ceilings[0].rate(resource)
    assert known is not None
    return known


def forward(stream: Busy, *, gemm_us: int = 300, softmax_us: int = 400) -> None:
    stream.run("aten::bmm", [QUERY, TURNED], gemm_us, GEMM)
    stream.run("aten::mul", [SCORES_4D, 0.125], 400)
    stream.run("aten::_softmax", [SCORES_4D, -1, False], softmax_us)
    stream.run("aten::bmm", [SCORES, QUERY], gemm_us, GEMM)


def product_us(case: Case) -> float:
    """The roof of one matmul: two operations a pair and width."""
    return 2 * HEADS * TOKENS * TOKENS * WIDTH / rate(case, "tensor.bfloat16") * 1e6


def test_attention_in_four_kernels_is_priced_as_one() -> None:
    stream = Busy()
    for _ in range(3):
        forward(stream)
    case = stream.case()
    finding = found(case, unfused_attention)
    assert finding is not None
    # 2 x 300 + 2 x 400 us each; one kernel takes the two matmuls' roof at 25, 45, 80 % (q, k, v and the result: 20 us).
    for got, efficiency in zip(
        (finding.recoverable_ns.low, finding.recoverable_ns.mid, finding.recoverable_ns.high), (0.25, 0.45, 0.8),
        strict=True,
    ):  # fmt: skip
        assert got == pytest.approx(3 * (1400 - 2 * product_us(case) / efficiency) * 1e3, rel=1e-3)
    assert finding.evidence["attentions_per_step"] == 3
    assert finding.evidence["kernels_per_step"] == 12
    # The scores are written and read by the first three kernels, and read by the last: six passes of 2 bytes.
    assert finding.evidence["score_bytes_per_step"] == 3 * 6 * 2 * HEADS * TOKENS * TOKENS
    assert "scaled_dot_product_attention(q, k, v)" in finding.advice


def test_the_backward_pass_multiplies_a_fifth_time() -> None:
    stream = Busy()
    stream.run("aten::bmm", [SCORES, QUERY], 300, GEMM)  # the transposed probabilities and the gradient: of the values
    stream.run("aten::bmm", [QUERY, TURNED], 300, GEMM)  # of the probabilities
    stream.run("aten::_softmax_backward_data", [SCORES_4D, SCORES_4D, -1, 15], 600)
    stream.run("aten::mul", [SCORES_4D, 0.125], 400)
    stream.run("aten::bmm", [SCORES, QUERY], 300, GEMM)  # of the queries
    stream.run("aten::bmm", [TURNED, SCORES], 300, GEMM)  # of the keys
    case = stream.case()
    finding = found(case, unfused_attention)
    assert finding is not None
    assert finding.evidence["of_them_backward"] == 1
    assert finding.recoverable_ns.mid == pytest.approx((2200 - 1.25 * 4 * product_us(case) / 0.45) * 1e3, rel=1e-3)


def test_a_mask_and_dropout_are_in_the_advice() -> None:
    stream = Busy()
    stream.run("aten::bmm", [QUERY, TURNED], 300, GEMM)
    stream.run("aten::masked_fill_", [SCORES_4D, ((TOKENS, TOKENS), "bool"), 0.0], 400)
    stream.run("aten::_softmax", [SCORES_4D, -1, False], 400)
    stream.run("aten::native_dropout", [SCORES_4D, 0.1, True], 600)
    stream.run("aten::bmm", [SCORES, QUERY], 300, GEMM)
    finding = found(stream.case(), unfused_attention)
    assert finding is not None
    assert "attn_mask=mask, dropout_p=dropout)" in finding.advice


def test_what_does_not_multiply_the_softmax_is_no_attention() -> None:
    stream = Busy()
    stream.run("aten::bmm", [QUERY, TURNED], 300, GEMM)
    stream.run("aten::_softmax", [SCORES_4D, -1, False], 400)
    stream.run("aten::bmm", [QUERY, TURNED], 300, GEMM)
    stream.run("aten::_flash_attention_forward", [((4, TOKENS, 16, WIDTH), "bfloat16")] * 3, 300, "flash_fwd_kernel")
    assert found(stream.case(), unfused_attention) is None


def test_a_softmax_over_the_queries_is_no_attention() -> None:
    stream = Busy()
    stream.run("aten::bmm", [QUERY, TURNED], 300, GEMM)
    stream.run("aten::_softmax", [SCORES_4D, 2, False], 400)
    stream.run("aten::bmm", [SCORES, QUERY], 300, GEMM)
    assert found(stream.case(), unfused_attention) is None


def test_attention_whose_work_is_not_believed_says_nothing() -> None:
    stream = Busy()
    forward(stream, gemm_us=10, softmax_us=20)  # 1 GB in 20 us is 16 times the bandwidth
    assert found(stream.case(), unfused_attention) is None


def test_a_device_without_a_row_gets_no_price() -> None:
    stream = Busy("Some Accelerator")
    forward(stream)
    assert found(stream.case(), unfused_attention) is None


def test_a_step_recorded_on_the_cpu_and_its_fused_counterpart(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import diagnose

    q, k, v = (torch.randn(2, 4, 128, 32, requires_grad=True) for _ in range(3))

    def plain() -> Any:
        return torch.softmax((q @ k.transpose(-1, -2)) * 32**-0.5, -1) @ v

    def fused() -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    counts = []
    for attention in (plain, fused):
        attention().square().sum().backward()
        with diagnose.profile() as profiled:
            attention().square().sum().backward()
        profiled.save(tmp_path / "step.json.gz")
        kept: list[Case] = []
        analyse(read_trace(tmp_path / "step.json.gz"), keep=kept.append)
        counts.append([proposal.evidence["attentions_per_step"] for proposal in unfused_attention(kept[0])])
    assert counts == [[2.0], []]  # forward and backward


# ---- Chains


@pytest.mark.parametrize("kind", ["evaluated", "dropout", "learned bias", "wide values"])
def test_a_cpu_is_promised_what_torch_fuses_there(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import diagnose

    q, k = (torch.randn(2, 4, 128, 32, requires_grad=True) for _ in range(2))
    v = torch.randn(2, 4, 128, 64 if kind == "wide values" else 32, requires_grad=True)
    bias = torch.randn(4, 128, 128, requires_grad=kind == "learned bias")
    drop = torch.nn.Dropout(0.1).train(kind == "dropout")

    def written_out() -> Any:
        return drop(torch.softmax((q @ k.transpose(-1, -2)) * 32**-0.5 + bias, -1)) @ v

    def by_torch() -> Any:
        fused = torch.nn.functional.scaled_dot_product_attention
        return fused(q, k, v, attn_mask=bias[None], dropout_p=drop.p if drop.training else 0.0)

    written_out().sum().backward()
    with diagnose.profile() as profiled:
        written_out().sum().backward()
    profiled.save(tmp_path / "step.json.gz")
    kept: list[Case] = []
    analyse(read_trace(tmp_path / "step.json.gz"), keep=kept.append)
    proposals = unfused_attention(kept[0])
    # The rule and torch agree: what torch would compute by its math path is not promised.
    with torch.profiler.profile() as profiled_torch:
        by_torch()
    is_fused = not any("attention_math" in event.name for event in profiled_torch.events())
    assert is_fused == (kind == "evaluated")
    assert bool(proposals) == is_fused
    assert all("no dropout" in proposal.assumes for proposal in proposals)


def floor_us(case: Case) -> float:
    return rate(case, "kernel_floor") * 1e6


def test_a_chain_is_priced_by_the_bytes_that_stay() -> None:
    stream = Busy()
    for op in ("aten::relu", "aten::sigmoid", "aten::exp"):
        stream.run(op, [LARGE], 400)
    case = stream.case()
    finding = found(case, pointwise_chains)
    assert finding is not None
    body, pass_us = 400 - floor_us(case), 2 * (1 << 28) / rate(case, "dram") * 1e6
    # Of the six passes low spares the two that read an intermediate, at the device's own bandwidth.
    assert finding.recoverable_ns.low == pytest.approx((2 * floor_us(case) + 2 * pass_us) * 1e3, rel=1e-3)
    # Of each kernel's two passes stay, at the present bandwidth: mid 3/4, 1/4, 1/2 of its time, high 1/2, 0, 1/2.
    for got, kept in zip((finding.recoverable_ns.mid, finding.recoverable_ns.high), (1.5, 1), strict=True):
        assert got == pytest.approx((1200 - floor_us(case) - kept * body) * 1e3, rel=1e-3)
    assert finding.evidence["intermediate_bytes_per_step"] == 2 * 2 * (1 << 28)
    assert (finding.evidence["kernels_per_step"], finding.evidence["kernels_per_step_fused"]) == (3, 1)
    assert finding.evidence["largest_run"] == "relu, sigmoid, exp"


def test_an_rms_norm_written_out_is_named() -> None:
    stream, rows = Busy(), ((1 << 18, 1), "float32")
    full = ((1 << 18, 1024), "float32")
    stream.run("aten::pow", [full, 2], 900)
    stream.run("aten::mean", [full, [-1], True, None], 450)
    stream.run("aten::add", [rows, 1e-6, 1], 5)
    stream.run("aten::rsqrt", [rows], 5)
    stream.run("aten::mul", [full, rows], 900)
    finding = found(stream.case(), pointwise_chains)
    assert finding is not None
    assert finding.evidence["kernels_per_step_fused"] == 1
    assert "rms_norm" in finding.advice


@pytest.mark.parametrize("between", ["aten::mm", "other size", "other stream"])
def test_kernels_that_do_not_follow_each_other_are_no_chain(between: str) -> None:
    stream = Busy()
    stream.run("aten::relu", [LARGE], 400)
    if between == "aten::mm":
        stream.run("aten::mm", [((4096, 4096), "bfloat16")] * 2, 400, GEMM)
        stream.run("aten::relu", [LARGE], 400)
    elif between == "other size":
        stream.run("aten::relu", [((1 << 27,), "bfloat16")], 300)
    else:
        stream.run("aten::relu", [LARGE], 400)
        stream.built.events[-2]["args"]["stream"] = stream.built.events[-2]["tid"] = 8
        stream.built.events[-1]["args"]["stream"] = stream.built.events[-1]["tid"] = 8
    assert found(stream.case(), pointwise_chains) is None


def test_a_chain_ends_with_its_step() -> None:
    stream = Busy()
    for number in range(2):
        stream.built.step(number, stream.host, 7)
        for op in ("aten::relu", "aten::sigmoid"):
            stream.run(op, [LARGE], 400)
    kept: list[Case] = []
    analyse(stream.built.reading(), keep=kept.append)
    (proposal,) = pointwise_chains(kept[0])
    assert (proposal.evidence["kernels_per_step"], proposal.evidence["kernels_per_step_fused"]) == (2, 1)
    assert proposal.evidence["largest_run"] == "relu, sigmoid"


def test_fusing_a_chain_spares_the_host_the_time_of_its_ops() -> None:
    built = TraceBuilder()
    for number in range(10):  # kernels of 5 us, launched every 100 us by ops of 60 us
        built.op("aten::relu", 100 * number, 60, inputs=[((1 << 20,), "float32")])
        built.kernel("relu", 100 * number + 40, 5, correlation=built.launch(100 * number + 30, 5))
    built.step(0, 0, 1000)
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    finding = found(kept[0], pointwise_chains)
    assert finding is not None
    # Nine launches go. Low: the host launches as late as ever. Mid: 5 us of a call and half of the other 55 us each.
    # High: all 60 us of each op.
    assert finding.recoverable_ns.low == 0
    assert finding.recoverable_ns.mid == pytest.approx(9 * 32_500, rel=0.02)
    assert finding.recoverable_ns.high == pytest.approx(9 * 60_000, rel=0.02)


def on_cpu(*ops: tuple[str, int, int, list[Any]]) -> Case:
    """Ops (name, start, duration, arguments) recorded on a CPU that moves 10 GB/s."""
    built = TraceBuilder(None)
    for op, start, us, inputs in ops:
        built.op(op, start, us, inputs=inputs)
    rows: list[dict[str, Any]] = [
        {"device": "cpu", "resource": resource, "achievable": rate, "datasheet": None, "low": None, "high": None,
         "origin": "measured", "source": "test"}
        for resource, rate in (("dram", 1e10), ("kernel_floor", 1e-7), ("tensor.float32", 1e11))
    ]  # fmt: skip
    built.top["diagnose"] = {
        "version": 1, "cpu": {"model": "test", "physical_cores": 1, "threads": 1}, "ceilings": rows,
    }  # fmt: skip
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def test_the_copy_inside_a_product_is_not_what_follows_the_product() -> None:
    wide = ((1024, 1024), "float32")
    bias = ((1024,), "float32")
    case = on_cpu(
        ("aten::addmm", 0, 30_000, [bias, wide, wide, 1, 1]),
        ("aten::copy_", 100, 2_000, [wide, wide, False]),
        ("aten::relu", 30_000, 2_000, [wide]),
    )
    assert found(case, pointwise_chains) is None


def test_a_cpu_keeps_the_arithmetic_of_its_tanh() -> None:
    numbers = [((1 << 20,), "float32")]  # 4 MiB: a pass takes 419 us
    case = on_cpu(("aten::tanh", 0, 8_000, numbers), ("aten::relu", 8_000, 1_000, numbers))
    finding = found(case, pointwise_chains)
    assert finding is not None
    pass_us, floor = 4 * (1 << 20) / 1e4, 0.1
    # relu reads what tanh writes. Low and mid: of the two passes of relu's 1,000 us one goes, at the full bandwidth
    # or at relu's own (500 us). High: tanh does not write either, which saves its traffic at the full bandwidth.
    assert finding.recoverable_ns.low == pytest.approx((pass_us + floor) * 1e3, rel=1e-2)
    assert finding.recoverable_ns.mid == pytest.approx((500 + floor / 2) * 1e3, rel=1e-2)
    assert finding.recoverable_ns.high == pytest.approx((500 + pass_us) * 1e3, rel=1e-2)


def test_a_copy_into_another_order_is_not_what_the_next_kernel_reads() -> None:
    turned = ((1 << 14, 1 << 14), "bfloat16", (1, 1 << 14))
    dense = ((1 << 14, 1 << 14), "bfloat16")
    stream = Busy()
    stream.run("aten::copy_", [dense, turned, False], 400)
    stream.run("aten::relu", [turned], 400)
    assert found(stream.case(), pointwise_chains) is None


def test_a_graph_break_is_what_to_look_for_where_it_is_compiled() -> None:
    stream = Busy()
    stream.run("triton_poi_fused_add_0", None, 50, "triton_poi_fused_add_0")
    stream.run("aten::relu", [LARGE], 400)
    stream.run("aten::sigmoid", [LARGE], 400)
    finding = found(stream.case(), pointwise_chains)
    assert finding is not None
    assert "graph_breaks" in finding.advice
