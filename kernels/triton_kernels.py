# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201
"""The fused probes' kernels. Importing this needs Triton; each probe says what its kernel does.

Triton reads these functions' source: annotations of Python's own have no place in them, hence no types here.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def dial(x_ptr, y_ptr, n, steps: tl.constexpr, c: tl.constexpr, block: tl.constexpr):
    """``polynomial``: y = (((x x + c) x + c) ...), ``steps`` times, eight to a turn of the loop."""
    here = tl.program_id(0) * block + tl.arange(0, block)
    x = tl.load(x_ptr + here, mask=here < n, other=0.5)
    y = x
    for _ in range(steps // 8):
        for _unrolled in tl.static_range(8):
            y = y * x + c
    for _rest in tl.static_range(steps % 8):
        y = y * x + c
    tl.store(y_ptr + here, y, mask=here < n)


@triton.jit
def special_rounds(x_ptr, y_ptr, n, rounds: tl.constexpr, is_exp: tl.constexpr, block: tl.constexpr):
    """``special``: exp(-y) or tanh(1.5 y), ``rounds`` times."""
    here = tl.program_id(0) * block + tl.arange(0, block)
    y = tl.load(x_ptr + here, mask=here < n, other=0.5)
    for _ in range(rounds):
        if is_exp:  # noqa: SIM108 - Triton compiles one branch
            y = tl.exp(-y)
        else:
            y = libdevice.tanh(1.5 * y)
    tl.store(y_ptr + here, y, mask=here < n)


@triton.jit
def read_rounds(data, sums, blocks, rounds, block: tl.constexpr):
    """``resident``: every program reads another block each round, so that no round can be skipped."""
    program = tl.program_id(0)
    total = tl.zeros((block,), tl.float32)
    for turn in range(rounds):
        here = (program + turn) % blocks
        # .cg: cached in L2 alone.
        total += tl.load(data + here * block + tl.arange(0, block), cache_modifier=".cg")
    tl.store(sums + program, tl.sum(total, 0))
