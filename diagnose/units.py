"""The only place where numbers become text for people. Everything inside is in base units."""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def _scaled(value: float, unit: str, factor: float = 1000.0) -> str:
    magnitude = abs(value)
    index = 0
    while magnitude >= factor * 0.9995 and index < len(_PREFIXES) - 1:
        magnitude /= factor
        index += 1
    return f"{_three_digits(magnitude if value >= 0 else -magnitude)} {_PREFIXES[index]}{unit}"


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def format_ns(ns: float | None) -> str:
    """``1234567`` -> ``1.23 ms``; None -> ``?``."""
    if ns is None:
        return "?"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= size * 0.9995:
            return f"{_three_digits(ns / size)} {unit}"
    return f"{ns:.0f} ns"


def format_bytes(count: float | None) -> str:
    """Decimal prefixes, as bandwidths have them; None -> ``?``."""
    return "?" if count is None else _scaled(count, "B")


def format_bytes_per_s(rate: float | None) -> str:
    """``3.35e12`` -> ``3.35 TB/s``; None -> ``?``."""
    return "?" if rate is None else _scaled(rate, "B/s")


def format_flops(count: float | None) -> str:
    """A count of operations; None -> ``?``."""
    return "?" if count is None else _scaled(count, "FLOP")


def format_flops_per_s(rate: float | None) -> str:
    """``9.895e14`` -> ``990 TFLOP/s``; None -> ``?``."""
    return "?" if rate is None else _scaled(rate, "FLOP/s")


def format_share(share: float | None) -> str:
    """A fraction as whole percent, with one decimal below 10 %; None -> ``?``."""
    if share is None:
        return "?"
    percent = 100 * share
    return f"{percent:.1f} %" if 0 < abs(percent) < 9.95 else f"{percent:.0f} %"
