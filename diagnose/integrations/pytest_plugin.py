"""A marker that holds a step to its budget: ``@pytest.mark.diagnose(step_time="12 ms", idle="10%")``.

Off unless asked for with ``pytest --diagnose``: timings belong on a quiet machine of a known kind. The marked test
hands its step to the fixture ``diagnose_step``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from diagnose.report import Report

_BUDGET: Final = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(\S*)\s*", re.IGNORECASE)
_UNITS: Final = {"": 1.0, "ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9, "KB": 1e3, "MB": 1e6, "GB": 1e9, "B": 1.0}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--diagnose``."""
    parser.addoption("--diagnose", action="store_true", help="hold steps marked with `diagnose` to their budgets")


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line(
        "markers", "diagnose(step_time='12 ms', idle='10%', ...): budgets of the step given to `diagnose_step`"
    )


@pytest.fixture
def diagnose_step(request: pytest.FixtureRequest) -> Callable[..., Report | None]:
    """Call it with a step and its arguments; with ``--diagnose`` the step is measured and held to its marker's budgets.

    Without ``--diagnose`` it only runs the step, once, and gives None.
    """

    def hold(step: Callable[..., object], *args: Any, warmup: int = 3, repeat: int = 5, **kwargs: Any) -> Report | None:
        if not request.config.getoption("--diagnose"):
            step(*args, **kwargs)
            return None
        from diagnose.live.session import measure

        report = measure(step, args, kwargs, warmup=warmup, repeat=repeat)
        marker = request.node.get_closest_marker("diagnose")
        exceeded = [] if marker is None else _exceeded(report, marker.kwargs)
        if exceeded:
            pytest.fail("\n".join([*exceeded, "", str(report)]), pytrace=False)
        return report

    return hold


def _exceeded(report: Report, budgets: dict[str, Any]) -> list[str]:
    """A sentence for each budget that the report does not keep."""
    from diagnose.comparisons.quantities import SHOWN, is_quantity, quantity_of
    from diagnose.steady import spread_of, step_times
    from diagnose.units import format_ns, format_share

    steps = spread_of(step_times(report.document))  # with the profiler, as the parts are
    step_ns = None if steps is None else steps.middle
    found = []
    for name, budget in budgets.items():
        if not is_quantity(name):
            raise pytest.UsageError(f"diagnose marker: there is no {name!r}; there are {', '.join(SHOWN)}")
        limit, is_share = _limit(name, budget)
        quantity = quantity_of(report.document, report.document, name)
        value = quantity.before
        if is_share:
            value = None if value is None or not step_ns or quantity.unit != "ns" else value / step_ns
        if value is None:
            found.append(f"{name} is not known, its budget is {budget}")
        elif value > limit:
            words = format_share(value) if is_share else format_ns(value) if quantity.unit == "ns" else f"{value:g}"
            found.append(f"{name} is {words}, its budget is {budget}")
    return found


def _limit(name: str, budget: Any) -> tuple[float, bool]:
    """A budget in base units, or as a share of the step."""
    matched = _BUDGET.fullmatch(str(budget))
    if matched is None or matched[2] not in (*_UNITS, "%"):
        raise pytest.UsageError(f"diagnose marker: {name}={budget!r} is no budget; write '12 ms', '10%' or a number")
    number = float(matched[1])
    return (number / 100, True) if matched[2] == "%" else (number * _UNITS[matched[2]], False)
