"""Factorisations and solves, by the leading term of the textbook's count (Golub and Van Loan, 4th edition).

Batches multiply. What iterates (eigenvalues, singular values, matrix exponentials) has the textbook's usual count and
is a bound: how often it iterates depends on the data. The arithmetic is matmul-like, on the tensor unit's resource.
Which kernels of a library do it is not told apart: they share by blocks or time.
"""

from __future__ import annotations

from math import prod
from typing import Final

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import broadcast, known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import Op, TensorMeta, Work, flops_of


def _counted(dtype: str, thirds: int) -> tuple[tuple[str, int], ...]:
    """Thirds of FLOPs, rounded to whole ones."""
    resource, real = product_resource(dtype)
    return flops_of({resource: (thirds + 1) // 3 * real})


def _matrix(x: TensorMeta) -> tuple[int, int, int]:
    """Batch, rows, columns."""
    *batch, rows, columns = x.shape
    return prod(batch), rows, columns


# Thirds of n^3 of a square matrix.
_SQUARE: Final = {
    "aten::linalg_cholesky_ex": 1, "aten::cholesky": 1, "aten::linalg_lu_factor_ex": 2, "aten::linalg_inv_ex": 6,
    "aten::cholesky_inverse": 2, "aten::_linalg_det": 2, "aten::_linalg_slogdet": 2, "aten::linalg_ldl_factor_ex": 1,
}  # fmt: skip


@cost(*_SQUARE, unless_child=("aten::linalg_lu_factor_ex", "aten::linalg_solve_ex", "aten::_linalg_solve_ex",
                              "aten::linalg_inv_ex", "aten::linalg_cholesky_ex", "aten::cholesky"))  # fmt: skip
def factor(op: Op) -> Work:
    """Shapes: x [.., n, n] -> [.., n, n] (and pivots).

    FLOPs: Cholesky and LDL n^3 / 3; LU, determinant, inverse from Cholesky 2 n^3 / 3; inverse 2 n^3.
    Bytes: input; output.
    """
    x = op.tensor(0)
    batch, rows, columns = _matrix(x)
    if rows < columns:
        rows, columns = columns, rows
    # LU of [m, n]: n^2 (m - n / 3).
    thirds = _SQUARE[op.name] * columns**3
    if op.name == "aten::linalg_lu_factor_ex":
        thirds = columns**2 * (3 * rows - columns)
    return Work(_counted(known_dtype(x), batch * thirds), bytes_of(x), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::linalg_solve_triangular", "aten::triangular_solve", "aten::_cholesky_solve_helper",
      "aten::linalg_lu_solve", unless_child=("aten::linalg_solve_triangular", "aten::triangular_solve"))  # fmt: skip
@cost("aten::cholesky_solve", unless_child=("aten::_cholesky_solve_helper",))
def solve_factored(op: Op) -> Work:
    """Shapes: a factor [.., n, n] and [.., n, k] in either order -> [.., n, k].

    FLOPs: n^2 k for one triangle, 2 n^2 k for both (Cholesky, LU).
    Bytes: half of a triangular factor, or all; right side; output.
    """
    first, second = op.tensor(0), op.tensor(2 if op.name == "aten::linalg_lu_solve" else 1)
    is_right_first = op.name in ("aten::triangular_solve", "aten::cholesky_solve", "aten::_cholesky_solve_helper")
    factor_, right = (second, first) if is_right_first else (first, second)
    passes = 1 if "triangular" in op.name else 2
    size, dtype = factor_.shape[-1], known_dtype(right)
    batch = broadcast((factor_.shape[:-2], right.shape[:-2]))
    shape = (*batch, *right.shape[-2:])
    is_triangle = op.name != "aten::linalg_lu_solve"
    used = bytes_of(factor_) * (size + 1) // (2 * size) if is_triangle and size else bytes_of(factor_)
    flops = _counted(dtype, 3 * passes * size * prod(shape))
    return Work(flops, used + bytes_of(right), dense_bytes(shape, dtype))


@cost("aten::_linalg_solve_ex", unless_child=("aten::linalg_lu_factor_ex", "aten::linalg_lu_solve"))
def solve(op: Op) -> Work:
    """Shapes: a [.., n, n], b [.., n, k] (or [.., n]) -> like b.

    FLOPs: 2 n^3 / 3 + 2 n^2 k.
    Bytes: both; output, LU.
    """
    a, b = op.tensor(0), op.tensor(1)
    batch, n, _ = _matrix(a)
    dtype = known_dtype(a)
    flops = _counted(dtype, 2 * batch * n**3 + 6 * n * b.numel)
    return Work(flops, bytes_of(a, b), dense_bytes(b.shape, dtype) + dense_bytes(a.shape, dtype))


@cost("aten::geqrf", "aten::linalg_qr", unless_child=("aten::geqrf",))
def qr(op: Op) -> Work:
    """Shapes: x [.., m, n] -> q [.., m, k], r [.., k, n] (geqrf: both in one [.., m, n]).

    FLOPs: 2 k^2 (larger - k / 3), k the smaller side; as much again for q.
    Bytes: input; outputs.
    """
    x = op.tensor(0)
    batch, m, n = _matrix(x)
    larger, k = max(m, n), min(m, n)
    thirds = batch * 2 * k**2 * (3 * larger - k)
    dtype = known_dtype(x)
    if op.name == "aten::geqrf":
        return Work(_counted(dtype, thirds), bytes_of(x), dense_bytes(x.shape, dtype))
    written = dense_bytes((batch, m, k), dtype) + dense_bytes((batch, k, n), dtype)
    return Work(_counted(dtype, 2 * thirds), bytes_of(x), written)


@cost("aten::linalg_householder_product")
def householder(op: Op) -> Work:
    """Shapes: reflectors [.., m, n], tau [.., k] -> [.., m, n].

    FLOPs: 2 n^2 (m - n / 3).
    Bytes: inputs; output.
    """
    x = op.tensor(0)
    batch, m, n = _matrix(x)
    flops = _counted(known_dtype(x), batch * 2 * n**2 * (3 * m - n))
    return Work(flops, bytes_of(x, op.tensor(1)), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::ormqr")
def ormqr(op: Op) -> Work:
    """Shapes: reflectors [.., m, k], tau [.., k], other [.., m, n] -> like other.

    FLOPs: 4 m k n - 2 k^2 n (k reflectors, each a product and an outer product).
    Bytes: inputs; output.
    """
    x, tau, other = op.tensor(0), op.tensor(1), op.tensor(2)
    batch, m, n = _matrix(other)
    k = tau.shape[-1]
    flops = _counted(known_dtype(x), 3 * batch * (4 * m * k * n - 2 * k * k * n))
    return Work(flops, bytes_of(x, tau, other), dense_bytes(other.shape, known_dtype(other)))


# Of n^3: eigenvalues alone, and with vectors.
_EIGEN: Final = {"aten::_linalg_eigh": (4, 9), "aten::linalg_eig": (10, 25), "aten::linalg_eigvals": (10, 10),
                 "aten::_linalg_eigvals": (10, 10)}  # fmt: skip


@cost(*_EIGEN, unless_child=("aten::_linalg_eigvals", "aten::linalg_eig"))
def eigen(op: Op) -> Work:
    """Shapes: x [.., n, n] -> values [.., n], vectors [.., n, n].

    FLOPs: a bound: symmetric 4 / 3 n^3, with vectors 9 n^3; general 10 n^3, with vectors 25 n^3.
    Bytes: input; outputs.
    """
    x = op.tensor(0)
    batch, n, _ = _matrix(x)
    is_symmetric = op.name == "aten::_linalg_eigh"
    has_vectors = op.scalar(2, True) is not False if is_symmetric else op.name == "aten::linalg_eig"
    alone, both = _EIGEN[op.name]
    thirds = 3 * both if has_vectors else alone * (1 if is_symmetric else 3)
    dtype = known_dtype(x) if is_symmetric else {"float64": "complex128"}.get(known_dtype(x), "complex64")
    written = dense_bytes((batch, n), dtype) + dense_bytes(x.shape, dtype) * has_vectors
    return Work(_counted(known_dtype(x), batch * thirds * n**3), bytes_of(x), written, is_bound=True)


@cost("aten::_linalg_svd", unless_child=("aten::_linalg_svd",))
def svd(op: Op) -> Work:
    """Shapes: x [.., m, n], full, vectors -> u [.., m, k], s [.., k], v [.., k, n].

    FLOPs: a bound: values 4 m n^2 - 4 n^3 / 3 (n the smaller side); with vectors 14 m n^2 + 8 n^3.
    Bytes: input; outputs.
    """
    x = op.tensor(0)
    batch, rows, columns = _matrix(x)
    m, n = max(rows, columns), min(rows, columns)
    has_vectors, is_full = op.scalar(2, True) is not False, op.scalar(1, False) is True
    thirds = 3 * (14 * m * n**2 + 8 * n**3) if has_vectors else 12 * m * n**2 - 4 * n**3
    dtype = known_dtype(x)
    vectors = rows * (rows if is_full else n) + columns * (columns if is_full else n)
    written = dense_bytes((batch, n + vectors * has_vectors), dtype)
    return Work(_counted(dtype, batch * thirds), bytes_of(x), written, is_bound=True)


@cost("aten::linalg_lstsq", unless_child=("aten::geqrf", "aten::ormqr"))
def least_squares(op: Op) -> Work:
    """Shapes: a [.., m, n], b [.., m, k] -> [.., n, k].

    FLOPs: a bound, by QR: 2 n^2 (m - n / 3) + 4 m n k (other drivers do more).
    Bytes: both; output.
    """
    a, b = op.tensor(0), op.tensor(1)
    batch, m, n = _matrix(a)
    k = b.shape[-1]
    flops = _counted(known_dtype(a), batch * (2 * n**2 * (3 * m - n) + 12 * m * n * k))
    return Work(flops, bytes_of(a, b), dense_bytes((batch, n, k), known_dtype(a)), is_bound=True)


@cost("aten::linalg_cross")
def cross(op: Op) -> Work:
    """Shapes: a [.., 3], b [.., 3] -> broadcast.

    FLOPs: 3 an output element (two products, a difference).
    Bytes: both; output.
    """
    a, b = op.tensor(0), op.tensor(1)
    shape = broadcast((a.shape, b.shape))
    count = prod(shape)
    return Work(operations(known_dtype(a), 3 * count), bytes_of(a, b), dense_bytes(shape, known_dtype(a)))


@cost("aten::lu_unpack")
def lu_unpack(op: Op) -> Work:
    """Shapes: lu [.., m, n], pivots -> p [.., m, m], l [.., m, k], u [.., k, n].

    FLOPs: none.
    Bytes: inputs; outputs asked for.
    """
    lu, pivots = op.tensor(0), op.tensor(1)
    batch, m, n = _matrix(lu)
    k = min(m, n)
    wants_lu, wants_p = op.scalar(2, True) is not False, op.scalar(3, True) is not False
    count = batch * (m * m * wants_p + (m * k + k * n) * wants_lu)
    return Work(
        (), bytes_of(lu if wants_lu else None, pivots if wants_p else None), dense_bytes((count,), known_dtype(lu))
    )
