"""Rules about training: the optimizer's passes, what is computed again, gradients of tables; times in microseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import Rule, findings_of
from diagnose.findings.memory_chains import pointwise_chains
from diagnose.findings.memory_lookup import dense_embedding_gradient, indexing_backward
from diagnose.findings.memory_optimizer import unfused_optimizer
from diagnose.findings.memory_recompute import recomputed_activations
from diagnose.findings.memory_saved import saved_activations
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


def trained(again: str | None, peak: int | None = None) -> Case:
    """A matmul and a relu forward, and backward; ``again`` runs inside the backward pass."""
    stream = Stream()
    if peak is not None:
        memory = {"Total Allocated": peak, "Device Type": 1}
        stream.built.event("cpu_instant_event", "[memory]", 1, None, **memory)["ph"] = "i"
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


def test_only_what_fits_beside_the_peak_of_memory_is_kept() -> None:
    # The matmul's result is 33.6 MB, both results 67.1 MB; of 0.9 x 84.9 GB 20 MB are free at the peak.
    free, result = 20_000_000, 2 * 4096 * 4096
    peak = int(0.9 * 84942979072) - free
    finding = found(trained("recomputed", peak), recomputed_activations)
    assert finding is not None
    assert finding.evidence["free_device_bytes"] == free
    # Of the matmul's 300 us 20 / 33.6; of all 400 us 20 / 67.1 would be less, so that the matmul's is the most too.
    dear = 300_000 * free / result
    assert 400_000 * free / (2 * result) < dear
    saves = finding.recoverable_ns
    assert [saves.low, saves.mid, saves.high] == pytest.approx([dear] * 3, abs=2)
    ample = found(trained("recomputed", 10**9), recomputed_activations)
    assert ample is not None
    assert ample.recoverable_ns == Interval(300_000, 300_000, 400_000)


def test_a_full_device_has_no_room_for_activations() -> None:
    assert found(trained("recomputed", 84_000_000_000), recomputed_activations) is None


# ---- Saved, and cheaper to compute again


GATE = ((4096, 16384), "bfloat16")
"""134 MB: beyond any cache."""


def gated(activation: str = "aten::silu", *, between: bool = True, again: int = 1, us: int = 200) -> Case:
    """act(gate) * up forward; its backward, with the matmul of up's gradient between or not."""
    stream = Stream()
    plain = {"Fwd thread id": 0}
    stream.run(activation, [GATE], 200, kernel="act", **{"Sequence number": 12}, **plain)
    stream.run("aten::mm", [X, W], 300, **{"Sequence number": 14}, **plain)
    stream.run("aten::mul", [GATE, GATE], 200, kernel="mul", **{"Sequence number": 15}, **plain)
    engine = "autograd::engine::evaluate_function: Node0"
    product, act = ([(engine, {"Sequence number": number, "Fwd thread id": 1})] for number in (15, 12))
    for _ in range(2):
        stream.under(product, "aten::mul", [GATE, GATE], us)
    if between:
        stream.under([(engine, {"Sequence number": 14, "Fwd thread id": 1})], "aten::mm", [X, W], 300)
    for _ in range(again):
        stream.under(act, f"{activation}_backward", [GATE, GATE], us)
    return stream.case()


@pytest.mark.parametrize("between", [True, False])
def test_a_gate_is_cheaper_to_compute_again_than_to_read_back(between: bool) -> None:
    case = gated(between=between)
    finding = found(case, saved_activations)
    assert finding is not None
    dram = case.placed.hardware.ceilings[0].rate("dram")
    assert dram is not None
    tensor_ns = 2 * 4096 * 16384 / dram * 1e9
    # Three kernels of three tensors each, 600 us, become one of five: four are spared at the full rate, or four ninths.
    assert finding.recoverable_ns.low == pytest.approx(4 * tensor_ns, abs=2)
    assert finding.recoverable_ns.mid == pytest.approx(600_000 * 4 / 9, abs=2)
    assert finding.recoverable_ns.high == pytest.approx(600_000 - 5 * tensor_ns, abs=2)
    assert finding.evidence["saved_bytes_per_step_not_needed"] == 2 * 4096 * 16384
    # Together with the chain of the same kernels no more is promised than one kernel of five tensors leaves.
    both = findings_of(case, [saved_activations, pointwise_chains])
    backward = sum(row.recoverable_ns.high for row in both if row.rule == "saved-activations")
    assert backward <= 600_000 - 5 * tensor_ns + 2
    assert sum(row.recoverable_ns.mid for row in both) <= 1_000_000 * (1 - 8 / 14) + 2


@pytest.mark.parametrize(
    "case",
    [gated("aten::sigmoid"), gated(again=0), gated(us=2)],
    ids=["keeps its result", "no gradient of the gate", "in no time"],
)
def test_what_is_no_saved_gate_is_left_alone(case: Case) -> None:
    assert saved_activations(case) == []


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


def test_a_gated_layer_recorded_on_the_cpu_is_found(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    gate, up, down = (torch.nn.Linear(*sizes) for sizes in ((64, 2048), (64, 2048), (2048, 64)))
    x = torch.randn(2048, 64)

    def step(activation: Any) -> None:
        down(activation(gate(x)) * up(x)).sum().backward()

    case = recorded(lambda: step(torch.nn.functional.silu), tmp_path)
    for proposal in saved_activations(case):  # none where another program held this one up
        assert proposal.evidence["gates_per_step"] == 1
        assert proposal.evidence["saved_bytes_per_step_not_needed"] == 2048 * 2048 * 4
    assert saved_activations(recorded(lambda: step(torch.sigmoid), tmp_path)) == []


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
