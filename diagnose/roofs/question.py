"""What is asked of the classifier: one row of the recording, and what the recording shows around it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from diagnose.work import Work

Kind = Literal["kernel", "copy", "set", "collective", "peer_copy", "host_copy", "self"]


class Reuse(Struct, frozen=True):
    """What of a kernel's inputs was touched so shortly before that the cache may still hold it.

    Attributes:
        bytes: Of its inputs, that may come from the cache.
        by: The kernel that wrote (or read) most of them last; None where ``bytes`` is 0.
        is_written: Whether that kernel wrote them.
    """

    bytes: int
    by: str | None = None
    is_written: bool = True


class Evidence(Struct, frozen=True):
    """What the recording shows of why a row may be far below its roof.

    Attributes:
        blocks: Thread blocks of the grid.
        tiles: Output tiles of a matrix product: more tiles than blocks is a persistent kernel.
        blocks_per_sm: How many blocks an SM holds at once.
        odd_sizes: Sizes that do not suit tensor cores, in words.
        strided: Why its accesses are not to neighbours, in words.
        shared: Share of its time in which other kernels ran on the device.
    """

    blocks: int | None = None
    tiles: int | None = None
    blocks_per_sm: int | None = None
    odd_sizes: tuple[str, ...] = ()
    strided: str | None = None
    shared: float = 0.0


class Question(Struct, frozen=True):
    """One row to place: everything per call.

    Attributes:
        kind: What ran; ``self`` is an op's own time on a CPU.
        work: None where unknown.
        duration_ns: Mean of the row's calls.
        kernel_name: As recorded; says which unit multiplied.
        evidence: Why it may be slow.
        allow_tf32: torch's switch for this op while recording; None where it was not kept.
        reuse: What the cache may hold of its inputs; None where nobody looked, or what ran before is not known.
        link: Resource of the link that communication uses; None takes the usual one of its kind.
        link_bytes: What crosses it (for a collective its bytes times the algorithm's factor); None where unknown.
        link_latency_ns: What the link takes for no bytes at all.
    """

    kind: Kind
    work: Work | None
    duration_ns: float
    kernel_name: str = ""
    evidence: Evidence = Evidence()
    allow_tf32: bool | None = None
    reuse: Reuse | None = None
    link: str | None = None
    link_bytes: float | None = None
    link_latency_ns: float = 0.0
