"""Rules about compute, in modules of their own: the type of the arithmetic, its sizes, and how much of it there is."""

from __future__ import annotations

from typing import Final

from diagnose.findings import attention_kernels, operations, precision, precision_names, shared_inputs, sizes
from diagnose.findings.engine import Rule

RULES: Final[tuple[Rule, ...]] = (
    *precision.RULES,
    *precision_names.RULES,
    *sizes.RULES,
    *operations.RULES,
    *shared_inputs.RULES,
    *attention_kernels.RULES,
)
