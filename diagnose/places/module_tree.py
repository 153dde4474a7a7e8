"""The kernel table by module: what each part of a model costs, and what it could cost less.

A row's FLOPs, bytes and gap go to its places by their calls and time, since all calls of a row have the same work.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field

from diagnose.schema import Document, KernelRow, Place

_NUMBERED: Final = re.compile(r"_\d+$")
_SMALL_REST: Final = 0.05
_SMALLEST_SHARE: Final = 0.01


class ModuleNode(Struct, frozen=True):
    """One module of a model, with everything inside it.

    Attributes:
        path: Its path, ``GPT2.transformer.h.3``; None for what was called outside any module, or is not known.
        depth: How many modules of the tree are around it.
        calls: Of kernels.
        time_ns: Of kernels, in it and in the modules inside it.
        own_ns: Of kernels, outside the modules inside it.
        share: ``time_ns`` of all kernel time.
        flops, bytes_accessed: Over all calls; None unless known of all of its kernels.
        gap_ns: What its kernels could be shorter by, the middle estimate; None where not known of any of them.
        gap_of_ns: How much of ``time_ns`` that estimate is about.
    """

    path: str | None
    depth: int
    calls: int
    time_ns: int
    own_ns: int
    share: float
    flops: int | None
    bytes_accessed: int | None
    gap_ns: int | None
    gap_of_ns: int


class _Sums(Struct):
    """What is added up for one path; a None among FLOPs or bytes makes the sum unknown."""

    calls: int = 0
    time_ns: int = 0
    own_ns: int = 0
    flops: list[int | None] = field(default_factory=list)
    bytes_accessed: list[int | None] = field(default_factory=list)
    gap_ns: float = 0.0
    gap_of_ns: int = 0


def module_tree(document: Document, *, phase: str | None = None, fold: bool = False) -> list[ModuleNode]:
    """Every module of a report, each before those inside it, of one parent the one with most time first.

    Empty where no module is known.

    Args:
        document: The report.
        phase: Only this phase's part; ``share`` stays of all kernel time.
        fold: Take the layers of a stack as one: ``GPT2.h.*.mlp``.
    """
    if not any(place.module for row in document.kernels for place in row.places):
        return []
    sums: defaultdict[str | None, _Sums] = defaultdict(_Sums)
    total = sum(row.time_ns for row in document.kernels)
    for row in document.kernels:
        for place in row.places or [Place(None, None, None, None, row.calls, row.time_ns)]:
            if phase is None or place.phase == phase:
                _add(sums, row, place, folded(place.module) if fold and place.module else place.module)
    return [
        ModuleNode(
            path,
            depth,
            found.calls,
            found.time_ns,
            found.own_ns,
            found.time_ns / max(1, total),
            _sum(found.flops),
            _sum(found.bytes_accessed),
            round(found.gap_ns) if found.gap_of_ns else None,
            found.gap_of_ns,
        )
        for path, depth in _ordered(sums)
        for found in (sums[path],)
    ]


def folded(path: str) -> str:
    """``GPT2.h.3.mlp`` -> ``GPT2.h.*.mlp``; classes numbered as they were called, ``Layer_3``, -> ``Layer_*``."""
    return ".".join("*" if part.isdigit() else _NUMBERED.sub("_*", part) for part in path.split("."))


def _add(sums: defaultdict[str | None, _Sums], row: KernelRow, place: Place, module: str | None) -> None:
    moved = None if row.bytes_read is None or row.bytes_written is None else row.bytes_read + row.bytes_written
    paths = [None] if module is None else list(_with_outer(module))
    for path in paths:
        found = sums[path]
        found.calls += place.calls
        found.time_ns += place.time_ns
        found.own_ns += place.time_ns if path == paths[-1] else 0
        found.flops.append(None if row.flops is None else row.flops * place.calls)
        found.bytes_accessed.append(None if moved is None else moved * place.calls)
        if row.gap_ns is not None and row.time_ns:
            found.gap_ns += row.gap_ns.mid * place.time_ns / row.time_ns
            found.gap_of_ns += place.time_ns


def _with_outer(path: str) -> Iterable[str]:
    """``a.b.c`` -> ``a``, ``a.b``, ``a.b.c``."""
    parts = path.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _ordered(sums: defaultdict[str | None, _Sums]) -> list[tuple[str | None, int]]:
    """Paths depth first with their depth; what belongs to no module is one more tree."""
    children: defaultdict[str, list[str]] = defaultdict(list)
    tops: list[str | None] = []
    for path in sums:
        outer = None if path is None else path.rpartition(".")[0]
        if path is None or not outer:
            tops.append(path)
        else:
            children[outer].append(path)
    ordered: list[tuple[str | None, int]] = []
    pending: list[tuple[str | None, int]] = [(path, 0) for path in _smallest_first(sums, tops)]
    while pending:
        path, depth = pending.pop()
        ordered.append((path, depth))
        inner = children[path] if path is not None else []
        pending.extend((child, depth + 1) for child in _smallest_first(sums, inner))
    return ordered


def _smallest_first(sums: defaultdict[str | None, _Sums], paths: Iterable[str | None]) -> list[str | None]:
    return sorted(paths, key=lambda path: (sums[path].time_ns, path is None, path or ""))


def summarized(nodes: list[ModuleNode], count: int) -> list[ModuleNode]:
    """The ``count`` modules that say most, in the tree's order: each is opened while that tells its parts apart.

    Starts with the outermost modules and opens the one with most time, again and again, as long as what is shown fits:
    an opened module gives way to those inside it, and stays only where it spends much outside them. Modules of less
    than a hundredth of the kernel time are left out.
    """
    nodes = [node for node in nodes if node.share >= _SMALLEST_SHARE]
    inside: defaultdict[str, list[ModuleNode]] = defaultdict(list)
    for node in nodes:
        if node.depth and node.path is not None:
            inside[node.path.rpartition(".")[0]].append(node)
    shown = {node.path: node for node in nodes if node.depth == 0}
    closed = dict(shown)
    while closed:
        largest = max(closed.values(), key=lambda node: node.time_ns)
        del closed[largest.path]
        inner = inside.get(largest.path or "", [])
        replaces = 1 if inner and largest.own_ns <= _SMALL_REST * largest.time_ns else 0
        if not inner or len(shown) + len(inner) - replaces > count:
            continue
        if replaces:
            del shown[largest.path]
        shown.update((node.path, node) for node in inner)
        closed.update((node.path, node) for node in inner)
    return [node for node in nodes if node.path in shown][:count]
