"""FLOPs counted module by module, against torch's counter and against numbers written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import closed_forms, models
from benchmarks.gpu.workloads import MODES, WORKLOADS


def torch_flops(run) -> int:
    """With attention as two products, which torch's counter knows on a CPU too."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


BUILT = {
    "decoder, not causal": lambda: (
        models.DiffusionTransformer(16, 2, 4), (torch.rand(2, 8, 16), torch.rand(2, 16))
    ),
    "vit": lambda: (models.VisionTransformer(16, 1, 2, 8), (torch.rand(2, 3, 16, 16),)),
    "resnet": lambda: (models.resnet(4, (1, 1)), (torch.rand(2, 3, 32, 32),)),
    "unet": lambda: (models.UNet(16, 8), (torch.rand(1, 4, 8, 8), torch.rand(1, 8))),
}  # fmt: skip


@pytest.mark.parametrize("name", BUILT)
def test_forward_is_what_torch_counts(name: str) -> None:
    model, given = BUILT[name]()
    model.eval()
    with torch.no_grad():
        assert sum(closed_forms.count(model, lambda: model(*given)).values()) == torch_flops(lambda: model(*given))


def test_training_is_what_torch_counts_but_for_the_scores_that_a_fused_kernel_computes_anew() -> None:
    model, given = BUILT["unet"]()
    counted = closed_forms.count(model, lambda: model(*given), is_training=True)
    torch_counted = torch_flops(lambda: model(*given).sum().backward())
    forward = closed_forms.count(model, lambda: model(*given))["attention"]
    # Two products forward and four backward where the scores are kept; five backward where they are not.
    assert sum(counted.values()) - torch_counted == forward // 2


def test_causal_attention_counts_visible_pairs() -> None:
    assert closed_forms.attention_flops((2, 3, 4, 8), 4, is_causal=True) == 4 * 8 * (1 + 2 + 3 + 4) * 2 * 3
    assert closed_forms.attention_flops((1, 1, 1, 8), 100, is_causal=False) == 4 * 8 * 100


def test_a_layer_whose_input_needs_no_gradient_has_one_product_less() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    x = torch.rand(3, 4)
    first, second = 2 * 3 * 4 * 8, 2 * 3 * 8 * 2
    assert closed_forms.count(model, lambda: model(x), is_training=True) == {"matmul": 2 * first + 3 * second}


def test_every_architecture_is_there_in_every_mode() -> None:
    for name in ("prefill", "decode_b1", "decode_b8", "decode_b64", "vit", "resnet", "dit", "unet", "gqa_decode"):
        for mode in MODES:
            assert WORKLOADS[f"{name}_{mode}"].needs_gpu == (mode == "graph")
    for optimizer in ("plain", "foreach", "fused"):
        for precision in ("fp32", "tf32", "bf16"):
            assert f"train_{optimizer}_{precision}" in WORKLOADS
    assert {"moe_eager", "fp8_matmul", "kernel_resident", "kernel_stream_triad"} <= set(WORKLOADS)


SLOW = {"kernel_polynomial_1", "kernel_polynomial_16", "kernel_polynomial_512"}


@pytest.mark.parametrize("name", [name for name in WORKLOADS if "compiled" not in name and name not in SLOW])
def test_a_workload_runs_twice_or_says_why_not(name: str) -> None:
    workload = WORKLOADS[name]
    if workload.unavailable("cpu"):
        assert workload.unavailable("cpu") == "needs a GPU"
        assert workload.unavailable("cuda:0") is None
        return
    step = workload.make("cpu", True)
    step.run()
    step.run()
    assert step.flops is not None
    assert all(count > 0 for count in step.flops.values())
