"""Gives an op's work to the kernels that it launched.

Phases stand in the order in which their kernels are launched. FLOPs over the kernels sum to the phases' FLOPs exactly,
and so do the bytes of every phase that is not extra.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from msgspec import Struct, field

from diagnose.costs.registry import KernelSignature, Phase
from diagnose.work import Work, flops_of

AUXILIARY: Final = re.compile(
    r"nchwToNhwc|nhwcToNchw|nchw_?2_?cnhw|cnhw_?2_?nchw|batched_transpose|tensorTransform"  # layout changes
    r"|split_?k_?reduce|reduce_?split_?k|splitreduce|reduce_wgrad|reduce_1Block|PostGSU"  # partial sums put together
    r"|compute\w*Offsets|Kernel_setup|scal_kernel|scalePackedTensor"  # library bookkeeping
    r"|winograd(Forward|Wgrad)|generateWinograd|winograd_xform"  # into and out of another algorithm's domain
    r"|fft[12]d_|vector_fft|flip_filter"  # the same
    r"|memset|FillFunctor|SubTensorOpWith|copy_kernel_cuda|cast_kernel",  # fills and casts
    re.IGNORECASE,
)
"""Names of kernels that help another kernel do an op's work. What they move depends on the library, so such a kernel
has no work unless a phase claims it (cuDNN, cuBLAS, CUTLASS, MIOpen, rocBLAS and torch's own names)."""


@lru_cache(maxsize=8192)
def _fits(pattern: re.Pattern[str], name: str) -> bool:
    """Whether the pattern is found in a kernel's name. The few distinct names, long as they are, are searched once."""
    if pattern.flags & re.IGNORECASE:
        return _folded(pattern).search(name.lower()) is not None
    return pattern.search(name) is not None


@lru_cache(maxsize=256)
def _folded(pattern: re.Pattern[str]) -> re.Pattern[str]:
    """The pattern for names in lower case: ``re`` skips ahead to a possible first letter only where case matters,
    which makes it ten times faster on kernels' names.
    """
    text = re.sub(r"\\.|[A-Z]", lambda met: met[0] if met[0].startswith("\\") else met[0].lower(), pattern.pattern)
    return re.compile(text, pattern.flags & ~re.IGNORECASE)


class _Claims(Struct):
    """Which kernels each phase got, and which kernels are still free."""

    kernels: Sequence[KernelSignature]
    of_phase: dict[int, list[int]] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)

    def take(self, phase: int, indices: Sequence[int]) -> None:
        self.of_phase.setdefault(phase, []).extend(indices)
        self.taken.update(indices)

    def free(self) -> list[int]:
        return [index for index in range(len(self.kernels)) if index not in self.taken]


def share(phases: Sequence[Phase], kernels: Sequence[KernelSignature]) -> tuple[Work | None, ...]:
    """The work of each kernel, in order; None where it is unknown.

    Required phases with a pattern claim the kernels that it finds, the ones without claim the rest. A required phase
    whose kernels are not there (a library chose another algorithm) goes to the rest too, so that no FLOP is lost.
    Extra phases claim one kernel each, in launch order and on their own side of the required phases' kernels; what
    they find no kernel for did not happen.
    """
    if not kernels:
        return ()
    if len(kernels) == 1:
        required = [phase for phase in phases if not phase.is_extra]
        if len(required) == 1 and not any(phase.is_extra and _claims(phase, kernels[0]) for phase in phases):
            return (required[0].work,)  # what most ops are: one kernel that does it all, whatever it is called
    claims = _Claims(kernels)
    _claim_required(phases, claims)
    _claim_extra(phases, claims)
    _claim_leftover(phases, claims)
    works: list[Work | None] = [None] * len(kernels)
    for index, claimed in sorted(claims.of_phase.items()):
        whole = _as_extra(phases[index].work) if phases[index].is_extra else phases[index].work
        for kernel, part in zip(claimed, _divided(whole, [kernels[i] for i in claimed]), strict=True):
            before = works[kernel]
            works[kernel] = part if before is None else before + part
    return tuple(works)


def _claims(phase: Phase, kernel: KernelSignature) -> bool:
    return phase.pattern is not None and _fits(phase.pattern, kernel.name)


