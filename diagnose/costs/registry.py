"""Which formula prices which op, and how an op's work is given to its kernels.

A formula is one short function ``formula(op) -> Work | tuple[Phase, ...]`` registered under the op's names. It sees
one distinct signature and no event. What it needs and the trace lacks is asked for through ``Op``'s accessors, whose
``MissingFactError`` becomes the reason why that op stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from diagnose.work import MissingFactError, Op, Work


@dataclass(frozen=True, slots=True)
class Phase:
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


@dataclass(frozen=True, slots=True)
class Price:
    """What the registry knows of an op: its phases, or None and the reason."""

    phases: tuple[Phase, ...] | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class KernelSignature:
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


def cost(*names: str, unless_child: tuple[str, ...] = ()) -> Callable[[Formula], Formula]:
    """Registers a formula for the ops ``names``; a name registered twice raises ValueError.

    Args:
        names: Ops with their namespace.
        unless_child: Ops that do this op's work for it where they appear below it (``aten::mean`` on a CPU is
            ``aten::sum`` and a division): then the op itself is free.
    """

    def register(formula: Formula) -> Formula:
        for name in names:
            if name in _FORMULAS or name in _FREE:
                raise ValueError(f"{name} has a formula already")
            _FORMULAS[name] = formula
            if unless_child:
                _CHILDREN[name] = frozenset(unless_child)
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
    formula = _FORMULAS.get(op.name)
    if formula is None:
        return Price(None, "no formula for this op")
    try:
        found = formula(op)
    except MissingFactError as missing:
        return Price(None, str(missing))
    except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError) as error:
        # A signature that contradicts the op's schema (hostile or newer trace) is an unknown, not a crash.
        return Price(None, f"unexpected arguments ({type(error).__name__})")
    return Price(found if isinstance(found, tuple) else (Phase(found),))
