"""Where FlopCounterMode is wrong, the hand calculation, and that we agree with the hand.

Where it is right, the tests of each family compare with it. Should torch be put right, the test of its error fails:
then that comparison belongs there too.
"""

import pytest
import torch
from derivation import op_of
from dispatched import work_of
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from diagnose import costs

costs.load()

A = torch.ops.aten
BATCH, HEADS, LENGTH, WIDTH = 2, 4, 32, 8


def products(work):
    """FLOPs of the matmul-like kind."""
    return sum(count for resource, count in work.flops if resource.startswith("tensor"))


def counted(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_flash_attention_has_its_heads_third():
    q = torch.rand(BATCH, LENGTH, HEADS, WIDTH)
    # Two products for every pair of positions of a head, not for every pair of heads of a position.
    by_hand = 4 * BATCH * HEADS * LENGTH * LENGTH * WIDTH
    ours = products(work_of(op_of("aten::_flash_attention_forward", q, q, q, None, None, LENGTH, LENGTH, 0.0, False)))
    theirs = flop_registry[A._flash_attention_forward](q, q, q, None, None, LENGTH, LENGTH, out_val=(q, q))
    assert ours == by_hand
    assert theirs == by_hand * HEADS // LENGTH


def test_a_causal_mask_hides_almost_half_of_the_pairs():
    q = torch.rand(BATCH, HEADS, LENGTH, WIDTH)
    visible = sum(query + 1 for query in range(LENGTH))
    theirs = flop_registry[A._scaled_dot_product_flash_attention](q, q, q, 0.0, True, out_val=(q, q))
    assert theirs == 4 * BATCH * HEADS * LENGTH * LENGTH * WIDTH
    for name in ("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu"):
        assert products(work_of(op_of(f"aten::{name}", q, q, q, 0.0, True))) == 4 * BATCH * HEADS * visible * WIDTH
    # The op that a CPU runs is not known to torch's counter.
    assert counted(lambda: A._scaled_dot_product_flash_attention_for_cpu(q, q, q, 0.0, True)) == 0


@pytest.mark.parametrize(("groups", "factor"), [(1, 1), (8, 4.5)])
def test_each_output_channel_of_a_grouped_convolution_sees_its_own_group(groups, factor):
    channels, size = 8, 10
    x, weight = torch.rand(2, channels, size, size), torch.rand(channels, channels // groups, 3, 3)
    result = torch.nn.functional.conv2d(x, weight, padding=1, groups=groups)
    arguments = (result, x, weight, [0], [1, 1], [1, 1], [1, 1], False, [0, 0], groups, [True, True, False])
    # Each gradient has the forward's multiply-adds: every output place, channel and weight of that channel once.
    by_hand = 2 * 2 * (2 * channels * size * size * (channels // groups) * 9)
    assert products(work_of(op_of("aten::convolution_backward", *arguments))) == by_hand
    theirs = counted(lambda: A.convolution_backward(*arguments))
    assert theirs == by_hand * factor


def test_what_is_no_product_is_not_counted_at_all():
    x = torch.rand(4, 6)
    steps = {
        "aten::_softmax": (lambda: torch.softmax(x, 1), (x, 1, False)),
        "aten::gelu": (lambda: torch.nn.functional.gelu(x), (x, "none")),
        "aten::native_layer_norm": (lambda: A.native_layer_norm(x, [6], None, None, 1e-5), (x, [6], None, None, 1e-5)),
        "aten::sum": (lambda: x.sum(1), (x, [1], False, None)),
        "aten::_fft_r2c": (lambda: torch.fft.rfft(x), (x, [1], 0, True)),
    }
    for name, (function, arguments) in steps.items():
        assert counted(function) == 0
        assert work_of(op_of(name, *arguments)).total_flops > 0
