"""What NVIDIA's management library tells of a card: driver, power limit, clocks, who else is on it.

The library is an extra (``nvidia-ml-py``), imported when used; without it, or without a driver, all of this is unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

THROTTLE_BITS: Final = {
    0x2: "clocks set by an application",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown (software)",
    0x40: "thermal slowdown (hardware)",
    0x80: "power brake (hardware)",
    0x100: "display clocks",
}
"""NVML's bits by meaning (nvml.h, nvmlClocksEventReason); bit 0x1, idle, is no reason."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a card. None is what it did not tell."""

    clock_hz: float | None
    power_w: float | None
    temperature_c: float | None
    throttle_bits: int | None
    process_ids: tuple[int, ...] | None
    utilization: float | None


class Card:
    """One card, by the UUID that torch gives without its prefix."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle

    @property
    def driver(self) -> str | None:
        """The driver's version."""
        found: str | None = self._ask(lambda: _text(self._library.nvmlSystemGetDriverVersion()))
        return found

    @property
    def power_limit_w(self) -> int | None:
        """The power limit in force."""
        found: int | None = self._ask(lambda: round(self._library.nvmlDeviceGetEnforcedPowerLimit(self._handle) / 1e3))
        return found

    def sample(self) -> Sample:
        """Looks at the card as it is now."""
        library, handle = self._library, self._handle
        return Sample(
            self._ask(lambda: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM) * 1e6),
            self._ask(lambda: library.nvmlDeviceGetPowerUsage(handle) / 1e3),
            self._ask(lambda: float(library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU))),
            self._ask(lambda: int(library.nvmlDeviceGetCurrentClocksThrottleReasons(handle))),
            self._ask(lambda: tuple(each.pid for each in library.nvmlDeviceGetComputeRunningProcesses(handle))),
            self._ask(lambda: library.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
        )

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except (self._library.NVMLError, AttributeError, TypeError, ValueError):  # not on this card, or not told to us
            return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def find_card(uuid: str) -> Card | None:
    """The card with this UUID; None without the library, without a driver, or for a slice of a card."""
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
    except pynvml.NVMLError:
        return None
    return Card(pynvml, handle)


def throttle_words(bits: int) -> tuple[str, ...]:
    """The reasons that are set."""
    return tuple(word for bit, word in THROTTLE_BITS.items() if bits & bit)
