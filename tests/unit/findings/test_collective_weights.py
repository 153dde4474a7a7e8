"""Sharded weights gathered for few rows; times in microseconds, the bytes worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.collective_weights import heavy_weights
from diagnose.findings.engine import findings_of
from tests.builders import TraceBuilder

ENGINE = 200  # autograd's thread
MODEL, HIDDEN, LAYERS = 4096, 16384, 4
WEIGHTS = 2 * MODEL * HIDDEN
"""Of a layer: up and down, 134 M numbers, 268 MB; 7 / 8 of them cross a link, 235 MB: 522 us of NVLink."""


class Sharded:
    """Layers whose weights are gathered before each use, on a stream of their own, and gradients scattered."""

    def __init__(self, rows: int, *, ranks: int = 8, beside: bool = False, gathered: int = WEIGHTS) -> None:
        self.built, self.host, self.at = TraceBuilder(), 1.0, 100.0
        self.rows, self.ranks, self.beside, self.gathered = rows, ranks, beside, gathered
        for number in range(LAYERS):
            self.gather(100)
            for inner, outer in ((MODEL, HIDDEN), (HIDDEN, MODEL)):
                self.multiply([((rows, inner), "bfloat16"), ((inner, outer), "bfloat16")], number)
        start = self.host
        for _ in range(LAYERS):
            self.gather(ENGINE)
            self.collective(ENGINE, "reduce_scatter", "ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL")
        name = "autograd::engine::evaluate_function: MmBackward0"
        length = self.host - start + 2
        self.built.op(name, start - 1, length, thread=ENGINE, **{"Fwd thread id": 1, "Sequence number": 1})

    def gather(self, thread: int) -> None:
        self.collective(thread, "_allgather_base", "ncclDevKernel_AllGather_RING_LL")

    def collective(self, thread: int, kind: str, name: str) -> None:
        stream = 20 if self.beside else 7
        event = self.built.collective(
            self.at - (700 if self.beside else 0), 600, elements=self.gathered, dtype="BFloat16", ranks=self.ranks,
            kind=kind, name=name, correlation=self.built.launch(self.host, 1, thread=thread), stream=stream,
        )  # fmt: skip
        is_gather = "gather" in kind
        event["args"]["In msg nelems" if is_gather else "Out msg nelems"] = self.gathered // self.ranks
        self.host += 2
        self.at += 0 if self.beside else 600

    def multiply(self, inputs: list[Any], sequence: int) -> None:
        self.built.op("aten::mm", self.host, 3, inputs=inputs, **{"Sequence number": 1 + sequence, "Fwd thread id": 0})
        correlation = self.built.launch(self.host + 1, 1)
        self.built.kernel("nvjet_tst_128x128", self.at, 400, correlation=correlation)
        self.host, self.at = self.host + 4, self.at + 400

    def case(self) -> Case:
        self.built.step(0, 0, self.host + 5)
        kept: list[Case] = []
        analyse(self.built.reading(), keep=kept.append)
        return kept[0]


def test_few_rows_would_cross_more_cheaply_than_their_weights() -> None:
    (found,) = findings_of(Sharded(256).case(), [heavy_weights])
    # A layer: gathered twice, its gradients scattered once, 7/8 of 268 MB each; 8 x 256 rows of 4096 numbers in two
    # all-reduces, 2 x 7/8 of 16.8 MB each. 58.7 of 704.6 MB: a twelfth.
    assert found.evidence["weights_crossing_bytes_per_step"] == LAYERS * 3 * WEIGHTS * 2 * 7 // 8
    assert found.evidence["activations_crossing_bytes_per_step"] == LAYERS * 2 * 2 * 8 * 256 * MODEL * 2 * 7 // 8
    saved = 3 * LAYERS * 600_000 * (1 - 1 / 12)
    prices = [found.recoverable_ns.low, found.recoverable_ns.mid, found.recoverable_ns.high]
    assert prices == pytest.approx([0, saved / 2, saved], abs=30)
    assert (found.evidence["rows_a_rank"], found.evidence["ranks"]) == (256, 8)
    assert "RowwiseParallel" in found.advice


@pytest.mark.parametrize(
    "sharded",
    [
        Sharded(2048),  # two thirds of the bytes
        Sharded(256, ranks=16, gathered=WEIGHTS),  # all-reduces in line with the kernels over two nodes
        Sharded(256, gathered=3 * WEIGHTS),  # mostly something else is gathered
        Sharded(256, gathered=WEIGHTS // 2),  # not all that multiplies is sharded
    ],
    ids=["many rows", "two nodes", "something else", "partly sharded"],
)
def test_weights_that_are_left_alone(sharded: Sharded) -> None:
    assert heavy_weights(sharded.case()) == []


def test_gathers_beside_longer_kernels_promise_nothing() -> None:
    assert findings_of(Sharded(256, beside=True).case(), [heavy_weights]) == []
