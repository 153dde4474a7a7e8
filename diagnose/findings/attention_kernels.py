"""A rule about fused attention for which there is a faster kernel on the same device."""

from __future__ import annotations

import re
from typing import Final

from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.findings.retiming import Saved, call_ns, is_sure, is_under_used, ns_per_step, rate_of, retimed
from diagnose.work import Op

FASTER: Final = {"forward": (1.5, 2.0), "backward": (1.5, 1.75)}
"""FlashAttention-3 against FlashAttention-2 on an H100, least and most: Shah et al. 2024, arXiv 2407.08608, whose
FlashAttention-2 reaches 35 % of the peak and whose FlashAttention-3 up to 75 %."""

WIDEST: Final = 256
"""Head width that cuDNN (its support matrix for Hopper) and FlashAttention-3 take; a multiple of 8."""

SHORTEST: Final = 512
"""Queries and keys from which on that paper measures. At 256 cuDNN was seen no faster than FlashAttention-2 on an H100
(microsoft/onnxruntime pull request 21629: 228 against 230 TFLOP/s)."""

_FLASH_2: Final = re.compile(r"\bflash_(?P<direction>fwd|bwd)_\w*kernel<.*\bFlash_(?:fwd|bwd)_kernel_traits<")
"""FlashAttention-2's own and torch's copy of it; the kernels of FlashAttention-3 have classes of other names."""

HOPPER: Final = 9
"""Major compute capability. AMD's gfx9 has the same number, and no kernel of these names."""

_OPS: Final = {"aten::_flash_attention_forward": (0, 3, 7), "aten::_flash_attention_backward": (1, 6, 10)}
"""Which argument the queries are (the keys follow), the ends of packed sequences, and dropout's probability."""

_HALVES: Final = ("bfloat16", "float16")


def attention_kernel(case: Case) -> list[Proposal]:
    """FlashAttention-2's kernel on a Hopper device, bound by arithmetic that newer kernels do faster there.

    Only 16-bit attention without dropout, of at least ``SHORTEST`` queries and keys and a width that the newer kernels
    take, which runs below 60 % of its roof. Low: nothing. Mid and high: the least and the most that is published
    (``FASTER``), and never shorter than the roof.
    """
    found = {group: saved for group in case.groups_where(lambda group: _could_be_faster(case, group))
             if (saved := _saved(case, group)).mid > 0}  # fmt: skip
    if not found:
        return []
    groups = sorted(found, key=lambda group: -case.time_ns([group]))
    first, change = groups[0], retimed(case, found)
    queries, keys, width = _sizes(case.op(first)) or (0, 0, 0)
    return [
        Proposal(
            rule="attention-kernel",
            bound="compute",
            title="attention runs FlashAttention-2's kernel on a device with a faster one",
            evidence={
                "kernels_per_step": case.per_step(case.calls(groups)),
                "attention_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "efficiency": round((case.placed.placements[first].roof_ns or 0.0) / call_ns(case, first), 3),
                "queries": queries,
                "keys": keys,
                "head_width": width,
                "matmul_flops_per_s": rate_of(case, first, case.placed.placements[first].math or "") or 0.0,
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=change.low,
            mid=change.mid,
            high=change.high,
            gap_ns=change.gap_ns,
            advice="with torch.nn.attention.sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION],\n"
            "                                    set_priority=True):  # cuDNN first; it tells if it cannot\n"
            "    model(x)\n"
            "# or FlashAttention-3: from flash_attn_interface import flash_attn_func  (flash-attention, hopper/)",
            assumes="what was published for long sequences on an H100 (1.5 to 2 times FlashAttention-2 forward, 1.5 to "
            "1.75 backward) holds here; results differ by rounding; cuDNN builds a plan for each new shape",
            multiplies=True,
        )
    ]


def _could_be_faster(case: Case, group: int) -> bool:
    facts = case.placed.hardware.multiprocessors.get(int(case.placed.groups.device[group]))
    capability = None if facts is None else facts.compute_capability
    is_hopper = capability is not None and capability[0] == HOPPER
    if not is_hopper or _FLASH_2.search(case.placed.kernel(group)) is None or not is_sure(case, group):
        return False
    sizes = _sizes(case.op(group))
    if sizes is None or case.placed.placements[group].bound != "compute" or not is_under_used(case, group):
        return False
    queries, keys, width = sizes
    return min(queries, keys) >= SHORTEST and width <= WIDEST and width % 8 == 0


def _sizes(op: Op | None) -> tuple[int, int, int] | None:
    """Queries, keys and head width of a call in 16 bits without dropout on [batch, length, heads, width]; else None."""
    at = None if op is None else _OPS.get(op.name)
    if op is None or at is None or op.inputs is None:
        return None
    first, packed, dropout = at
    query, key = op.tensor_or_none(first), op.tensor_or_none(first + 1)
    if query is None or key is None or len(query.shape) != 4 or query.dtype not in _HALVES:
        return None
    has_other = op.tensor_or_none(packed) is not None or op.scalar(dropout) != 0.0
    return None if has_other else (query.shape[1], key.shape[1], query.shape[3])


def _saved(case: Case, group: int) -> Saved:
    duration, roof = call_ns(case, group), case.placed.placements[group].roof_ns or 0.0
    is_backward = case.op_name(group).endswith("backward")
    least, most = FASTER["backward" if is_backward else "forward"]
    return Saved(0.0, duration - max(roof, duration / least), duration - max(roof, duration / most))


RULES: Final[tuple[Rule, ...]] = (attention_kernel,)
