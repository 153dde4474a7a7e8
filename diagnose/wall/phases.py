"""Which part of a step each item belongs to: forward, backward, optimizer, data, prefill, decode, or what a user named.

A phase is read off the host: the innermost interval, on the launching thread, in which the launch was made. Such
intervals are autograd's own (``autograd::engine::evaluate_function``, every op that carries the thread of its forward
op), the annotations of torch, of serving engines and of the user, and, in a recording with a backward pass, the
stretches of ops whose sequence number a backward op carries: their forward pass.

There are two labels. The phase says where in the step the item lies. The annotation is the innermost one of the
user's own; it may lie inside a phase, around several, or be the only thing known.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import distinct, is_any
from diagnose.items import Recording
from diagnose.trace.host import Nesting, nest, self_segments, skip
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Trace

FORWARD, BACKWARD, OPTIMIZER, DATA, PREFILL, DECODE, MIXED = range(7)
PHASES: Final = ("forward", "backward", "optimizer", "data", "prefill", "decode", "prefill and decode")

MOST_ANNOTATIONS: Final = 32
"""Names kept, those with the most time first: some programs number their annotations without end."""

_AUTOGRAD: Final = re.compile(r"^autograd::engine::evaluate_function\b")
_PATTERNS: Final[tuple[tuple[int, re.Pattern[str]], ...]] = (
    (OPTIMIZER, re.compile(r"^Optimizer\.(step|zero_grad)#|^(optimizer|zero_grad)\b|\.optimizer_(step|zero_grad)\b")),
    (DATA, re.compile(r"^enumerate\(DataLoader\)|^(data_?load(er|ing)?|load_batch)\b|_dataloader_next\b")),
    (BACKWARD, re.compile(r"^backward\b|\.backward$")),
    (FORWARD, re.compile(r"^forward\b|^\w*Parallel\w*\.forward$|\.(training|validation|test|predict)_step$")),
    (PREFILL, re.compile(r"^step\[EXTEND\b|^prefill\b")),
    (DECODE, re.compile(r"^step\[DECODE\b|^decode\b")),
    (MIXED, re.compile(r"^step\[MIXED\b")),
)
"""Of names without the ``##`` that some writers put around theirs; the first that fits holds."""
_SERVING: Final = re.compile(r"^execute_\w*?(?:context|new)_(\d+).*?_(?:generation|cached)_(\d+)")
"""vLLM's step: how many requests read their prompt, and how many write."""
_NOT_THE_USERS: Final = re.compile(
    r"^(ProfilerStep#|diagnose\.profile#|(nccl|gloo|mpi|ucc|c10d):|## Call CompiledFxGraph|Torch-Compiled Region"
    r"|TorchDynamo |Pregraph bytecode|AOTDispatcher |execute_\w*(context|new)_\d)"
)


class Phases(Struct, frozen=True):
    """The host's time by phase.

    Attributes:
        annotations: Names of the user's annotations, indexed by ``annotation``.
        lane: Host thread of each stretch, stretches in order of (thread, start) [n].
        start, end: ns [n]; stretches of one thread never overlap.
        phase: Index into ``PHASES``, -1 where none holds [n].
        annotation: Index into ``annotations``, -1 where none holds [n].
    """

    annotations: tuple[str, ...]
    lane: Ints
    start: Ints
    end: Ints
    phase: Ints
    annotation: Ints

    def at(self, thread: Ints, time: Ints) -> tuple[Ints, Ints]:
        """Phase and annotation of each (thread, time), -1 where none holds or the thread is -1."""
        phase, annotation = np.full(len(time), -1, np.int64), np.full(len(time), -1, np.int64)
        for one in distinct(self.lane).tolist():
            low, high = np.searchsorted(self.lane, [one, one + 1])
            asked = np.flatnonzero(thread == one)
            place = low + np.searchsorted(self.start[low:high], time[asked], side="right") - 1
            is_in = (place >= low) & (time[asked] < self.end[np.maximum(place, low)])
            phase[asked[is_in]], annotation[asked[is_in]] = self.phase[place[is_in]], self.annotation[place[is_in]]
        return phase, annotation


class ItemPhases(Struct, frozen=True):
    """Phase (index into ``PHASES``) and annotation (index into ``annotations``) of each item, -1 for none."""

    annotations: tuple[str, ...]
    phase: Ints
    annotation: Ints


