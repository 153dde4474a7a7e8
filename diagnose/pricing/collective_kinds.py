"""One name for each kind of collective, whoever spells it: NCCL's metadata, c10d's ops, gloo's annotations."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_KINDS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("reduce_scatter", r"reduce_?scatter"),
        ("all_reduce", r"all_?reduce"),
        ("all_gather", r"all_?gather"),
        ("all_to_all", r"all_?to_?all"),
        ("broadcast", r"broadcast"),
        ("barrier", r"barrier"),
        ("reduce", r"(?:^|_)reduce(?:_|$)"),
        ("gather", r"(?:^|_)gather(?:_|$)"),
        ("scatter", r"(?:^|_)scatter(?:_|$)"),
        ("send", r"(?:^|_)send(?:_|$)"),
        ("recv", r"(?:^|_)recv(?:_|$)"),
    )
)
POINT_TO_POINT: Final = frozenset({"send", "recv", "send_recv"})
"""Two ranks exchange; nobody else waits for them."""

SYNCHRONISING: Final = frozenset({"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier"})
"""Collectives that no rank can leave before the last one came: they end nearly together on all ranks."""


@lru_cache(maxsize=1024)
def kind_of(name: str) -> str | None:
    """``all_reduce`` for ``allreduce``, ``c10d::allreduce_``, ``gloo:all_reduce``; None for what is no collective."""
    plain = name.rpartition(":")[2]
    return next((kind for kind, pattern in _KINDS if pattern.search(plain)), None)
