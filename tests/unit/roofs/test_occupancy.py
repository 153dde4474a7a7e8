"""How many blocks fit an SM: cases worked by hand from the CUDA programming guide's limits."""

import pytest
from msgspec.structs import replace

from diagnose.roofs.occupancy import MAX_BLOCKS, Block, Multiprocessor, blocks_per_sm

A100 = Multiprocessor((8, 0), 2048, 65536, 167936)
H100 = Multiprocessor((9, 0), 2048, 65536, 233472)
V100 = Multiprocessor((7, 0), 2048, 65536, 98304)
A10 = Multiprocessor((8, 6), 1536, 65536, 102400)


@pytest.mark.parametrize(
    ("sm", "block", "fits"),
    [
        (A100, Block(256, 32, 0), 8),  # threads: 2048 / 256
        (A100, Block(128, 16, 0), 16),
        (A100, Block(32, 16, 0), 32),  # no more blocks than 32
        (A10, Block(32, 16, 0), 16),
        (A10, Block(1024, 32, 0), 1),  # 1536 threads
        # registers: 8 warps x 47 x 32 = 1504, given as 1536; 16384 / 1536 = 10 warps a scheduler, 40 in all; 40 / 8
        (A100, Block(256, 47, 0), 5),
        # 255 x 32 = 8160 -> 8192: 2 warps a scheduler, 8 in all, 8 in the block
        (H100, Block(256, 255, 0), 1),
        # shared memory: (48 + 1) KiB of 164; 41 KB without the driver's KiB on Volta
        (A100, Block(128, 32, 48 * 1024), 3),
        (V100, Block(128, 32, 32 * 1024), 3),
        # a Hopper GEMM: (227 + 1) KiB
        (H100, Block(384, 168, 227 * 1024), 1),
        # a block of 33 threads takes two warps: 64 warps / 2
        (A100, Block(33, 16, 0), 32),
    ],
)
def test_blocks_that_fit(sm: Multiprocessor, block: Block, fits: int):
    assert blocks_per_sm(block, sm) == fits


@pytest.mark.parametrize(
    ("sm", "block"),
    [
        (replace(A100, compute_capability=(9, 4)), Block(256, 32, 0)),  # AMD
        (replace(A100, threads=None), Block(256, 32, 0)),
        (replace(A100, registers=None), Block(256, 32, 0)),
        (replace(A100, shared_memory=None), Block(256, 32, 0)),
        (A100, Block(-1, 32, 0)),
        (A100, Block(256, -1, 0)),
        (A100, Block(256, 32, -1)),
        (A100, Block(256, 32, 10**9)),  # it ran, so a fact is wrong
    ],
)
def test_what_is_not_recorded_is_not_guessed(sm: Multiprocessor, block: Block):
    assert blocks_per_sm(block, sm) is None


def test_limits_are_known_of_every_nvidia_row_of_the_device_table():
    from diagnose.devices.datasheet import DEVICES

    assert {spec.compute_capability for spec in DEVICES if spec.vendor == "NVIDIA"} <= set(MAX_BLOCKS)
