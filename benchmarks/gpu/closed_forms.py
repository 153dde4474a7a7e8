"""FLOPs of a model's products, counted module by module while it runs once: a derivation that knows no op.

A linear layer is 2 x inputs x outputs, a convolution 2 x outputs x (C / groups) x kernel, attention 4 E for each
visible pair and head. Backward: each gradient of a product costs as much again; attention needs five products for its
three gradients where a fused kernel computes the scores anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.models import Attention

BACKWARD_ATTENTION = 2.5
"""Five products instead of two."""


def count(model: nn.Module, run: Callable[[], object], *, is_training: bool = False) -> dict[str, int]:
    """FLOPs by family (``matmul``, ``convolution``, ``attention``) of one call of ``run``.

    Args:
        model: What ``run`` calls; linear layers, convolutions and ``models.Attention`` anywhere in it are counted.
        run: One forward pass, uncompiled.
        is_training: Count the backward pass too.
    """
    found: Counter[str] = Counter()

    def hook(module: nn.Module, given: tuple[Any, ...], made: Tensor) -> None:
        family, flops = _of_module(module, given, made)
        gradients = (2 if given[0].requires_grad else 1) if is_training else 0
        times = 1 + (BACKWARD_ATTENTION if is_training else 0) if family == "attention" else 1 + gradients
        found[family] += round(flops * times)

    counted = (nn.Linear, nn.Conv2d, Attention)
    hooks = [each.register_forward_hook(hook) for each in model.modules() if isinstance(each, counted)]
    try:
        with torch.set_grad_enabled(is_training):
            run()
    finally:
        for each in hooks:
            each.remove()
    return dict(found)


def _of_module(module: nn.Module, given: tuple[Any, ...], made: Tensor) -> tuple[str, int]:
    if isinstance(module, nn.Linear):
        return "matmul", 2 * given[0].numel() * module.out_features
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        return "convolution", 2 * made.numel() * module.in_channels // module.groups * height * width
    q, k, _, is_causal = given
    return "attention", attention_flops(q.shape, k.shape[2], is_causal=is_causal)


def attention_flops(q_shape: tuple[int, ...] | torch.Size, keys: int, *, is_causal: bool) -> int:
    """Both products of attention, forward: 4 E a visible pair and head."""
    batch, heads, queries, width = q_shape
    pairs = queries * (queries + 1) // 2 if is_causal else queries * keys
    return 4 * width * pairs * batch * heads