def _claim_required(phases: Sequence[Phase], claims: _Claims) -> None:
    """Patterns first, then the rest: kernels that neither help (AUXILIARY) nor belong to an extra phase."""
    extras = [phase.pattern for phase in phases if phase.is_extra and phase.pattern is not None]
    own = [index for index in claims.free() if not any(_fits(p, claims.kernels[index].name) for p in extras)]
    # A lone kernel does the work whatever it is called.
    is_alone = len(claims.kernels) == 1
    principal = own if is_alone else [index for index in own if not _fits(AUXILIARY, claims.kernels[index].name)]
    required = [index for index, phase in enumerate(phases) if not phase.is_extra]
    for index in required:
        pattern = phases[index].pattern
        if pattern is not None:
            for pool in (principal, own):
                found = [k for k in pool if k not in claims.taken and _fits(pattern, claims.kernels[k].name)]
                if found:
                    claims.take(index, found)
                    break
    rest = [kernel for kernel in principal if kernel not in claims.taken]
    homeless = [index for index in required if index not in claims.of_phase]
    if rest and len(rest) == len(homeless) and all(phases[index].pattern is not None for index in homeless):
        for index, kernel in zip(homeless, rest, strict=True):  # as many as phases: one each, in launch order
            claims.take(index, [kernel])
    elif rest:
        for index in homeless:
            claims.take(index, rest)


def _claim_extra(phases: Sequence[Phase], claims: _Claims) -> None:
    anchors = {index: claimed for index, claimed in claims.of_phase.items() if not phases[index].is_extra}
    for index, phase in enumerate(phases):
        if not phase.is_extra or phase.pattern is None:
            continue
        after = max((min(claimed) for anchor, claimed in anchors.items() if anchor < index), default=-1)
        before = min(
            (max(claimed) for anchor, claimed in anchors.items() if anchor > index), default=len(claims.kernels)
        )
        for kernel in claims.free():
            if after < kernel < before and _fits(phase.pattern, claims.kernels[kernel].name):
                claims.take(index, [kernel])
                break


def _claim_leftover(phases: Sequence[Phase], claims: _Claims) -> None:
    """Required work without any principal kernel: the op's kernels all look auxiliary (a copy, a fill)."""
    fallback = claims.free() or [0]
    for index, phase in enumerate(phases):
        if not phase.is_extra and index not in claims.of_phase:
            claims.take(index, fallback)


def _as_extra(work: Work) -> Work:
    """The same work with all of its known bytes as the price of the algorithm."""
    known = (work.bytes_read or 0) + (work.bytes_written or 0)
    return Work(work.flops, work.bytes_read, work.bytes_written, known, work.source, work.is_bound)


def _weights(kernels: Sequence[KernelSignature]) -> list[int]:
    """Blocks, or durations where a grid was not recorded, or all alike."""
    blocks = [kernel.blocks for kernel in kernels]
    known = [count for count in blocks if count is not None]
    if len(known) == len(blocks) and sum(known) > 0:
        return known
    durations = [kernel.duration_ns for kernel in kernels]
    return durations if sum(durations) > 0 else [1] * len(kernels)


def _divided(work: Work, kernels: Sequence[KernelSignature]) -> list[Work]:
    if len(kernels) == 1:
        return [work]
    weights = _weights(kernels)
    read, written = _parts_or_none(work.bytes_read, weights), _parts_or_none(work.bytes_written, weights)
    extra = _parts(work.extra_bytes, weights)
    flops: list[tuple[tuple[str, int], ...] | None] = [None] * len(weights)
    if work.flops is not None:
        columns = [(resource, _parts(count, weights)) for resource, count in work.flops]
        flops = [flops_of({resource: parts[row] for resource, parts in columns}) for row in range(len(weights))]
    return [
        Work(flops[row], read[row], written[row], extra[row], work.source, work.is_bound) for row in range(len(weights))
    ]


def _parts_or_none(total: int | None, weights: Sequence[int]) -> Sequence[int | None]:
    return [None] * len(weights) if total is None else _parts(total, weights)


def _parts(total: int, weights: Sequence[int]) -> list[int]:
    """Whole parts of ``total`` by ``weights``: floors, and what is left to the largest remainders, ties by order."""
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda row: -(total * weights[row] % whole))
    for row in by_remainder[: total - sum(parts)]:
        parts[row] += 1
    return parts
