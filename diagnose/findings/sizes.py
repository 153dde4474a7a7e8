"""Rules about the sizes of matrix products: those that tensor cores cannot load well, and those that waste a wave."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.findings.retiming import (
    Saved,
    call_ns,
    ceilings_of,
    is_sure,
    is_under_used,
    ns_per_step,
    product_dtype,
    rate_of,
    retimed,
)
from diagnose.kernel_names import read_name
from diagnose.limits import LIMITS
from diagnose.roofs.occupancy import Block, blocks_per_sm
from diagnose.roofs.operands import Product, product

PADDED_BYTES: Final = 128
"""Pad to a multiple of this: NVIDIA's matmul guide gives 128 bytes (64 numbers of 16 bits) as best on A100."""

MOST_PADDING: Final = 0.10
"""Of a size: a product that would grow by more is not padded."""

LAST_WAVE: Final = 0.35
"""A last wave that fills less of the device than this is just above a whole number of waves."""

MOST_WAVES: Final = 8
"""With more waves the last one is no longer worth it: at most a ninth of the time."""


class _Waves(Struct, frozen=True):
    """Tiles of one product, what the device holds at once, and the tile."""

    tiles: int
    room: int
    rows: int
    columns: int

    @property
    def whole(self) -> int:
        return self.tiles // self.room


