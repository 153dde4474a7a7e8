"""What a kernel's inputs owe to the kernels just before it: the cache may still hold what they touched last.

A recording has no addresses, so that a tensor is told by its size: an earlier kernel that wrote as many bytes as this
one reads is taken for the producer, if not more than the cache holds has passed since. That can be wrong in favour of
a kernel, never by more than the cache holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from msgspec import Struct

from diagnose.limits import Limits
from diagnose.roofs.question import Reuse


class Access(Struct, frozen=True):
    """What an earlier kernel touched.

    Attributes:
        name: The kernel's.
        traffic: Bytes read and written, None where unknown.
        written: Bytes written.
        read: Bytes of each tensor that it read.
    """

    name: str
    traffic: int | None
    written: int
    read: tuple[int, ...] = ()


def reusable(inputs: Sequence[int], earlier: Iterable[Access], room: float, limits: Limits) -> Reuse | None:
    """How much of a kernel's inputs a cache may hold.

    Args:
        inputs: Bytes of each tensor that the kernel reads.
        earlier: What ran before it, the latest first.
        room: Bytes that the cache holds of what was touched last.
        limits: Constants of the classifier.

    Returns:
        None where nothing was found, and what ran before is not known far enough to say that there is nothing.
    """
    wanted = [size for size in inputs if size > 0]
    found: list[tuple[float, str, bool]] = []
    passed, is_known = 0.0, False
    for access in islice(earlier, limits.look_back):
        if access.traffic is None:
            break
        # The cache keeps the last bytes that went by, of everything that the kernel touched alike.
        kept = min(1.0, (room - passed) / access.traffic) if access.traffic else 1.0
        for touched, is_written in [(access.written, True), *((size, False) for size in access.read)]:
            match = next((size for size in wanted if abs(size - touched) <= limits.same_bytes * size), None)
            if match is not None:
                wanted.remove(match)
                found.append((match * kept, access.name, is_written))
        passed += access.traffic
        if passed >= room or not wanted:
            is_known = True
            break
    if not found:
        return Reuse(0) if is_known else None
    _, by, is_written = max(found)
    return Reuse(round(sum(size for size, _, _ in found)), by, is_written)
