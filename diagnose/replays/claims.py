"""What findings may promise together: no nanosecond twice, and no more than there is.

A finding claims cells. A cell is one row of the kernels table, or None for the device's idle time, and one part of the
waterfall: ``Cell(12, "memory_above_roof")`` is the time that the thirteenth row spends above its roof, ``Cell(None,
"idle_launch")`` that for which the device waited for launches. What a cell holds is what the waterfall says that it
owns; that is given once, for all findings.

    holdings = {Cell(None, "idle_launch"): 900_000, Cell(0, "compute_above_roof"): 300_000}
    claims = [Claim(wanted_ns=700_000, cells=(Cell(None, "idle_launch"),)), ...]
    granted = grant(claims, holdings, replayer.limit_ns)

``wanted_ns`` is the finding's own price, ``Replayer.saving`` of its change. Where findings want the same time, the one
that wants most gets it, and the others what is left: carrying out both saves no more than that. A finding that is
granted less than it wanted should say so, and scale its low and high by ``Granted.share``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct


class Cell(Struct, frozen=True, order=True):
    """A piece of wall time that can be won back once.

    Attributes:
        row: Index of the kernel row (group) that owns it, None for idle time.
        part: Part of the waterfall.
    """

    row: int | None
    part: str


class Claim(Struct, frozen=True):
    """What one finding would save, and out of which time.

    Attributes:
        wanted_ns: By replay; negative counts as nothing.
        cells: Where the time comes from, the surest first; a cell named twice counts once.
    """

    wanted_ns: int
    cells: tuple[Cell, ...]


class Granted(Struct, frozen=True):
    """What a claim was given.

    Attributes:
        ns: In all.
        cells: ns out of each cell that gave any.
        share: Of what was wanted; 1 for a claim that wanted nothing.
    """

    ns: int
    cells: Mapping[Cell, int]
    share: float


def grant(claims: Sequence[Claim], holdings: Mapping[Cell, int], limit_ns: int) -> list[Granted]:
    """Grants claims, largest first, each against what is left of its cells and of the whole.

    Args:
        claims: In any order; of equal ones the earlier comes first.
        holdings: ns that each cell owns; a cell that is not listed owns nothing.
        limit_ns: What could be saved if everything went (``Replayer.limit_ns``); negative counts as nothing.

    Returns:
        One a claim, in the order of ``claims``. Their sum is at most ``limit_ns``, and no cell gives more than it owns.
    """
    left = {cell: max(0, ns) for cell, ns in holdings.items()}
    rest = max(0, limit_ns)
    granted: dict[int, Granted] = {}
    for index in sorted(range(len(claims)), key=lambda number: -claims[number].wanted_ns):
        wanted = max(0, claims[index].wanted_ns)
        taken: dict[Cell, int] = {}
        open_ns = min(wanted, rest)
        for cell in claims[index].cells:
            given = min(open_ns, left.get(cell, 0))
            if given:
                left[cell] -= given
                open_ns -= given
                taken[cell] = given
        total = sum(taken.values())
        rest -= total
        granted[index] = Granted(total, taken, total / wanted if wanted else 1.0)
    return [granted[index] for index in range(len(claims))]
