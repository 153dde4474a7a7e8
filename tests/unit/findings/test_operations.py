"""Rules about how many operations there are: recordings worked out by hand, and a live one of the CPU."""

from __future__ import annotations

import pytest
import torch

import diagnose
from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import findings_of
from diagnose.findings.operations import fewer_operations, rebuilt_constants
from tests.builders import TraceBuilder, launched

SM80 = "cutlass_80_tensorop_bf16_s16816gemm_bf16_128x256_32x3_nn_align8"
N = 4096


def case_of(built: TraceBuilder) -> Case:
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def layered(layers: int = 6, *, same: bool = True) -> TraceBuilder:
    """Each layer makes a causal mask of 4 us (arange, a comparison of 6 us) and multiplies for 100 us; never idle."""
    built, at = TraceBuilder(), 100.0
    for layer in range(layers):
        length = 512 if same else 512 + layer
        host = 10 * layer
        launched(built, "aten::arange", [length], at, 4, launch_at=host, kernel="arange_kernel")
        shapes = [((length, 1), "int64"), ((1, length), "int64")]
        launched(built, "aten::gt", shapes, at + 4, 6, launch_at=host + 2, kernel="gt_kernel")
        inputs = [((8, 8, length, length), "bfloat16")] * 2
        launched(built, "aten::where", inputs, at + 10, 100, launch_at=host + 4, kernel="where_kernel")
        at += 110
    return built


def test_a_mask_that_each_of_six_layers_builds_is_built_once():
    (found,) = findings_of(case_of(layered()), [rebuilt_constants])
    # Five times 4 + 6 us; the scores of eight heads are no constant, though selected by the same op every time.
    assert found.recoverable_ns.low == 5 * 10_000
    assert found.recoverable_ns.mid == 5 * 10_000
    assert found.evidence["ops"] == "arange, gt"
    assert (found.evidence["kernels_per_step"], found.evidence["repeated_per_step"]) == (12, 10)


@pytest.mark.parametrize("built", [layered(3), layered(same=False)], ids=["three times", "never the same"])
def test_few_or_different_constants_are_left_alone(built):
    assert rebuilt_constants(case_of(built)) == []


class Block(torch.nn.Module):
    def __init__(self, *, builds: bool) -> None:
        super().__init__()
        self.builds = builds
        self.register_buffer("mask", torch.ones(512, 512).tril(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = torch.ones(512, 512).tril() if self.builds else self.mask
        return x * mask


def measured(*, builds: bool):
    model, x = torch.nn.Sequential(*[Block(builds=builds) for _ in range(8)]), torch.randn(512, 512)
    with torch.no_grad():
        model(x)
        with diagnose.profile() as p:
            model(x)
    return [found for found in p.report.findings if found.rule == "rebuilt-constants"]


def test_a_live_recording_of_a_cpu_shows_it_and_a_buffer_mends_it():
    (found,) = measured(builds=True)
    assert "tril" in found.evidence["ops"]
    assert found.recoverable_ns.mid > 0
    assert measured(builds=False) == []


def test_near_the_roof_only_fewer_operations_are_left():
    built = TraceBuilder("NVIDIA A100-SXM4-80GB")
    inputs = [((N, N), "bfloat16"), ((N, N), "bfloat16")]
    launched(built, "aten::mm", inputs, 100, 600, kernel=SM80)
    (found,) = findings_of(case_of(built), [fewer_operations])
    prices = [found.recoverable_ns.low, found.recoverable_ns.mid, found.recoverable_ns.high]
    assert prices == pytest.approx([0, 600_000 * (1 - 1 / 1.25), 600_000 * (1 - 1 / 1.6)], abs=2)
    assert "to_sparse_semi_structured" in found.advice


@pytest.mark.parametrize(
    ("device", "us"),
    [("NVIDIA A100-SXM4-80GB", 1500), ("NVIDIA H100 80GB HBM3", 220), ("AMD Instinct MI300X", 260)],
    ids=["far from the roof", "float8 comes first", "no sparse units of this kind"],
)
def test_pruning_is_the_last_resort(device, us):
    built = TraceBuilder(device)
    launched(built, "aten::mm", [((N, N), "bfloat16")] * 2, 100, us, kernel=SM80)
    assert fewer_operations(case_of(built)) == []
