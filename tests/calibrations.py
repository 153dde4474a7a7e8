"""Small calibrations for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec

from diagnose.calibrations.calibrated import Calibrated, Conditions, Identity
from diagnose.schema import Ceiling


class QuietWatch:
    """Stands in for ``CpuWatch``: what a test finds must not depend on what else this machine does."""

    conditions = Conditions(load_average=0.1, processors=2, other_cores=0.0, stolen=0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


CPU: Final = Identity(kind="cpu", name="AMD EPYC", uuid="m", torch="2.13.0", threads=2)
H100: Final = Identity(
    kind="gpu", name="NVIDIA H100 80GB HBM3", uuid="u", driver="570.1", torch="2.13.0", power_limit_w=700,
    sms=132, memory_bytes=85_000_000_000,
)  # fmt: skip


def ceiling(
    resource: str, value: float, low: float | None = None, high: float | None = None, device: str = "cpu"
) -> Ceiling:
    return Ceiling(device, resource, value, None, low, high, "measured", "a probe, median of 7 runs")


def calibrated(rows: Sequence[Ceiling], identity: Identity = CPU, **changes: Any) -> Calibrated:
    made = Calibrated(
        identity=identity, epoch_s=1_790_000_000, seconds=8.0, is_quick=True, probes=(), ceilings=tuple(rows)
    )
    return msgspec.structs.replace(made, **changes)
