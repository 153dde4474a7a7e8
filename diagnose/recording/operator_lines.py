"""The line of an operator such as ``x + 1``, which makes no call that a profiler sees: read from the source.

Only where the function that ran holds that operator on one line alone; else nothing is said. Numbers are added in
Python too, so that a function with ``x + 1`` and ``n + 1`` tells nothing.
"""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

_BINARY: Final[Mapping[str, type[ast.operator]]] = {
    "add": ast.Add, "sub": ast.Sub, "mul": ast.Mult, "div": ast.Div, "floor_divide": ast.FloorDiv, "remainder": ast.Mod,
    "pow": ast.Pow, "matmul": ast.MatMult, "__and__": ast.BitAnd, "bitwise_and": ast.BitAnd, "__or__": ast.BitOr,
    "bitwise_or": ast.BitOr, "__xor__": ast.BitXor, "bitwise_xor": ast.BitXor,
}  # fmt: skip
_UNARY: Final[Mapping[str, type[ast.unaryop]]] = {"neg": ast.USub, "bitwise_not": ast.Invert}
_COMPARISON: Final[Mapping[str, type[ast.cmpop]]] = {
    "eq": ast.Eq, "ne": ast.NotEq, "lt": ast.Lt, "le": ast.LtE, "gt": ast.Gt, "ge": ast.GtE,
}  # fmt: skip
_MOST_FILES: Final = 64
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def operator_line(path: str, line: int, function: str, op: str) -> int | None:
    """The line of the operator that made an op, None where it is not the only one of its kind in the function.

    Args:
        path: Of the source file.
        line: Of the function's ``def``, or of its first decorator.
        function: Its name.
        op: ``aten::add``; one that changes its first argument, ``aten::add_``, comes from ``x += 1``.
    """
    name = op.removeprefix("aten::")
    in_place = name.endswith("_") and not name.endswith("__")
    name = name.removesuffix("_") if in_place else name
    found = {
        node.lineno
        for each in _functions(path)
        if each.name == function and line in {each.lineno, *(part.lineno for part in each.decorator_list)}
        for node in _own_nodes(each)
        if isinstance(node, (ast.expr, ast.stmt)) and _is_operator(node, name, in_place=in_place)
    }
    return found.pop() if len(found) == 1 else None


def _is_operator(node: ast.AST, name: str, *, in_place: bool) -> bool:
    if isinstance(node, ast.AugAssign):
        return in_place and name in _BINARY and isinstance(node.op, _BINARY[name])
    if in_place:
        return False
    if isinstance(node, ast.BinOp):
        return name in _BINARY and isinstance(node.op, _BINARY[name])
    if isinstance(node, ast.UnaryOp):
        return name in _UNARY and isinstance(node.op, _UNARY[name])
    if isinstance(node, ast.Compare):
        return name in _COMPARISON and any(isinstance(each, _COMPARISON[name]) for each in node.ops)
    return False


def _own_nodes(function: _Function) -> Iterator[ast.AST]:
    """What a function's own code holds: a function inside it runs in a frame of its own."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            pending.extend(ast.iter_child_nodes(node))


@lru_cache(maxsize=_MOST_FILES)
def _functions(path: str) -> tuple[_Function, ...]:
    """Every function of a file; none where it cannot be read."""
    try:
        with tokenize.open(path) as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
