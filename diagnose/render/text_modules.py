"""The modules of a model as a few lines of text: time, share, and what they could be shorter by."""

from __future__ import annotations

from typing import Final

from diagnose.places.module_tree import ModuleNode, module_tree, summarized
from diagnose.render.lines import Line
from diagnose.render.names import clean, fit_module
from diagnose.schema import Document
from diagnose.units import format_flops, format_ns, format_share

MOST_MODULES: Final = 8
_OUTSIDE: Final = "(outside any module)"
_NUMBERS: Final = 46
_MOSTLY: Final = 0.5
"""A gap is shown where it is about at least this share of the module's time."""


def module_lines(document: Document, width: int, count: int = MOST_MODULES) -> list[Line]:
    """A heading and at most ``count`` modules, layers of a stack as one; nothing where no module is known."""
    nodes = summarized(module_tree(document, fold=True), count)
    if not nodes:
        return []
    names = [clean(node.path) if node.path is not None else _OUTSIDE for node in nodes]
    room = min(max(map(len, [*names, "module"])), width - _NUMBERS)
    heading = f"{'By module':{room}} {'time':>8} {'share':>6} {'kernels':>8} {'work':>11} {'gap':>8}"
    return [
        Line(heading.rstrip(), style="bold"),
        *(Line(_line(node, fit_module(name, room).ljust(room))) for node, name in zip(nodes, names, strict=True)),
    ]


def _line(node: ModuleNode, name: str) -> str:
    flops = "?" if node.flops is None else format_flops(node.flops)
    is_known = node.gap_ns is not None and node.gap_of_ns >= _MOSTLY * node.time_ns
    gap = format_ns(node.gap_ns) if is_known and node.gap_ns is not None else "?"
    return f"{name} {format_ns(node.time_ns):>8} {format_share(node.share):>6} {node.calls:>8} {flops:>11} {gap:>8}"