def odd_sizes(case: Case) -> list[Proposal]:
    """Under-used products whose k or n is no multiple of 16 bytes, which tensor cores load at once.

    The padded product must do a little more (that is taken off). Low: the best efficiency that this recording shows
    for an aligned product of the same type which is no larger; nothing where there is none. High: the roof of the
    padded product. Mid: between.
    """
    found = {group: padded for group in _candidates(case) if (padded := _padded(case, group)) is not None}
    saved = {group: _as_padded(case, group, growth) for group, (_, growth) in found.items()}
    saved = {group: each for group, each in saved.items() if each.mid > 0}
    if not saved:
        return []
    groups = sorted(saved, key=lambda group: -case.time_ns([group]))
    change, sizes = retimed(case, saved), found[groups[0]][0]
    name = next(iter(sizes))
    now, then = sizes[name]
    return [
        Proposal(
            rule="odd-sizes",
            bound="compute",
            title="sizes of matrix products miss the tensor cores' alignment",
            evidence={
                "products_per_step": case.per_step(case.calls(groups)),
                "products_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "efficiency": round(case.placed.placements[groups[0]].efficiency or 0.0, 3),
                **{f"{key}_now": pair[0] for key, pair in sizes.items()},
                **{f"{key}_padded": pair[1] for key, pair in sizes.items()},
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=change.low,
            mid=change.mid,
            high=change.high,
            gap_ns=change.gap_ns,
            advice=f"{name} = {now} -> {then}: e.g. torch.nn.Linear(..., {then}) (a vocabulary: "
            f"model.resize_token_embeddings(pad_to_multiple_of={_multiple(case, groups[0])})), and slice the result "
            f"[..., :{now}]",
            assumes="the padding is masked out or sliced off; it takes memory and, for weights, a new checkpoint",
        )
    ]


def partial_wave(case: Case) -> list[Proposal]:
    """Products whose tiles fill some waves and a little of one more, which lasts as long as a full one.

    Of w waves in w' = ceil(w), the share 1 - w / w' of the time fills nobody. High: all of it, by a size that fills
    whole waves at the same time a row. Mid: half, since blocks do not end all at once and another tile may be chosen.
    Low: nothing.
    """
    waves = {group: each for group in _candidates(case) if (each := _just_above(case, group)) is not None}
    if not waves:
        return []
    saved = {group: _as_whole(call_ns(case, group), each) for group, each in waves.items()}
    groups = sorted(saved, key=lambda group: -case.time_ns([group]))
    change, first, op = retimed(case, saved), waves[groups[0]], case.op(groups[0])
    found = None if op is None else product(op)
    if found is None:
        return []
    below, above = (_rows_in(found, first, count) for count in (first.whole, first.whole + 1))
    return [
        Proposal(
            rule="partial-wave",
            bound="compute",
            title="products need a little more than whole waves of tiles",
            evidence={
                "products_per_step": case.per_step(case.calls(groups)),
                "products_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "waves": round(first.tiles / first.room, 2),
                "tiles": first.tiles,
                "tiles_at_once": first.room,
                "tile": f"{first.rows} x {first.columns}",
                "rows_now": found.m,
                "rows_in_whole_waves": below,
                "rows_in_one_wave_more": above,
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=change.low,
            mid=change.mid,
            high=change.high,
            gap_ns=change.gap_ns,
            advice=f"choose batch x tokens so that the products have {below} or {above} rows instead of {found.m}",
            assumes="the library keeps its tile at the other size; the batch or the sequence length is yours to choose",
        )
    ]


def _candidates(case: Case) -> list[int]:
    """Products far below their roof, in a type for tensor cores, which ran alone, by more than the shortest kernel."""
    found = []
    for group in range(len(case.placed.groups)):
        placement = case.placed.placements[group]
        is_slow = is_under_used(case, group) and placement.bound in ("compute", "memory") and not case.is_cpu
        if is_slow and is_sure(case, group) and (placement.math or "").startswith("tensor."):
            found.append(group)
    return found


def _multiple(case: Case, group: int) -> int:
    op = case.op(group)
    found = None if op is None else product(op)
    return max(1, PADDED_BYTES // max(1, (found.a.itemsize or 1) if found is not None else 1))


def _padded(case: Case, group: int) -> tuple[dict[str, tuple[int, int]], float] | None:
    """Odd k and n as (now, padded), and by how much the product grows; None where both are even."""
    op, reasons = case.op(group), case.placed.placements[group].reasons
    found = None if op is None else product(op)
    if found is None or not found.a.itemsize or any(reason.startswith("too few blocks") for reason in reasons):
        return None
    aligned = max(1, LIMITS.alignment_bytes // found.a.itemsize)
    pairs = {"k": found.a.shape[-1], "n": found.n}
    sizes = {key: (size, _up(size, _multiple(case, group))) for key, size in pairs.items() if size % aligned}
    growth = 1.0
    for now, then in sizes.values():
        growth *= then / max(1, now)
    return (sizes, growth) if sizes and growth <= 1 + MOST_PADDING else None


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _as_padded(case: Case, group: int, growth: float) -> Saved:
    duration, roof = call_ns(case, group), (case.placed.placements[group].roof_ns or 0.0) * growth
    best = _best_aligned(case, group)
    high = max(0.0, duration - roof)
    low = max(0.0, duration - roof / best) if best else 0.0
    return Saved(low, (low + high) / 2, high)


def _best_aligned(case: Case, group: int) -> float | None:
    """The best efficiency of an aligned product of this type whose roof is no longer; None without one."""
    dtype, roof = product_dtype(case, group), case.placed.placements[group].roof_ns or 0.0
    reached = [
        min(1.0, case.placed.placements[other].efficiency or 0.0)
        for other in range(len(case.placed.groups))
        if product_dtype(case, other) == dtype
        and is_sure(case, other)
        and (case.placed.placements[other].roof_ns or 0.0) <= roof
        and case.placed.placements[other].bound != "overhead"
        and _is_aligned(case, other)
    ]
    return max(reached, default=None) or None


def _is_aligned(case: Case, group: int) -> bool:
    op = case.op(group)
    found = None if op is None else product(op)
    aligned = LIMITS.alignment_bytes // (found.a.itemsize or 1) if found is not None else 1
    return found is not None and not (found.n % aligned or found.a.shape[-1] % aligned)


def _just_above(case: Case, group: int) -> _Waves | None:
    """The waves of a product if they are just above a whole number; None where the recording does not tell."""
    op, ceilings = case.op(group), ceilings_of(case, group)
    found = None if op is None else product(op)
    facts = read_name(case.placed.kernel(group))
    first = int(case.placed.groups.first[group])
    blocks = int(case.placed.recording.items.blocks[first])
    if (
        found is None
        or ceilings is None
        or ceilings.sms is None
        or facts.tile is None
        or facts.is_split_k
        or blocks <= 0
    ):
        return None
    tiles = found.tiles(facts.tile)
    # A persistent kernel has as many blocks as fit; else the blocks are the tiles, and the SM says how many it holds.
    is_persistent = blocks <= ceilings.sms and tiles > blocks
    held = None if is_persistent else _held(case, group, first)
    room = blocks if is_persistent else None if held is None else held * ceilings.sms
    if room is None or (not is_persistent and tiles != blocks) or not rate_of(case, group, "dram"):
        return None
    rows, columns = min((facts.tile, facts.tile[::-1]), key=lambda tile: _cover(found, tile))
    waves = _Waves(tiles, room, rows, columns)
    last = tiles / room - waves.whole
    return waves if 1 <= waves.whole < MOST_WAVES and 0 < last <= LAST_WAVE else None


def _cover(found: Product, tile: tuple[int, int]) -> int:
    return -(-found.m // max(1, tile[0])) * -(-found.n // max(1, tile[1]))


def _held(case: Case, group: int, item: int) -> int | None:
    activities, sm = case.placed.recording.trace.activities, case.placed.hardware.multiprocessors
    block, device = activities.block[item], sm.get(int(case.placed.groups.device[group]))
    if device is None or not (block >= 0).all():
        return None
    asked = Block(int(block.prod()), int(activities.registers[item]), int(activities.shared_memory[item]))
    return blocks_per_sm(asked, device)


def _as_whole(duration_ns: float, waves: _Waves) -> Saved:
    lost = duration_ns * (1 - waves.tiles / waves.room / (waves.whole + 1))
    return Saved(0.0, lost / 2, lost)


def _rows_in(found: Product, waves: _Waves, count: int) -> int:
    """The most rows whose tiles fill ``count`` waves; columns and batch as they are."""
    across = -(-found.n // max(1, waves.columns)) * max(1, found.batch)
    return waves.rows * (waves.room * count // max(1, across))


RULES: Final[tuple[Rule, ...]] = (odd_sizes, partial_wave)
