"""Which formula prices which op, and how an op's work is given to its kernels.

A formula is one short function ``formula(op) -> Work | tuple[Phase, ...]`` registered under the op's names. It sees
one distinct signature and no event. What it needs and the trace lacks is asked for through ``Op``'s accessors, whose
``MissingFactError`` becomes the reason why that op stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from diagnose.work import MissingFactError, Op, TensorMeta, Value, Work


class Phase(Struct, frozen=True):
    """A part of an op's work that one kind of kernel does.

    Attributes:
        work: What the phase does in all, over all of its kernels.
        pattern: Searched in the kernel's name; None claims every kernel that no other phase claims.
        is_extra: The price of an algorithm (layout change, split-k reduction): counted only if such a kernel ran,
            one kernel a phase, in launch order; its bytes are ``extra_bytes``.
    """

    work: Work
    pattern: re.Pattern[str] | None = None
    is_extra: bool = False


Formula = Callable[[Op], Work | tuple[Phase, ...]]


class Price(Struct, frozen=True):
    """What is known of an op.

    Attributes:
        phases: Its work; None where it is unknown.
        reason: Why it is unknown; where some of its work is a bound, what is missing.
    """

    phases: tuple[Phase, ...] | None
    reason: str | None = None


class KernelSignature(Struct, frozen=True):
    """One launched kernel as ``share`` sees it.

    Attributes:
        name: The kernel's full name.
        blocks: Thread blocks of its grid, None where not recorded.
        duration_ns: Used only to divide a phase among equal kernels without a grid.
    """

    name: str
    blocks: int | None
    duration_ns: int


_FORMULAS: dict[str, Formula] = {}
_CHILDREN: dict[str, frozenset[str]] = {}
_FREE: set[str] = set()
_GENERAL: list[tuple[int, Callable[[Op], bool], Formula]] = []
_MISSING: dict[str, str] = {}

_DEFAULT_MISSING: Final = "a bound: how much of its arguments it works on is not recorded"


def cost(
    *names: str, unless_child: tuple[str, ...] = (), missing: str = "", override: bool = False
) -> Callable[[Formula], Formula]:
    """Registers a formula for the ops ``names``; a name registered twice raises ValueError.

    Args:
        names: Ops with their namespace.
        unless_child: Ops that do this op's work for it where they appear below it (``aten::mean`` on a CPU is
            ``aten::sum`` and a division): then the op itself is free.
        missing: Of a formula that gives a bound: what is not recorded, as a sentence for people.
        override: Take the place of what is registered, instead of raising.
    """

    def register(formula: Formula) -> Formula:
        taken = [name for name in names if name in _FORMULAS or name in _FREE]
        if taken and not override:
            raise ValueError(f"{taken[0]} has a formula already")
        for name in names:
            _forget(name)
            _FORMULAS[name] = formula
            if unless_child:
                _CHILDREN[name] = frozenset(unless_child)
            if missing:
                _MISSING[name] = missing
        return formula

    return register


def _forget(name: str) -> None:
    _FREE.discard(name)
    for table in (_FORMULAS, _CHILDREN, _MISSING):
        table.pop(name, None)


def formula_of(name: str) -> Formula | None:
    """The formula registered for the op."""
    return _FORMULAS.get(name)


def cost_where(applies: Callable[[Op], bool], rank: int = 0) -> Callable[[Formula], Formula]:
    """Registers a formula for ops that no name tells: generated kernels, ops of which the outputs were kept.

    Args:
        applies: Whether the formula is for this op.
        rank: Lower ones are asked first; ops with a formula of their own are never asked about.
    """

    def register(formula: Formula) -> Formula:
        _GENERAL.append((rank, applies, formula))
        _GENERAL.sort(key=lambda entry: entry[0])
        return formula

    return register


def free(*names: str) -> None:
    """Registers ops that move and compute nothing (views, allocation, wrappers); twice raises ValueError."""
    for name in names:
        if name in _FORMULAS or name in _FREE:
            raise ValueError(f"{name} has a formula already")
        _FREE.add(name)


def is_free(name: str) -> bool:
    """Whether the op is known to do nothing itself."""
    return name in _FREE


def is_priced(name: str) -> bool:
    """Whether a formula is registered for the op."""
    return name in _FORMULAS


def workers_of(name: str) -> frozenset[str]:
    """The ops that do this op's work for it where they appear below it."""
    return _CHILDREN.get(name, frozenset())


def price(op: Op) -> Price:
    """The phases of ``op``, or why they are unknown. Never raises for what a trace may hold."""
    formula = _FORMULAS.get(op.name) or next((general for _, applies, general in _GENERAL if applies(op)), None)
    if formula is None:
        return Price(None, "no formula for this op")
    try:
        found = formula(op)
    except MissingFactError as missing:
        return Price(None, str(missing))
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        # A signature that contradicts the op's schema (hostile or newer trace) is an unknown, not a crash.
        return Price(None, f"unexpected arguments ({type(error).__name__})")
    phases = found if isinstance(found, tuple) else (Phase(found),)
    if not all(_is_possible(phase.work) for phase in phases):
        return Price(None, "unexpected arguments (less than nothing to do)")
    is_bound = any(phase.work.is_bound for phase in phases)
    return Price(phases, _MISSING.get(op.name, _DEFAULT_MISSING) if is_bound else None)


def _is_possible(work: Work) -> bool:
    counts = [
        work.bytes_read or 0,
        work.bytes_written or 0,
        work.extra_bytes,
        *(count for _, count in work.flops or ()),
    ]
    return min(counts) >= 0


def bound_by_inputs(op: Op, reason: str) -> Price:
    """A lower bound for an op whose work is unknown: each recorded tensor passes once between memory and the device.

    FLOPs: unknown
    Bytes: every recorded tensor read once (an output that was passed in is written instead: as many bytes)
    Assumes: none is a table or a cache of which only some rows are touched; placing it under the roof shows that

    Args:
        op: What ran.
        reason: Why its work is unknown.
    """
    sizes = [tensor.distinct_numel * tensor.itemsize for tensor in _recorded(op.inputs) if tensor.itemsize]
    if not sum(sizes) or min(sizes) < 0:
        return Price(None, reason)
    work = Work(None, sum(sizes), 0, source="inputs", is_bound=True)
    return Price((Phase(work),), f"{reason}: a lower bound, its recorded tensors once each")


def _recorded(values: tuple[Value, ...] | None) -> Iterator[TensorMeta]:
    for value in values or ():
        if isinstance(value, TensorMeta):
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if isinstance(item, TensorMeta))
