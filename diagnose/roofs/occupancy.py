"""How many blocks of a kernel an SM holds at once, from what each of its blocks asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

_WARP: Final = 32
_REGISTER_UNIT: Final = 256
"""Registers are given to a warp in units of this (CUDA occupancy calculator, compute capability 5 and later)."""

_SHARED_UNIT: Final = 128
_RESERVED_SHARED: Final = 1024
"""Bytes of shared memory a block that the driver keeps for itself (CUDA programming guide, compute capability 8+)."""

MAX_BLOCKS: Final[Mapping[tuple[int, int], int]] = {
    (7, 0): 32, (7, 5): 16, (8, 0): 32, (8, 6): 16, (8, 7): 16, (8, 9): 24, (9, 0): 32, (10, 0): 32, (10, 3): 32,
    (12, 0): 24,
}  # fmt: skip
"""Resident blocks an SM by compute capability: CUDA programming guide, technical specifications."""


class Multiprocessor(Struct, frozen=True):
    """What one SM has, as the recording's header says; None is unknown."""

    compute_capability: tuple[int, int] | None
    threads: int | None
    registers: int | None
    shared_memory: int | None


class Block(Struct, frozen=True):
    """What one block of a kernel takes: threads, registers a thread, bytes of shared memory."""

    threads: int
    registers: int
    shared_memory: int


def blocks_per_sm(block: Block, sm: Multiprocessor) -> int | None:
    """Blocks that fit an SM at once, by threads, registers and shared memory; None where a fact is missing.

    Clusters may fit fewer. NVIDIA only: AMD's recordings hold neither registers nor shared memory.
    """
    if sm.compute_capability is None or sm.compute_capability not in MAX_BLOCKS or block.threads <= 0:
        return None
    if sm.threads is None or sm.registers is None or sm.shared_memory is None:
        return None
    if block.registers < 0 or block.shared_memory < 0:
        return None
    warps = -(-block.threads // _WARP)
    fitting = [MAX_BLOCKS[sm.compute_capability], sm.threads // (warps * _WARP)]
    if block.registers:
        a_warp = _units(block.registers * _WARP, _REGISTER_UNIT)
        # Each of the four schedulers has a quarter of the registers, and a warp lives on one of them.
        fitting.append(sm.registers // 4 // a_warp * 4 // warps)
    reserved = _RESERVED_SHARED if sm.compute_capability >= (8, 0) else 0
    shared = _units(block.shared_memory + reserved, _SHARED_UNIT)
    if shared:
        fitting.append(sm.shared_memory // shared)
    return min(fitting) or None


def _units(amount: int, unit: int) -> int:
    return -(-amount // unit) * unit
