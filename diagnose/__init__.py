"""torch-diagnose: what limits a PyTorch step, where in the code, and what to try first.

The names below are the public ones. Each is imported when first used, so that ``import diagnose`` takes no torch,
pandas or matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diagnose.errors import DiagnoseError, TraceError, UnknownDeviceError, UsageError

if TYPE_CHECKING:
    from diagnose.calibrating import Calibration as Calibration
    from diagnose.calibrating import calibrate as calibrate
    from diagnose.comparisons.comparison import Comparison as Comparison
    from diagnose.comparisons.comparison import compare as compare
    from diagnose.costs.own import cost as cost
    from diagnose.live.session import measure as measure
    from diagnose.live.session import on_trace_ready as on_trace_ready
    from diagnose.live.session import profile as profile
    from diagnose.ranks.report import RanksReport as RanksReport
    from diagnose.ranks.report import read_ranks as read_ranks
    from diagnose.reading import read as read
    from diagnose.report import Report as Report
    from diagnose.sweeps.sweep import Scaling as Scaling
    from diagnose.sweeps.sweep import scaling as scaling
    from diagnose.work import Op as Op
    from diagnose.work import TensorMeta as TensorMeta
    from diagnose.work import Work as Work

_LAZY = {
    "load_ipython_extension": "diagnose.integrations.ipython",
    "Calibration": "diagnose.calibrating",
    "calibrate": "diagnose.calibrating",
    "Comparison": "diagnose.comparisons.comparison",
    "compare": "diagnose.comparisons.comparison",
    "Scaling": "diagnose.sweeps.sweep",
    "scaling": "diagnose.sweeps.sweep",
    "Op": "diagnose.work",
    "RanksReport": "diagnose.ranks.report",
    "Report": "diagnose.report",
    "TensorMeta": "diagnose.work",
    "Work": "diagnose.work",
    "cost": "diagnose.costs.own",
    "measure": "diagnose.live.session",
    "on_trace_ready": "diagnose.live.session",
    "profile": "diagnose.live.session",
    "read": "diagnose.reading",
    "read_ranks": "diagnose.ranks.report",
}

__all__ = [  # noqa: F822, RUF100
    "Calibration",
    "Comparison",
    "DiagnoseError",
    "Op",
    "RanksReport",
    "Report",
    "Scaling",
    "TensorMeta",
    "TraceError",
    "UnknownDeviceError",
    "UsageError",
    "Work",
    "calibrate",
    "compare",
    "cost",
    "measure",
    "on_trace_ready",
    "profile",
    "read",
    "read_ranks",
    "scaling",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'diagnose' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
