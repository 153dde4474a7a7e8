"""Where in the code each op was called: module, line of the call, caller.

Known from our recorder's key, else from the Python frames of a recording with stacks. A backward op has the place of
its forward op, which carries the same sequence number; an op that nobody placed has that of the op around it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.trace.extras import CodePlace, Extras
from diagnose.trace.frames import places_of_ops
from diagnose.trace.link import match, taken
from diagnose.trace.tables import Ints, Ops, Trace

_NOWHERE: Final = CodePlace()


class Places(Struct, frozen=True):
    """The places of a recording's ops.

    Attributes:
        of_op: Index into ``distinct`` for each op, -1 where nothing is known [ops].
        distinct: Each place once.
    """

    of_op: Ints
    distinct: tuple[CodePlace, ...]

    @property
    def is_known(self) -> bool:
        """Whether any op has a place."""
        return bool((self.of_op >= 0).any())


def place_of_op(places: Places, op: int) -> CodePlace:
    """Where an op (row of ``Trace.ops``, -1 for none) was called; every field None where nothing is known."""
    index = int(places.of_op[op]) if 0 <= op < len(places.of_op) else -1
    return places.distinct[index] if index >= 0 else _NOWHERE


def place_of_call(places: Places, trace: Trace, call: int) -> CodePlace:
    """Where a runtime call (row of ``Trace.calls``, -1 for none) was made: the place of the op that it was made in."""
    return place_of_op(places, int(trace.calls.op[call]) if 0 <= call < len(trace.calls.op) else -1)


def find_places(trace: Trace, extras: Extras | None) -> Places:
    """The place of every op of a recording, as far as stacks were recorded.

    Args:
        trace: The recording.
        extras: Our recorder's key, if the file has one.
    """
    if extras is not None and extras.op_places:
        own, distinct = _recorded(trace.ops, extras), extras.places
    elif trace.frames is not None:
        count = len(trace.ops.start) - trace.borrowed_ops
        held, distinct = places_of_ops(trace.ops, count, trace.frames)
        own = np.concatenate([held, np.full(trace.borrowed_ops, -1, np.int64)])
    else:
        return Places(np.full(len(trace.ops.start), -1, np.int64), ())
    return Places(settled(trace.ops, own), distinct)


def settled(ops: Ops, own: Ints) -> Ints:
    """The place of each op from those that are recorded for some.

    Args:
        ops: Of the recording.
        own: Index of the recorded place, -1 where there is none [ops].
    """
    # What an op merely shares with the op around it must not keep a backward op from the place of its forward op.
    above = taken(own, ops.parent)
    own = np.where((own == above) & (ops.parent >= 0), -1, own)
    first = _inherited(ops, own)
    backward, forward = _forward_ops(ops)
    known = first[forward] >= 0
    own = own.copy()
    own[backward[known]] = first[forward[known]]
    return _inherited(ops, own) if known.any() else first


def _recorded(ops: Ops, extras: Extras) -> Ints:
    """Places by External id; an absurd id or an index beyond the list is a stranger's error and says nothing."""
    count = len(extras.places)
    sound = {id_: index for id_, index in extras.op_places.items() if 0 <= id_ < 1 << 62 and index < count}
    ids, index = np.array(list(sound), np.int64), np.array(list(sound.values()), np.int64)
    return taken(index, match(ids, ops.external_id))


def _inherited(ops: Ops, own: Ints) -> Ints:
    """Each op's own place, else that of the nearest op around it which has one."""
    found, above = own.copy(), ops.parent.copy()
    while True:
        open_rows = np.flatnonzero((found < 0) & (above >= 0))
        if not open_rows.size:
            return found
        up = above[open_rows]
        found[open_rows] = own[up]
        above[open_rows] = ops.parent[up]


def _forward_ops(ops: Ops) -> tuple[Ints, Ints]:
    """Backward ops whose forward op is recorded, and for each the innermost, latest op with its sequence number.

    Sequence numbers count per thread, and a backward op knows its forward thread only by a number of the profiler's:
    the thread that has most of the sequence numbers asked for is taken, and none where two have equally many.
    """
    is_backward = (ops.sequence >= 0) & (ops.forward_thread > 0)
    forward = np.flatnonzero((ops.sequence >= 0) & ~is_backward)
    found = np.full(len(ops.sequence), -1, np.int64)
    for number in distinct(ops.forward_thread[is_backward]).tolist():
        asked = np.flatnonzero(is_backward & (ops.forward_thread == number))
        thread = _thread_of(ops, forward, ops.sequence[asked])
        if thread is not None:
            here = forward[ops.thread[forward] == thread][::-1]  # the latest first: ``match`` takes the first
            found[asked] = taken(here, match(ops.sequence[here], ops.sequence[asked]))
    # What begins after its backward op is not its forward op: numbers start again where a recording was put together.
    rows = np.flatnonzero(found >= 0)
    rows = rows[ops.start[found[rows]] < ops.start[rows]]
    return rows, found[rows]


def _thread_of(ops: Ops, forward: Ints, asked: Ints) -> int | None:
    has_asked: NDArray[np.bool_] = np.isin(ops.sequence[forward], asked)
    threads, counts = np.unique(ops.thread[forward[has_asked]], return_counts=True)
    most = np.flatnonzero(counts == counts.max(initial=0))
    return int(threads[most[0]]) if len(most) == 1 else None
