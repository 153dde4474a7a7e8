"""Rules about memory."""

from __future__ import annotations

from typing import Final

from diagnose.findings.engine import Rule
from diagnose.findings.memory_attention import unfused_attention
from diagnose.findings.memory_chains import pointwise_chains
from diagnose.findings.memory_layout import channels_last, reordering_copies, weight_casts
from diagnose.findings.memory_lookup import dense_embedding_gradient, indexing_backward
from diagnose.findings.memory_optimizer import unfused_optimizer
from diagnose.findings.memory_recompute import recomputed_activations
from diagnose.findings.memory_saved import saved_activations
from diagnose.findings.memory_weights import cache_bandwidth, weight_bandwidth

RULES: Final[tuple[Rule, ...]] = (
    unfused_attention,
    pointwise_chains,
    channels_last,
    reordering_copies,
    weight_casts,
    weight_bandwidth,
    cache_bandwidth,
    unfused_optimizer,
    recomputed_activations,
    saved_activations,
    dense_embedding_gradient,
    indexing_backward,
)
