"""The probe kernels with the bound each was built to have, and how the dial is judged by measured time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from diagnose.kernels import gemm, link, polynomial, resident, special, stream
from diagnose.roofs.ceilings import Ceilings
from diagnose.roofs.question import Kind, Question
from diagnose.roofs.roofline import Placement, place
from diagnose.schema import Bound
from diagnose.work import Work

FLAT: Final = 0.25
"""How far the dial's times may be from flat on the memory side, from proportional to FLOPs on the compute side."""
KNEE: Final = 1.5
"""How far the knee between them may be from the ridge, as a factor."""
DIAL_STEPS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Built:
    """A probe of a size, by its hand-written work."""

    name: str
    bound: Bound
    work: Work
    seconds: Callable[[], list[float]]
    kind: Kind = "kernel"
    flag: str | None = None

    def placed(self, seconds: float, ceilings: Ceilings) -> Placement:
        """Where it stands, having taken that long."""
        moved = self.work.bytes_written if self.kind == "host_copy" else None
        question = Question(self.kind, self.work, seconds * 1e9, link_bytes=moved)
        return place(question, ceilings)


def gemm_probe(dtype: str, resource: str, shape: gemm.Shape, device: str) -> Built:
    given, made = gemm.DTYPES[dtype]
    m, n, k = shape
    work = Work(((resource, gemm.flops(shape)),), (m * k + k * n) * given.itemsize, m * n * made.itemsize)
    return Built(f"gemm {dtype}", "compute", work, lambda: gemm.measure(shape, dtype, device))


def stream_probe(pattern: str, n: int, device: str, *, is_cached: bool = False) -> Built:
    written = 0 if pattern == "read" else 4 * n
    flops = stream.flops(pattern, n)
    work = Work((("vector.float32", flops),) if flops else (), stream.bytes_accessed(pattern, n) - written, written)
    return Built(
        f"stream {pattern}{' in L2' if is_cached else ''}",
        "memory",
        work,
        lambda: stream.measure(pattern, n, device, passes=50 if is_cached else 1),
        flag="cache-resident" if is_cached else None,
    )


def dial_probe(steps: int, n: int, device: str, bound: Bound, *, has_fma: bool = True) -> Built:
    work = Work((("vector.float32", polynomial.flops(n, steps, device)),), 4 * n, 4 * n)
    name = f"polynomial {steps}{'' if has_fma else ' without FMA'}"
    return Built(name, bound, work, lambda: polynomial.measure(n, steps, device, has_fma=has_fma))


def special_probe(function: str, n: int, rounds: int, device: str) -> Built:
    work = Work((("special", special.special_ops(n, rounds)),), 4 * n, 4 * n)
    return Built(f"special {function}", "compute", work, lambda: special.measure(function, n, rounds, device))


def resident_probe(n: int, rounds: int, device: str) -> Built:
    """Its traffic is what crosses the cache: one round's worth, as if each round were a kernel."""
    work = Work((("vector.float32", n),), 4 * n, 0)
    return Built(
        "resident",
        "memory",
        work,
        lambda: [each / rounds for each in resident.measure(n, rounds, device)],
        flag="cache-resident",
    )


def host_copy_probe(direction: str, n: int, device: str) -> Built:
    work = Work((), link.bytes_accessed(n), link.bytes_accessed(n))
    return Built(
        f"link {direction}",
        "communication",
        work,
        lambda: link.measure(direction, n, device, is_pinned=True),
        kind="host_copy",
    )


@dataclass(frozen=True)
class Point:
    """One position of the dial: its work, and the median time it took."""

    flops: int
    bytes: int
    seconds: float

    @property
    def intensity(self) -> float:
        return self.flops / self.bytes


def judge_dial(points: Sequence[Point], ridge: float) -> list[str]:
    """What measured time has against the ridge; empty where the two agree. ``ridge`` is in FLOP/byte."""
    memory = [point for point in points if point.intensity < ridge / 2]
    compute = [point for point in points if point.intensity > 2 * ridge]
    if len(memory) < 2 or len(compute) < 2:
        return [f"too few positions on one side of {ridge:.3g} FLOP/byte: {len(memory)} and {len(compute)}"]
    per_byte = [point.seconds / point.bytes for point in memory]
    per_flop = [point.seconds / point.flops for point in compute]
    found = []
    for side, times in (("flat on the memory side", per_byte), ("proportional on the compute side", per_flop)):
        middle = statistics.median(times)
        farthest = max(abs(each / middle - 1) for each in times)
        if farthest > FLAT:
            found.append(f"not {side}: {farthest:.0%} from it")
    knee = statistics.median(per_byte) / statistics.median(per_flop)
    if not 1 / KNEE <= knee / ridge <= KNEE:
        found.append(f"the knee is at {knee:.3g} FLOP/byte, the ridge at {ridge:.3g}")
    return found


def dial_points(n: int, device: str, *, has_fma: bool = True) -> list[Point]:
    """The dial turned once, measured live."""
    return [
        Point(
            polynomial.flops(n, steps, device),
            polynomial.bytes_accessed(n, steps),
            statistics.median(polynomial.measure(n, steps, device, has_fma=has_fma)),
        )
        for steps in DIAL_STEPS
    ]
