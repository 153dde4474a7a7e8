"""Every rule, by the limit that it eases. The order does not matter: findings are sorted by what they give."""

from __future__ import annotations

from typing import Final

from diagnose.findings import communication, compute, memory, overhead
from diagnose.findings.engine import Rule

RULES: Final[tuple[Rule, ...]] = (*memory.RULES, *compute.RULES, *communication.RULES, *overhead.RULES)
