"""Where torch's ``scaled_dot_product_attention`` would itself multiply, normalise and multiply on a CPU.

torch 2.13 asks this in ATen/native/transformers/sdp_utils_cpp.cpp; each condition was tried there. It falls back with
dropout, with a mask whose gradient is wanted, with values of another width than the keys, with three dimensions instead
of four, and where a row's numbers do not lie side by side. The first three a recording shows; the others are assumed.
"""

from __future__ import annotations

import re
from math import prod
from typing import Final

import numpy as np

from diagnose.findings.case import Case
from diagnose.findings.ordering import Ordered, tensors_of
from diagnose.trace.tables import Ints
from diagnose.wall.phases import BACKWARD

ASSUMED: Final = (
    "; on a CPU: q, k and v have four dimensions (batch, heads, length, width) and whole rows, the mask needs no "
    "gradient, and there is no dropout, else torch computes it as it is now"
)

_RANDOM: Final = re.compile(r"dropout|bernoulli|aten::(?:rand|uniform_)")
"""Between the softmax and the second product: dropout, torch's or written out."""


def falls_back(case: Case, ordered: Ordered, scores: tuple[int, int, int], softmax: Ints, last: Ints) -> bool:
    """Whether torch's fused attention would not be chosen for one of some attentions with the same scores on this CPU.

    False on devices, which are not asked.

    Args:
        case: The recording.
        ordered: Its kernels.
        scores: Batch x heads, queries, keys.
        softmax: Where each attention's softmax stands in launch order, forward pass.
        last: Where its second product stands.
    """
    if not case.is_cpu:
        return False
    is_random = case.items_under(lambda name: _RANDOM.search(name) is not None)[ordered.item]
    before = np.concatenate([[0], np.cumsum(is_random)])
    return bool((before[last] > before[softmax]).any()) or _sums_scores_back(case, prod(scores))


def _sums_scores_back(case: Case, count: int) -> bool:
    """Whether the backward pass sums as many numbers as there are scores: the gradient of a mask, a learned bias."""
    groups = case.groups_where(
        lambda group: (
            case.op_name(group) == "aten::sum"
            and any(tensor.numel == count for tensor in tensors_of(case.op(group))[:1])
        )
    )
    return bool((case.phases.phase[np.isin(case.group_of, groups)] == BACKWARD).any())
