"""Rules about training: the optimizer's passes, what is computed again, gradients of tables; times in microseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import Rule, findings_of
from diagnose.findings.memory_lookup import dense_embedding_gradient, indexing_backward
from diagnose.findings.memory_optimizer import unfused_optimizer
from diagnose.findings.memory_recompute import recomputed_activations
from diagnose.schema import Finding, Interval
from diagnose.trace.chrome import read_trace
from tests.builders import TraceBuilder

FOREACH = "void at::native::multi_tensor_apply_kernel<>()"
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
ADAMW = ("mul_", "lerp_", "mul_", "addcmul_", "sqrt", "div_", "add_", "addcdiv_")
SGD = ("mul_", "add_", "add_")


class Stream:
    """Kernels back to back, launched long before they run."""

    def __init__(self) -> None:
        self.built = TraceBuilder()
        self.host, self.at = 1, 200
        self.run("aten::mm", None, 200)

    def run(self, op: str, inputs: list[Any] | None, *kernels: int, kernel: str = GEMM, **others: Any) -> None:
        self.built.op(op, self.host, 2 * len(kernels) + 1, inputs=inputs, **others)
        for number, us in enumerate(kernels):
            launch = self.built.launch(self.host + 1 + 2 * number, 1)
            self.built.kernel(kernel, self.at, us, correlation=launch)
            self.at += us
        self.host += 2 * len(kernels) + 2

    def under(self, parents: list[tuple[str, dict[str, int]]], op: str, inputs: list[Any] | None, us: int) -> None:
        """One kernel of an op inside others, the outermost first."""
        for depth, (name, others) in enumerate(parents):
            self.built.op(name, f"{self.host + 0.1 * depth:.1f}", 9 - depth, **others)
        self.host += 1
        self.run(op, inputs, us)
        self.host += 7

    def case(self) -> Case:
        self.built.step(0, 0, self.host)
        return kept(self.built)


def kept(built: TraceBuilder) -> Case:
    cases: list[Case] = []
    analyse(built.reading(), keep=cases.append)
    return cases[0]


def found(case: Case, rule: Rule) -> Finding | None:
    rows = findings_of(case, [rule])
    assert len(rows) <= 1
    return rows[0] if rows else None


# ---- The optimizer


def update(name: str, ops: tuple[str, ...], prefix: str = "aten::_foreach_") -> Case:
    stream = Stream()
    stream.built.annotation(f"Optimizer.step#{name}.step", stream.host, 4 * len(ops))
    for op in ops:
        stream.run(prefix + op, None, 100, kernel=FOREACH)
    return stream.case()


def test_adam_passes_over_everything_once_when_fused() -> None:
    finding = found(update("AdamW", ADAMW), unfused_optimizer)
    assert finding is not None
    # 2 + 3 + 2 + 4 + 2 + 2 + 2 + 4 accesses a parameter; fused: parameter and two states both ways, gradient read.
    assert (finding.evidence["accesses_per_parameter"], finding.evidence["accesses_per_parameter_fused"]) == (21, 7)
    assert finding.recoverable_ns.mid == pytest.approx(800_000 * (1 - 7 / 21), abs=10)
    assert finding.recoverable_ns.low == pytest.approx(800_000 * (1 - 7 / 21 / 0.75), abs=10)
    assert finding.advice == "optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)"


def test_sgd_with_momentum_saves_three_of_eight() -> None:
    finding = found(update("SGD", SGD), unfused_optimizer)
    assert finding is not None
    assert finding.recoverable_ns.mid == pytest.approx(300_000 * 3 / 8, abs=10)


@pytest.mark.parametrize(
    ("name", "ops", "prefix"),
    [
        ("AdamW", ("adamw_",), "aten::_fused_"),
        ("Lamb", ADAMW, "aten::_foreach_"),
        ("SGD", ("add_",), "aten::_foreach_"),
    ],
    ids=["fused", "cannot be fused", "without momentum"],
)
def test_other_updates_say_nothing(name: str, ops: tuple[str, ...], prefix: str) -> None:
    assert found(update(name, ops, prefix), unfused_optimizer) is None


# ---- Computed again


X, W = ((4096, 4096), "bfloat16"), ((4096, 4096), "bfloat16")
ENGINE = "autograd::engine::evaluate_function: MmBackward0"


def trained(again: str | None) -> Case:
    """A matmul and a relu forward, and backward; ``again`` runs inside the backward pass."""
    stream = Stream()
    stream.run("aten::mm", [X, W], 300, **{"Sequence number": 5, "Fwd thread id": 0})
    stream.run("aten::relu", [X], 100, kernel="relu_kernel", **{"Sequence number": 6, "Fwd thread id": 0})
    engine = [(ENGINE, {"Sequence number": 5, "Fwd thread id": 1})]
    if again == "recomputed":
        recorded = {"Sequence number": 6, "Fwd thread id": 1}
        stream.run("aten::threshold_backward", [X, X, 0], 100, kernel="relu_back", **recorded)
        for op, inputs, us in (("aten::mm", [X, W], 300), ("aten::relu", [X], 100)):
            stream.under([*engine, (op, {"Sequence number": 9, "Fwd thread id": 0})], op, inputs, us)
    stream.under(engine, "aten::mm", [X, W], 300)
    return stream.case()


def test_what_the_backward_pass_computes_again_has_a_price() -> None:
    finding = found(trained("recomputed"), recomputed_activations)
    assert finding is not None
    # The matmul 300 us, the relu 100 us; keeping the matmul's result spares the former, half of the layers half of it.
    assert finding.recoverable_ns == Interval(150_000, 300_000, 400_000)
    assert finding.evidence["recomputed_kernels_per_step"] == 2
    # Both results, 2 bytes a number.
    assert finding.evidence["results_bytes_per_step"] == 2 * 2 * 4096 * 4096


def test_a_plain_backward_pass_computes_nothing_again() -> None:
    assert found(trained(None), recomputed_activations) is None


# ---- Gradients of what was looked up


def test_the_gradient_of_an_index_is_priced_as_one_kernel() -> None:
    stream = Stream()
    stream.run("aten::index", [((65536, 256), "float32")], 50, **{"Sequence number": 5, "Fwd thread id": 0})
    engine = [("autograd::engine::evaluate_function: IndexBackward0", {"Sequence number": 5, "Fwd thread id": 1})]
    table, rows, values = ((65536, 256), "float32"), ((1 << 20,), "int64"), ((1 << 20, 256), "float32")
    stream.under(engine, "aten::_index_put_impl_", [table, [rows], values, True, True], 8000)
    case = stream.case()
    finding = found(case, indexing_backward)
    assert finding is not None
    assert "index_select" in finding.advice
    assert finding.evidence["time_ns_per_step"] == 8_000_000
    # 2^20 rows of values are read; at most all 65,536 rows of the table are read and written: 4 bytes a number.
    moved = 4 * 256 * ((1 << 20) + 2 * 65536)
    assert finding.evidence["bytes_per_step"] == moved
    dram = case.placed.hardware.ceilings[0].rate("dram")
    assert dram is not None
    assert finding.recoverable_ns.mid == pytest.approx(8_000_000 - moved / dram / 0.25 * 1e9, rel=1e-4)
    assert finding.recoverable_ns.low < finding.recoverable_ns.mid < finding.recoverable_ns.high < 8_000_000


def test_an_index_put_of_the_forward_pass_is_not_a_gradient() -> None:
    stream = Stream()
    table, rows, values = ((65536, 256), "float32"), ((1 << 20,), "int64"), ((1 << 20, 256), "float32")
    stream.run("aten::_index_put_impl_", [table, [rows], values, True, True], 8000)
    assert found(stream.case(), indexing_backward) is None


# ---- Live, on the CPU


def recorded(step: Any, folder: Path) -> Case:
    import diagnose

    step()
    with diagnose.profile() as profiled:
        step()
    profiled.save(folder / "step.json.gz")
    cases: list[Case] = []
    analyse(read_trace(folder / "step.json.gz"), keep=cases.append)
    return cases[0]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_are_found(reentrant: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    checkpoint = torch.utils.checkpoint.checkpoint
    layer = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 256))
    x = torch.randn(256, 256)

    def step(again: bool) -> None:
        h = x.clone().requires_grad_()
        for _ in range(2):
            h = checkpoint(layer, h, use_reentrant=reentrant) if again else layer(h)
        h.square().sum().backward()

    (proposal,) = recomputed_activations(recorded(lambda: step(True), tmp_path))
    assert proposal.evidence["recomputed_kernels_per_step"] >= 6  # type: ignore[operator]
    assert recomputed_activations(recorded(lambda: step(False), tmp_path)) == []


@pytest.mark.parametrize("kind", ["Embedding", "EmbeddingBag"])
def test_a_large_table_with_few_rows_looked_up_is_found(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    rows = torch.randint(0, 50_000, (64,))

    def step(table: Any) -> None:
        table.weight.grad = None
        table(rows.reshape(8, 8)).square().sum().backward()

    layer = getattr(torch.nn, kind)
    options = {"mode": "sum"} if kind == "EmbeddingBag" else {}
    dense, sparse = (layer(50_000, 64, sparse=is_sparse, **options) for is_sparse in (False, True))
    (proposal,) = dense_embedding_gradient(recorded(lambda: step(dense), tmp_path))
    assert (proposal.evidence["table_rows"], proposal.evidence["looked_up_rows"]) == (50_000, 64)
    assert proposal.evidence["table_bytes"] == 50_000 * 64 * 4
    assert dense_embedding_gradient(recorded(lambda: step(sparse), tmp_path)) == []


def test_a_fused_update_on_the_cpu_is_not_found_again(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    def update_with(**options: Any) -> Any:
        model = torch.nn.Linear(512, 512)
        optimizer = torch.optim.AdamW(model.parameters(), **options)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        return optimizer.step

    (proposal,) = unfused_optimizer(recorded(update_with(), tmp_path))
    assert proposal.evidence["accesses_per_parameter"] == 21
    assert unfused_optimizer(recorded(update_with(fused=True), tmp_path)) == []
