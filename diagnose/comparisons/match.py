"""Which kernel rows of two reports are the same work: by op, shape and place, never by a kernel's name alone.

Names change between versions and devices, shapes with the batch, lines with every edit. So rows are matched in passes
from what says most to what says least, each among what the stricter ones left over. Where several rows of a side share
the key of a pass, all of them are one match: who is whose counterpart inside it is not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from diagnose.schema import KernelRow, Place, Signature

Key = Callable[[KernelRow], Hashable]


@dataclass(frozen=True, slots=True)
class Match:
    """The same work in both; indices into the two reports' kernel rows. One side is empty for new and gone work."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    by: str | None


def match_rows(before: Sequence[KernelRow], after: Sequence[KernelRow]) -> list[Match]:
    """Every row of both in exactly one match."""
    common = _sizes(before) & _sizes(after)
    left = (set(range(len(before))), set(range(len(after))))
    matches: list[Match] = []
    for by, key in _passes(common):
        old, new = _by_key(before, left[0], key), _by_key(after, left[1], key)
        for shared in [found for found in old if found in new]:
            matches.append(Match(tuple(old[shared]), tuple(new[shared]), by))
            left[0].difference_update(old[shared])
            left[1].difference_update(new[shared])
    gone = [Match(tuple(rows), (), None) for rows in _by_key(before, left[0], _whole).values()]
    new_work = [Match((), tuple(rows), None) for rows in _by_key(after, left[1], _whole).values()]
    return [*matches, *gone, *new_work]


def _passes(common: frozenset[int]) -> list[tuple[str, Key]]:
    """What makes two rows the same work, the strictest first; a key of None is like nothing."""

    def known(*parts: Hashable) -> Hashable:
        return None if any(part is None for part in parts) else parts

    return [
        ("kernel, op, arguments and place", lambda row: (row.kernel, row.op, _arguments(row), _places(row))),
        ("kernel, op and arguments", lambda row: known(row.kernel, row.op, _arguments(row))),
        ("op, shapes and place", lambda row: known(row.op, _shapes(row), _places(row))),
        ("kernel, op and shapes", lambda row: known(row.kernel, row.op, _shapes(row))),
        ("op and shapes", lambda row: known(row.op, _shapes(row))),
        ("op and place; its shapes differ", lambda row: known(row.op, _places(row))),
        ("op and the sizes that did not change", lambda row: known(row.op, _pattern(row, common))),
        ("kernel and op", lambda row: known(row.kernel, row.op)),
        ("op", lambda row: row.op),
        ("kernel", lambda row: row.kernel),
    ]


def _by_key(rows: Sequence[KernelRow], left: set[int], key: Key) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = {}
    for index in sorted(left):
        value = key(rows[index])
        if value is not None:
            found.setdefault(value, []).append(index)
    return found


def _whole(row: KernelRow) -> Hashable:
    return (row.kernel, row.op, _arguments(row), _places(row))


def main_place(row: KernelRow) -> Place | None:
    """Where most of the row's time was spent."""
    return max(row.places, key=lambda place: place.time_ns, default=None)


def place_of(row: KernelRow) -> str | None:
    """The module, else the source line: a module keeps its name when lines are added above it."""
    return _named(main_place(row))


def _named(place: Place | None) -> str | None:
    return None if place is None else place.module or place.line or place.caller


def _places(row: KernelRow) -> Hashable:
    """All of a row's places: which of several equal layers took most of the time is chance."""
    return frozenset(name for place in row.places if (name := _named(place)) is not None) or None


def _arguments(row: KernelRow) -> Hashable:
    """Everything that was recorded of the arguments, as one value."""
    signature = row.signature
    if signature is None:
        return None
    return repr((signature.shapes, signature.dtypes, signature.strides, signature.args))


def _shapes(row: KernelRow) -> Hashable:
    return None if row.signature is None else repr((row.signature.shapes, row.signature.dtypes))


def _sizes(rows: Sequence[KernelRow]) -> frozenset[int]:
    return frozenset(size for row in rows if row.signature is not None for size in _flat(row.signature))


def _flat(signature: Signature) -> list[int]:
    found: list[int] = []
    for shape in signature.shapes:
        for size in shape or ():
            found += size if isinstance(size, list) else [size]
    return found


def _pattern(row: KernelRow, common: frozenset[int]) -> Hashable:
    """The shapes with ``*`` for sizes that only one of the reports has: what a changed batch leaves of a signature."""
    if row.signature is None:
        return None

    def kept(size: int | list[int]) -> object:
        return [kept(one) for one in size] if isinstance(size, list) else size if size in common else "*"

    return repr([None if shape is None else [kept(size) for size in shape] for shape in row.signature.shapes])
