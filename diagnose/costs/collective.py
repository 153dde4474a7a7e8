"""What a collective moves, from what is recorded of it (``Trace.metadata``, in our words).

Two different amounts: the bytes that this rank reads and writes in its own memory (``collective_work``), and those that
must cross a link of this rank (``link_bytes``: the message times the factor that bus bandwidths are defined by). Two
rates, as nccl-tests defines them: the algorithm's (message over time), and the bus's (link bytes over time), which
alone can be compared with what a link can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from diagnose.work import ITEMSIZE, Work

Metadata = Mapping[str, str | int]

_REDUCING: Final = ("reduce",)
_EXCHANGES: Final = ("all_gather", "allgather", "reduce_scatter", "reducescatter", "all_to_all", "alltoall")
_PASSING: Final = ("broadcast", "reduce", "send", "recv", "gather", "scatter")


def _count(metadata: Metadata, key: str) -> int | None:
    try:
        value = int(metadata[key])
    except (KeyError, TypeError, ValueError):
        return None
    return value if value >= 0 else None


def _itemsize(metadata: Metadata) -> int | None:
    return ITEMSIZE.get(str(metadata.get("dtype", "")))


def _name(metadata: Metadata) -> str:
    return str(metadata.get("collective", "")).lower().strip("_")


def link_factor(name: str, ranks: int) -> Fraction | None:
    """Bytes over the slowest link of a rank, a byte of message; None for an operation that we do not know.

    All-reduce 2 (n - 1) / n, all-gather, reduce-scatter and all-to-all (n - 1) / n, the others 1 (nccl-tests,
    doc/PERFORMANCE.md). One rank moves nothing.
    """
    if ranks < 1:
        return None
    if "allreduce" in name or "all_reduce" in name:
        return Fraction(2 * (ranks - 1), ranks)
    if any(word in name for word in _EXCHANGES):
        return Fraction(ranks - 1, ranks)
    if any(word in name for word in _PASSING):
        return Fraction(min(ranks - 1, 1))
    return None


def message_bytes(metadata: Metadata) -> int | None:
    """The message: the larger of what goes in and what comes out (an all-gather's output, a reduce-scatter's input)."""
    size, read, written = _itemsize(metadata), _count(metadata, "elements_in"), _count(metadata, "elements_out")
    return None if size is None or read is None or written is None else max(read, written) * size


def link_bytes(metadata: Metadata) -> int | None:
    """Bytes over a link of this rank, rounded up; None where the metadata does not say."""
    message, ranks = message_bytes(metadata), _count(metadata, "group_size")
    factor = None if ranks is None else link_factor(_name(metadata), ranks)
    return None if message is None or factor is None else -(-message * factor.numerator // factor.denominator)


def algorithm_bytes_per_s(metadata: Metadata, duration_ns: float) -> float | None:
    """The message over the time; None where either is not known."""
    message = message_bytes(metadata)
    return None if message is None or duration_ns <= 0 else message / (duration_ns / 1e9)


def bus_bytes_per_s(metadata: Metadata, duration_ns: float) -> float | None:
    """What crossed a link of this rank over the time; None where the ranks, the message or the time are not known."""
    crossed = link_bytes(metadata)
    return None if crossed is None or duration_ns <= 0 else crossed / (duration_ns / 1e9)


def collective_work(metadata: Metadata) -> Work | None:
    """Traffic in this rank's own memory: the input read once, the output written once.

    FLOPs: none where nothing is reduced; else unknown (a ring, a tree and a switch add in different places)
    Bytes: input elements read, output elements written
    """
    size, read, written = _itemsize(metadata), _count(metadata, "elements_in"), _count(metadata, "elements_out")
    if size is None or read is None or written is None:
        return None
    reduces = any(word in _name(metadata) for word in _REDUCING)
    return Work(None if reduces else (), read * size, written * size, source="collective")
