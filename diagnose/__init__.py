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
    from diagnose.costs.own import cost as cost
    from diagnose.reading import read as read
    from diagnose.report import Report as Report
    from diagnose.session import measure as measure
    from diagnose.session import on_trace_ready as on_trace_ready
    from diagnose.session import profile as profile
    from diagnose.work import Op as Op
    from diagnose.work import TensorMeta as TensorMeta
    from diagnose.work import Work as Work

_LAZY = {
    "Calibration": "diagnose.calibrating",
    "calibrate": "diagnose.calibrating",
    "Op": "diagnose.work",
    "Report": "diagnose.report",
    "TensorMeta": "diagnose.work",
    "Work": "diagnose.work",
    "cost": "diagnose.costs.own",
    "measure": "diagnose.session",
    "on_trace_ready": "diagnose.session",
    "profile": "diagnose.session",
    "read": "diagnose.reading",
}

__all__ = [  # noqa: F822, RUF100
    "Calibration",
    "DiagnoseError",
    "Op",
    "Report",
    "TensorMeta",
    "TraceError",
    "UnknownDeviceError",
    "UsageError",
    "Work",
    "calibrate",
    "cost",
    "measure",
    "on_trace_ready",
    "profile",
    "read",
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