def phases_of(recording: Recording) -> tuple[tuple[str, ...], Ints]:
    """One name an item: its phase, or where it has none the user's annotation.

    Args:
        recording: What ran.

    Returns:
        The names that occur, and for each item of ``recording.items`` the index into them, -1 for none [n].
    """
    found = item_phases(recording)
    label = np.where(found.phase >= 0, found.phase, np.where(found.annotation >= 0, found.annotation + len(PHASES), -1))
    used = distinct(label[label >= 0])
    everything = (*PHASES, *found.annotations)
    return tuple(everything[index] for index in used.tolist()), np.where(label >= 0, np.searchsorted(used, label), -1)


def item_phases(recording: Recording) -> ItemPhases:
    """Phase and annotation of each item, by its launch call, or by its op where no launch was recorded.

    Several tables ask for those of one recording: the latest answer is kept while its recording is.
    """
    of, known = _latest[0]
    if known is None or of() is not recording:
        known = _item_phases(recording)
        _latest[0] = (weakref.ref(recording), known)
    return known


_latest: list[tuple[Callable[[], Recording | None], ItemPhases | None]] = [(lambda: None, None)]


def _item_phases(recording: Recording) -> ItemPhases:
    trace, items = recording.trace, recording.items
    found = find_phases(recording)
    has_call = items.call >= 0
    thread = np.where(has_call, taken(trace.calls.thread, items.call), taken(trace.ops.thread, items.op))
    time = np.where(has_call, taken(trace.calls.start, items.call), taken(trace.ops.start, items.op))
    return ItemPhases(found.annotations, *found.at(thread, time))


def find_phases(recording: Recording) -> Phases:
    """The host's time by phase and annotation."""
    trace = recording.trace
    of_name, of_user, names = _by_name(recording)
    marks = trace.annotations
    is_mark = of_user[marks.name] | (of_name[marks.name] >= 0)
    backward = _backward_ops(trace)
    lanes = _backward_threads(recording, backward, is_mark)
    forward = _forward_stretches(recording, backward, of_name)
    threads = np.concatenate([marks.thread[is_mark], trace.ops.thread[backward], lanes[0], forward[0]])
    starts = np.concatenate([marks.start[is_mark], trace.ops.start[backward], lanes[1], forward[1]])
    ends = np.concatenate([marks.end[is_mark], trace.ops.end[backward], lanes[2], forward[2]])
    counts = (int(is_mark.sum()), len(backward), len(lanes[0]), len(forward[0]))
    phase = np.concatenate([of_name[marks.name[is_mark]], np.repeat([BACKWARD, BACKWARD, FORWARD], counts[1:])])
    user = np.full(len(phase), -1, np.int64)
    user[: counts[0]] = np.where(of_user[marks.name[is_mark]], marks.name[is_mark], -1)
    nesting = nest(threads, starts, ends)
    pieces = self_segments(threads, starts, nesting)
    owner = _innermost(nesting, phase)
    # Activation checkpointing runs the forward pass again inside the backward pass: that time is the backward pass's.
    above = _innermost(nesting, np.where(phase == BACKWARD, phase, -1))
    phase = np.where(above == BACKWARD, BACKWARD, owner)
    kept, index = _largest(user, ends - starts, names)
    annotation = _innermost(nesting, index)
    order = np.lexsort((pieces.start, threads[pieces.row]))
    row = pieces.row[order]
    return Phases(kept, threads[row], pieces.start[order], pieces.end[order], phase[row], annotation[row])


def _by_name(recording: Recording) -> tuple[Ints, NDArray[np.bool_], tuple[str, ...]]:
    """For each string the phase that an annotation of such a name is, and whether it is one of the user's own."""
    trace = recording.trace
    steps = set(recording.steps.names) if recording.steps.has_marks else set()
    phase, user = np.full(len(trace.strings), -1, np.int64), np.zeros(len(trace.strings), np.bool_)
    for index in distinct(trace.annotations.name).tolist():
        name = trace.strings[index]
        phase[index] = _phase_of_name(name)
        user[index] = phase[index] < 0 and name not in steps and _NOT_THE_USERS.search(name) is None
    return phase, user, trace.strings


def _phase_of_name(name: str) -> int:
    serving = _SERVING.search(name)
    if serving is not None:
        reads, writes = serving[1].strip("0") != "", serving[2].strip("0") != ""
        return MIXED if reads and writes else PREFILL if reads else DECODE if writes else -1
    bare = name.strip("# ")
    return next((phase for phase, pattern in _PATTERNS if pattern.search(bare)), -1)


def _backward_ops(trace: Trace) -> Ints:
    """Rows of the ops that autograd's engine runs."""
    names = distinct(trace.ops.name).tolist()
    ids = [name for name in names if _AUTOGRAD.search(trace.strings[name])]
    # The profiler writes 0 for a forward op; a backward op carries its forward op's thread, counted from 1.
    return np.flatnonzero(is_any(trace.ops.name, ids) | (trace.ops.forward_thread > 0))


