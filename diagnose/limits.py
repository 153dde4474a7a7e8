"""Every constant of the classifier, each with where it comes from. All can be set (``replace(LIMITS, ...)``)."""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Limits(Struct, frozen=True):
    """What the classifier compares with. Shares are fractions of one.

    Attributes:
        under_used: Efficiency below this is ``under-used``. Nsight Compute's rule: below 60 % of both throughputs,
            neither is the limit.
        accepted: This much above the achievable roof is no contradiction: timer steps, clock drift.
        balanced_low, balanced_high: t_c / t_m between these is ``balanced``: within a quarter either way both limits
            have to be lifted (Nsight Compute calls throughputs within 10 points balanced).
        blocks_share: Fewer blocks than this share of the SMs are too few. Persistent GEMMs on Hopper fill 112 of 132
            SMs (85 %); 60 % leaves room for other choices of grid.
        tail_share: The waves of blocks are partial when at least this share of their places is empty. Nsight Compute
            warns of a tail when up to a fifth may be lost; this is what is lost, so half of that.
        shared_share: Other kernels ran during at least this share of its time. A tenth is what overlapping tails of
            programmatic dependent launches reach; a quarter cannot be a tail.
        floor_share: The kernel floor is at least this share of its time: a fifth, as Nsight Compute's tail-effect rule.
        alignment_bytes: Contiguous sizes of a product should be multiples of this. NVIDIA's matmul guide: tensor cores
            are efficient with 16 bytes (8 numbers of 16 bits, 16 of 8, 4 of TF32); cuBLAS before 11 required it.
        sector_bytes: What DRAM and L2 deliver at least, whatever is asked for (CUDA programming guide: 32 bytes).
        usable_l2: Share of the L2 that holds what was just touched. H100 and A100 may hold a line in both halves;
            measured L2 rates stay level up to 64 % (A100 80 GB) and 70 % (H100 PCIe) of it: te42kyfo/gpu-benches.
        same_bytes: An earlier kernel's output is this input if their bytes differ by no more than this share: norms
            write a few numbers a row beside their output.
        look_back: How many earlier kernels are searched for the one that wrote an input: a transformer block has ten.
        largest_cache_bytes: Where a cache's size is unknown, it is not larger (MI300's Infinity Cache, 256 MiB).
        cache_over_dram: Where a cache's rate is unknown, it is not more than this times DRAM's: measured are 2.5 (A100)
            to 3.6 (H100 PCIe), 6 for an L40, whose DRAM is GDDR.
        near_floor: A kernel this close to the floor is small, even where part of its work is unknown: twice the floor
            is a floor and a gap, one kernel slot.
        headroom: Without a datasheet (a CPU) work above this times the measured roof is not believed. Any is: a roof
            measured beside other work was seen at a twentieth of its quiet value; such a roof is raised instead.
        timed_well_ns: Rows at least this long are timed well enough to raise a roof.
    """

    under_used: float = 0.60
    accepted: float = 1.05
    balanced_low: float = 0.80
    balanced_high: float = 1.25
    blocks_share: float = 0.60
    tail_share: float = 0.10
    shared_share: float = 0.25
    floor_share: float = 0.20
    alignment_bytes: int = 16
    sector_bytes: int = 32
    usable_l2: float = 0.50
    same_bytes: float = 0.02
    look_back: int = 16
    largest_cache_bytes: int = 2**28
    cache_over_dram: float = 8.0
    near_floor: float = 2.0
    headroom: float = float("inf")
    timed_well_ns: float = 20_000.0


LIMITS: Final = Limits()
"""The values in force unless others are given."""
