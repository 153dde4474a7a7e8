"""The lines of a step that was recorded with stacks, given to the ops of the steps that were timed without.

Stacks cost the host more than shapes do, so one step of the user's loop is recorded for them alone. Its ops are those
of the timed steps: the k-th op of a kind there is the k-th here, where both have as many of the kind. A kind is a
thread, an op with its arguments' types and shapes, and the same of every op around it; where shapes change from step to
step, the names alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.errors import TraceError
from diagnose.places.places import find_places
from diagnose.trace.arguments import LazyOps
from diagnose.trace.chrome import parse_trace
from diagnose.trace.extras import Extras
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Trace
from diagnose.trace.windows import find_marks, step_of


@dataclass(frozen=True, slots=True)
class LineStep:
    """A step recorded with stacks: its file, and the places that only its process knew."""

    path: Path
    extras: Extras


def with_places(extras: Extras, path: Path, lines: LineStep) -> Extras:
    """The extras of a recording with the places of its ops; the same where the step has none.

    Args:
        extras: Of the recording.
        path: Its file, still without our key.
        lines: The step with stacks.
    """
    try:
        timed = parse_trace(path.read_bytes(), path.name).trace
        stacked = parse_trace(lines.path.read_bytes(), lines.path.name).trace
    except (OSError, TraceError):  # the reader will say what is wrong with the recording
        return extras
    places = find_places(stacked, lines.extras)
    if not places.is_known:
        return extras
    of_op = joined(timed, stacked, places.of_op)
    is_told = (of_op >= 0) & (of_op != np.where(timed.ops.parent >= 0, taken(of_op, timed.ops.parent), -1))
    rows = np.flatnonzero(is_told & (timed.ops.external_id >= 0))
    op_places = dict(zip(timed.ops.external_id[rows].tolist(), of_op[rows].tolist(), strict=True))
    return msgspec.structs.replace(
        extras, places=places.distinct, op_places=op_places, notes=(*extras.notes, *_missing(of_op, places.of_op))
    )


def _missing(of_op: Ints, there: Ints) -> list[str]:
    """What to say where the timed steps did something that the step with stacks did not."""
    unknown = int((of_op < 0).sum())
    if not unknown or (there < 0).any():  # there, too, some ops have no place: threads without Python
        return []
    return [
        f"the source lines come from one more step; {unknown} of {len(of_op)} ops ran differently there and have none"
    ]


def joined(timed: Trace, stacked: Trace, place: Ints) -> Ints:
    """The place of each op of ``timed``, -1 where the other recording does not say.

    Args:
        timed: A recording of one or more steps.
        stacked: A recording of one further step.
        place: Of each op of ``stacked``, -1 for none.
    """
    steps = step_of(timed.ops.start, find_marks(timed)[1])
    found = np.full(len(timed.ops.start), -1, np.int64)
    for has_shapes in (True, False):
        both = _Both(timed, stacked, has_shapes=has_shapes)
        found = np.where(found >= 0, found, both.match(steps, place))
        if (found >= 0).all():
            break
    return found


class _Ranked(NamedTuple):
    """Ops in groups.

    Attributes:
        rank: Of each op in its group, from 0.
        size: Of each op's group.
    """

    rank: Ints
    size: Ints


class _Both:
    """The ops of two recordings by kind."""

    def __init__(self, timed: Trace, stacked: Trace, *, has_shapes: bool) -> None:
        own = _shared_ids(_calls(timed, has_shapes=has_shapes), _calls(stacked, has_shapes=has_shapes))
        thread = _shared_ids(timed.threads, stacked.threads)
        self._count = len(timed.ops.start)
        parent = np.concatenate(
            [timed.ops.parent, np.where(stacked.ops.parent >= 0, stacked.ops.parent + self._count, -1)]
        )
        depth = np.concatenate([timed.ops.depth, stacked.ops.depth])
        first = np.concatenate([own[0][timed.ops.signature], own[1][stacked.ops.signature]])
        lane = np.concatenate([thread[0][timed.ops.thread], thread[1][stacked.ops.thread]])
        self._kind = _with_ancestors(first, lane, parent, depth)

    def match(self, steps: Ints, place: Ints) -> Ints:
        """Places for the first recording's ops from the second's."""
        here, there = self._kind[: self._count], self._kind[self._count :]
        ranked = _ranked(here * (steps.max(initial=0) + 2) + steps + 1)
        order = np.argsort(there, kind="stable")
        begin = np.searchsorted(there[order], here)
        size = np.searchsorted(there[order], here, side="right") - begin
        same = np.where((size == ranked.size) & (size > 0), begin + ranked.rank, -1)
        found = taken(place[order], same)
        return np.where((same < 0) & (size > 0), _agreed(place[order], begin, size), found)


def _agreed(place: Ints, begin: Ints, size: Ints) -> Ints:
    """The place that all of each run of ``place`` have, -1 where they differ."""
    if not len(place):
        return np.full(len(begin), -1, np.int64)
    # Where a run of equal places ends, seen from each row.
    changes = np.concatenate([np.flatnonzero(place[1:] != place[:-1]) + 1, [len(place)]])
    first = np.minimum(begin, len(place) - 1)
    until = changes[np.searchsorted(changes, first, side="right")]
    return np.where((size > 0) & (until >= begin + size), place[first], -1)


def _ranked(group: Ints) -> _Ranked:
    order = np.argsort(group, kind="stable")
    _, begin, inverse, counts = np.unique(group[order], return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(group), np.int64)
    size = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - begin[inverse]
    size[order] = counts[inverse]
    return _Ranked(rank, size)


def _with_ancestors(own: Ints, lane: Ints, parent: Ints, depth: Ints) -> Ints:
    """One number for each distinct chain of ops from the top of a thread down."""
    kind = np.full(len(own), -1, np.int64)
    known = 0
    width = int(own.max(initial=0)) + 1
    for level in distinct(depth).tolist():
        rows = np.flatnonzero(depth == level)
        above = np.where(parent[rows] >= 0, taken(kind, parent[rows]), -1 - lane[rows])
        chains, index = np.unique((above - above.min()) * width + own[rows], return_inverse=True)
        kind[rows] = known + index.reshape(-1)
        known += len(chains)
    return kind


def _calls(trace: Trace, *, has_shapes: bool) -> list[Any]:
    """What makes two ops the same one, for each distinct call."""
    signatures = trace.signatures
    if isinstance(signatures, LazyOps):
        return [(each.name, each.dims, each.types) if has_shapes else each.name for each in signatures.recorded]
    return [op.name for op in signatures]


def _shared_ids(first: Sequence[Any], second: Sequence[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same number for equal entries of both."""
    ids: dict[Any, int] = {}
    for entry in (*first, *second):
        ids.setdefault(entry, len(ids))
    return np.array([ids[entry] for entry in first], np.int64), np.array([ids[entry] for entry in second], np.int64)