def _backward_threads(recording: Recording, backward: Ints, is_mark: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Threads that belong to autograd's engine (its hooks run there too, outside any op), and their whole time.

    A thread that calls ``backward`` itself runs other things as well: forward ops, or what the user or torch marked.
    """
    trace = recording.trace
    ops, calls, marks = trace.ops, trace.calls, trace.annotations
    is_backward = np.zeros(len(ops.start), np.bool_)
    is_backward[backward] = True
    is_outside = ~is_backward & (skip(ops.parent, is_backward) < 0)
    is_step = is_any(marks.start, recording.steps.starts)
    lanes = []
    for thread in distinct(ops.thread[backward]).tolist():
        mine, called = ops.thread == thread, calls.thread == thread
        rows = backward[ops.thread[backward] == thread]
        reach = np.maximum.accumulate(ops.end[rows])
        marked = marks.start[(is_mark | is_step) & (marks.thread == thread)]
        place = np.searchsorted(ops.start[rows], marked, side="right")
        is_free = (place == 0) | (reach[np.maximum(place - 1, 0)] <= marked)
        others = mine & is_outside & (ops.parent < 0)
        if is_free.any() or (mine & is_outside & (ops.sequence >= 0)).any() or others.sum() > len(rows):
            continue
        begin = np.concatenate([ops.start[mine], calls.start[called]]).min()
        end = np.concatenate([ops.end[mine], calls.end[called]]).max()
        lanes.append((thread, int(begin), int(end) + 1))
    columns = np.array(lanes, np.int64).reshape(-1, 3)
    return columns[:, 0], columns[:, 1], columns[:, 2]


def _forward_stretches(recording: Recording, backward: Ints, of_name: Ints) -> tuple[Ints, Ints, Ints]:
    """Threads, starts and ends of the runs of forward ops, between anything that is no forward pass."""
    ops, marks = recording.trace.ops, recording.trace.annotations
    nothing = np.zeros(0, np.int64)
    is_forward = (ops.sequence >= 0) & (ops.forward_thread <= 0)
    is_forward &= np.isin(ops.sequence, ops.sequence[backward])
    is_forward[backward] = False
    rows = np.flatnonzero(is_forward)
    if not rows.size:
        return nothing, nothing, nothing
    # Ops that record nothing for autograd carry the number of the next one that does: of equals the last is it.
    order = np.lexsort((ops.start[rows], ops.sequence[rows], ops.thread[rows]))
    rows = rows[order]
    changes = np.diff(ops.thread[rows]) | np.diff(ops.sequence[rows])
    rows = rows[np.concatenate([changes != 0, [True]])]
    other = np.isin(of_name[marks.name], [BACKWARD, OPTIMIZER, DATA])
    edges = np.sort(np.concatenate([ops.start[backward], marks.start[other], recording.steps.starts]))
    rows = rows[np.lexsort((ops.start[rows], ops.thread[rows]))]
    run = np.searchsorted(edges, ops.start[rows], side="right")
    begins = np.flatnonzero(np.concatenate([[True], (np.diff(run) != 0) | (np.diff(ops.thread[rows]) != 0)]))
    thread, start = ops.thread[rows[begins]], ops.start[rows[begins]]
    return thread, start, np.maximum.reduceat(ops.end[rows], begins)


def _innermost(nesting: Nesting, label: Ints) -> Ints:
    """For each interval its own label, or that of the nearest one around it that has one."""
    has = label >= 0
    around = skip(nesting.parent, has)
    return np.where(has, label, taken(label, around))


def _largest(user: Ints, length: Ints, strings: tuple[str, ...]) -> tuple[tuple[str, ...], Ints]:
    """The annotations with the most time, in order of their first appearance, and each interval's index into them."""
    ids, first, inverse = np.unique(user, return_index=True, return_inverse=True)
    total = np.zeros(len(ids), np.int64)
    np.add.at(total, inverse.reshape(-1), length)
    total[ids < 0] = -1
    most = np.argsort(-total, kind="stable")[:MOST_ANNOTATIONS]
    kept = sorted((entry for entry in most.tolist() if ids[entry] >= 0), key=lambda entry: int(first[entry]))
    index = np.full(len(ids), -1, np.int64)
    index[kept] = np.arange(len(kept))
    return tuple(strings[int(ids[entry])] for entry in kept), index[inverse.reshape(-1)]
