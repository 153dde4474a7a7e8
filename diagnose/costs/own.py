"""The user's own formulas: ``@diagnose.cost("mylib::op")``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from diagnose import costs
from diagnose.costs import registry
from diagnose.costs.registry import Formula, Phase
from diagnose.errors import UsageError
from diagnose.work import MissingFactError, Op, Work, flops_of

OwnFormula = TypeVar("OwnFormula", bound=Callable[[Op], Any])

_LONGEST = 200
"""Characters kept of what an exception says."""
_EXAMPLE = '@diagnose.cost("mylib::op")'


def cost(*names: str, unless_child: tuple[str, ...] = (), override: bool = False) -> Callable[[OwnFormula], OwnFormula]:
    """Registers a formula for your own ops: what one call must do, from its recorded arguments.

    The formula takes the call as an ``Op`` and returns ``Work``. It sees one distinct call, and is asked once for it.
    What it raises never reaches your program: the op stays without known work, and the report says why.

    Args:
        names: Ops as a trace names them: ``"mylib::op"``, or the class of a ``torch.autograd.Function``.
        unless_child: Ops that do this op's work for it where they were recorded below it.
        override: Take the place of a formula that exists. The same function may always take its own place.

    Raises:
        UsageError: There are no names, or one of them has a formula already.
    """
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UsageError(f"cost takes the names of ops: {_EXAMPLE}")

    def register(formula: OwnFormula) -> OwnFormula:
        costs.load()  # ours first, so that a name that both have is noticed here
        checked = _checked(formula)
        replaces = override or all(_is_same(registry.formula_of(name), formula) for name in names)
        try:
            registry.cost(*names, unless_child=unless_child, override=replaces)(checked)
        except ValueError as error:
            raise UsageError(f"{error}; to replace it: override=True") from error
        return formula

    return register


def _is_same(registered: Formula | None, formula: Callable[[Op], Any]) -> bool:
    """Whether it is the same function again, as when a notebook's cell runs twice."""
    theirs = getattr(registered, "__wrapped__", None)
    return theirs is not None and _identity(theirs) == _identity(formula)


def _identity(function: Any) -> tuple[Any, Any]:
    return getattr(function, "__module__", None), getattr(function, "__qualname__", id(function))


def _checked(formula: Callable[[Op], Any]) -> Formula:
    """The formula with whatever it raises, or returns wrongly, as a reason."""

    @wraps(formula)
    def priced(op: Op) -> Work | tuple[Phase, ...]:
        try:
            found = formula(op)
            return _phases(found) if isinstance(found, tuple) else _whole(found)
        except MissingFactError:
            raise
        except Exception as error:
            said = str(error).partition("\n")[0][:_LONGEST]
            raise MissingFactError(f"your formula for {op.name}: {type(error).__name__}: {said}") from error

    return priced


def _phases(found: tuple[Any, ...]) -> tuple[Phase, ...]:
    if not found or not all(isinstance(phase, Phase) for phase in found):
        raise TypeError("a tuple that it returns has to hold Phase")
    return tuple(Phase(_whole(phase.work), phase.pattern, phase.is_extra) for phase in found)


def _whole(found: Any) -> Work:
    """The work in whole numbers; raises for what is no work."""
    if not isinstance(found, Work):
        raise TypeError(f"it has to return Work, not {type(found).__name__}")
    pairs = found.flops.items() if isinstance(found.flops, Mapping) else found.flops
    counts: dict[str, int] = {}
    for resource, count in pairs or ():
        counts[str(resource)] = counts.get(str(resource), 0) + _count(count, "flops")
    return Work(
        None if pairs is None else flops_of(counts),
        None if found.bytes_read is None else _count(found.bytes_read, "bytes_read"),
        None if found.bytes_written is None else _count(found.bytes_written, "bytes_written"),
        _count(found.extra_bytes, "extra_bytes"),
        "formula",
        bool(found.is_bound),
    )


def _count(value: Any, name: str) -> int:
    whole = int(value)
    if whole != value or whole < 0:
        raise ValueError(f"{name} is {value}: it has to be a whole number, not negative")
    return whole
