"""Probe: one matrix multiply, C[m, n] = A[m, k] B[k, n]. Compute-bound once all three are large.

FLOPs: 2 m n k (a multiply-add is two).
Bytes: (m k + k n) elements read, m n written; float8 writes bfloat16, int8 writes int32.
Small m with large n and k walks down the roof instead: m = 1 reads the whole of B for 2 FLOPs an element.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from diagnose.kernels.timing import row, time_runs

Shape = tuple[int, int, int]

DTYPES: Final[dict[str, tuple[torch.dtype, torch.dtype]]] = {
    "float64": (torch.float64, torch.float64),
    "float32": (torch.float32, torch.float32),
    "tfloat32": (torch.float32, torch.float32),
    "float16": (torch.float16, torch.float16),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "float8": (torch.float8_e4m3fn, torch.bfloat16),
    "int8": (torch.int8, torch.int32),
}
"""Arithmetic by name: the type of A and B, and of C."""

TOP_SHAPES: Final[tuple[Shape, ...]] = (
    (4096, 4096, 4096),
    (8192, 8192, 8192),
    (8192, 8192, 16384),  # a long k hides the epilogue
    (4096, 14336, 4096),  # a transformer's feed-forward layer
    (16384, 8192, 4096),
    (16384, 16384, 16384),
    (2304, 5120, 1536),  # few but whole waves of tiles: the top of some A100s
    (7168, 9216, 8192),
)
"""Shapes that reach the top of a GPU, the most likely first: which one does depends on the tiles its library has."""


def flops(shape: Shape) -> int:
    """Operations of one run."""
    m, n, k = shape
    return 2 * m * n * k


def bytes_accessed(shape: Shape, dtype: str) -> int:
    """Compulsory traffic of one run."""
    m, n, k = shape
    given, made = DTYPES[dtype]
    return (m * k + k * n) * given.itemsize + m * n * made.itemsize


def build(shape: Shape, dtype: str, device: str = "cpu") -> Callable[[], object]:
    """One run on random data. RuntimeError (at the first run, perhaps) where the device cannot multiply this type."""
    m, n, k = shape
    given, made = DTYPES[dtype]
    a = _random((m, k), given, device)
    if dtype == "float8":
        return _build_float8(a, _random((n, k), given, device).t())
    b = _random((k, n), given, device)
    if dtype == "int8":
        return lambda: torch._int_mm(a, b)  # noqa: SLF001 - the only door to it
    c = torch.empty((m, n), dtype=made, device=device)
    return lambda: torch.mm(a, b, out=c)


def _build_float8(a: torch.Tensor, b: torch.Tensor) -> Callable[[], object]:
    one = torch.ones((), device=a.device)
    return lambda: torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)  # noqa: SLF001


def _random(shape: tuple[int, int], dtype: torch.dtype, device: str) -> torch.Tensor:
    """Never zeros: they draw less power, so that clocks stay higher than any real matrix lets them."""
    if dtype == torch.int8:
        return torch.randint(-127, 128, shape, dtype=dtype, device=device)
    if dtype.itemsize >= 4:
        return torch.randn(shape, dtype=dtype, device=device)
    return torch.randn(shape, device=device).to(dtype)


@contextmanager
def arithmetic(dtype: str) -> Iterator[None]:
    """float32 products on tensor cores in TF32 for ``tfloat32``, and never for anything else."""
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32" if dtype == "tfloat32" else "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@torch.no_grad()
def measure(
    shape: Shape, dtype: str, device: str = "cpu", *, runs: int = 7, seconds: float | None = None
) -> list[float]:
    """Seconds of each run. RuntimeError where the device cannot multiply this type."""
    with arithmetic(dtype):
        return time_runs(build(shape, dtype, device), device, runs=runs, seconds=seconds)


def main() -> None:
    """Measures and prints one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, metavar=("M", "N", "K"), default=(1024, 1024, 1024))
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    shape: Shape = (given.shape[0], given.shape[1], given.shape[2])
    seconds = measure(shape, given.dtype, given.device, runs=given.runs)
    name = f"gemm {'x'.join(map(str, shape))} {given.dtype} {given.device}"
    print(row(name, seconds, flops(shape), bytes_accessed(shape, given.dtype)))


if __name__ == "__main__":
    main()
