"""Products of the same input: streams that are always busy, so that a kernel's time is the step's; microseconds."""

from __future__ import annotations

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import Rule, findings_of
from diagnose.findings.memory_chains import pointwise_chains
from diagnose.findings.shared_inputs import shared_inputs
from diagnose.schema import Finding
from tests.builders import TraceBuilder

GEMM = "cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_32x6_tn_align8"
ROWS, WIDTH = 788, 768


class Busy:
    """Kernels back to back on a stream, launched long before they run."""

    def __init__(self) -> None:
        self.built = TraceBuilder()
        self.host, self.at = 1, 200

    def run(self, op: str, columns: int, us: int, *, rows: int = ROWS, inner: int = WIDTH) -> None:
        size = [((rows, inner), "bfloat16"), ((inner, columns), "bfloat16")]
        inputs = [((columns,), "bfloat16"), *size] if op == "aten::addmm" else size[:1]
        self.built.op(op, self.host, 3, inputs=inputs)
        self.built.kernel(GEMM, self.at, us, correlation=self.built.launch(self.host + 1, 1))
        self.host, self.at = self.host + 4, self.at + us

    def case(self) -> Case:
        self.built.step(0, 0, self.host)
        kept: list[Case] = []
        analyse(self.built.reading(), keep=kept.append)
        return kept[0]


def found(case: Case, rule: Rule) -> Finding | None:
    rows = findings_of(case, [rule])
    assert len(rows) <= 1
    return rows[0] if rows else None


def layer(stream: Busy, *, after_us: int = 14, heads: int = 3) -> None:
    for _ in range(heads):
        stream.run("aten::addmm", WIDTH, 8)
    stream.run("aten::gelu", WIDTH, 5)
    stream.run("aten::addmm", 4 * WIDTH, after_us)
    stream.run("aten::gelu", 4 * WIDTH, 5)


def test_query_key_and_value_take_what_a_larger_product_takes() -> None:
    stream = Busy()
    for _ in range(4):
        layer(stream)
    finding = found(stream.case(), shared_inputs)
    assert finding is not None
    # Three of 8 us become one; 14 us are taken by a product of a third more operations. At best as long as one of them.
    low, mid, high = finding.recoverable_ns.low, finding.recoverable_ns.mid, finding.recoverable_ns.high
    assert (low, mid, high) == (0, 4 * (24 - 14) * 1000, 4 * (24 - 8) * 1000)
    assert finding.evidence["products_per_step"] == 12
    assert finding.evidence["products_per_step_merged"] == 4
    assert finding.evidence["in_a_row"] == 3
    assert (finding.evidence["as_long_as"], finding.evidence["as_long_as_ns"]) == ("788 x 3072 x 768", 14_000)


def test_products_that_are_as_fast_apart_are_left_alone() -> None:
    stream = Busy()
    layer(stream, after_us=25)
    assert found(stream.case(), shared_inputs) is None


def test_without_a_product_to_compare_with_nothing_is_said() -> None:
    stream = Busy()
    for _ in range(3):
        stream.run("aten::addmm", WIDTH, 8)
    assert found(stream.case(), shared_inputs) is None


@pytest.mark.parametrize("heads", [1, 9])
def test_one_product_and_a_loop_over_layers_are_left_alone(heads: int) -> None:
    stream = Busy()
    layer(stream, heads=heads)
    assert found(stream.case(), shared_inputs) is None


def test_what_lies_between_products_may_change_their_input() -> None:
    stream = Busy()
    for _ in range(3):
        stream.run("aten::addmm", WIDTH, 8)
        stream.run("aten::gelu", WIDTH, 5)
    stream.run("aten::addmm", 4 * WIDTH, 14)
    assert found(stream.case(), shared_inputs) is None


def test_two_findings_add_up_where_one_makes_a_kernel_longer() -> None:
    """The merged product takes 14 us in place of 8: another finding, which leaves it alone, must not take that back."""
    stream = Busy()
    layer(stream)
    for _ in range(3):
        stream.run("aten::relu", 1 << 14, 90, rows=1 << 12, inner=1 << 14)
    case = stream.case()
    alone = [found(case, rule) for rule in (shared_inputs, pointwise_chains)]
    together = findings_of(case, [shared_inputs, pointwise_chains])
    promised = sum(finding.recoverable_ns.mid for finding in alone if finding is not None)
    assert len(together) == 2
    assert sum(finding.recoverable_ns.mid for finding in together) == pytest.approx(promised, abs=2)
