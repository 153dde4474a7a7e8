"""What a change is worth: the recording's wall time when it is run again, less that when it is run again changed.

replayer = Replayer(recording)
faster = Change(duration=replayer.duration // 2)
saved_ns = replayer.saving(faster)          # None where the replay does not give the recording itself
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from diagnose.distinct import all_but, distinct
from diagnose.items import Recording
from diagnose.replays.dependencies import Dependencies, Graph, dependencies_of
from diagnose.replays.host_chain import without
from diagnose.replays.replay import Replayed, Setting, recorded_setting, replay
from diagnose.replays.stream_chain import NEVER
from diagnose.replays.window import cut_window, window_marks
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints

ACCEPTED_ERROR: Final = 0.005
"""The unchanged replay must give the measured wall time this closely; else a note says by how much it does not."""

LARGEST_ERROR: Final = 0.02
"""Beyond this nothing is promised."""

WORTH_A_NOTE: Final = 0.1
"""Share of the window for which activities may wait, with nothing recorded that explains it, before a note says so."""

LONG_WAIT_NS: Final = 30_000
"""No launch or gap varies by so much: what waited longer without a known reason keeps waiting."""

LONGEST_NS: Final = 1 << 56
"""Two years; times beyond that are none, and their sums might leave 64 bits."""


class Change(Struct, frozen=True):
    """A recording changed; what is None stays as recorded. Columns may be combined at will.

    Attributes:
        duration: ns of each item; on a CPU its own time [items].
        removed: Items that are not launched at all: their device time, their gap and their launch calls go [items].
        slot: ns between each item and the one before on its stream, as if both had been queued in time (inside a
            device graph, say); -1 leaves what was recorded [items].
        host: ns of each interval of host time, as ``Replayer.host_without`` gives them.
        unblocked: Calls that no longer wait for the device [calls of the trace].
        no_waits: Nothing waits for another stream, and no lag is kept: only for the lower limit.
    """

    duration: Ints | None = None
    removed: NDArray[np.bool_] | None = None
    slot: Ints | None = None
    host: Ints | None = None
    unblocked: NDArray[np.bool_] | None = None
    no_waits: bool = False


class Savings(NamedTuple):
    """By how many ns the window and the median steady step would be shorter; negative if longer."""

    window_ns: int
    step_ns: int


def both(first: Change, second: Change, duration: Ints) -> Change:
    """Two changes at once: what either removes is gone, what both shorten is as short as the shorter one leaves it.

    Args:
        first: A change.
        second: Another.
        duration: As recorded. What one change leaves as it was takes as long as the other says, longer ones too: a
            kernel may do the work of others that go.
    """

    def changed(a: Ints, b: Ints) -> Ints:
        return np.where(a == duration, b, np.where(b == duration, a, np.minimum(a, b)))

    slots = (first.slot, second.slot)
    slot = _either(slots, lambda a, b: np.where((a >= 0) & (b >= 0), np.minimum(a, b), np.maximum(a, b)))
    return Change(
        duration=_either((first.duration, second.duration), changed),
        removed=_either((first.removed, second.removed), np.logical_or),
        slot=slot,
        host=_either((first.host, second.host), np.minimum),
        unblocked=_either((first.unblocked, second.unblocked), np.logical_or),
        no_waits=first.no_waits or second.no_waits,
    )


def sped_up(change: Change, faster: Change, duration: Ints) -> Change:
    """A change whose items, whatever it leaves of them, all run faster in proportion: the two savings multiply.

    Only where ``faster`` says how quickly work is done, not how much of it there is: more threads, say.

    Args:
        change: What is done.
        faster: How long each item would take without it; only its ``duration`` is looked at.
        duration: As recorded.
    """
    if faster.duration is None:
        return change
    left = duration if change.duration is None else change.duration
    share = np.where(duration > 0, faster.duration / np.maximum(duration, 1), 1.0)
    return replace(change, duration=np.rint(left * share).astype(np.int64))


def _either(columns: tuple[Any, Any], join: Callable[[Any, Any], Any]) -> Any:
    known = [column for column in columns if column is not None]
    return join(*known) if len(known) > 1 else next(iter(known), None)


class Replayer:
    """Prices changes of one recording; finding what depends on what is done once, at the start.

    Attributes:
        recording: What ran.
        measured_ns: The window's wall time as recorded.
        wall_ns: As the unchanged replay gives it, 0 where the recording cannot be replayed.
        error: Their difference as a share of the measured one, None where nothing was measured.
        unexplained_ns: Time for which devices waited though nothing recorded says for what; a replay keeps it.
        notes: What the error says about the prices.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        boundaries = recording.steps.boundaries
        self.measured_ns = int(boundaries[-1] - boundaries[0])
        self._dependencies: Dependencies | None = None
        self.wall_ns, self.unexplained_ns = 0, 0
        self.error: float | None = None
        self.notes: tuple[str, ...] = ()
        if self.measured_ns <= 0 or recording.trace.end_ns >= LONGEST_NS or _earliest(recording) < -LONGEST_NS:
            return
        self._dependencies = dependencies_of(recording, window_marks(recording))
        self._setting = recorded_setting(self._dependencies)
        self._unchanged = self.boundaries(Change())
        self.wall_ns = int(self._unchanged[-1] - self._unchanged[0])
        self.error = abs(self.wall_ns - self.measured_ns) / self.measured_ns
        self.unexplained_ns = int(self._dependencies.lags.unexplained.sum())
        self.notes = self._say()

    @property
    def duration(self) -> Ints:
        """Time of each item as recorded, ns."""
        return self.recording.items.duration

    @property
    def host(self) -> Ints:
        """Intervals of host time as recorded, ns; time spent waiting for a device is not among them."""
        return self._need().points.interval

    @property
    def is_trusted(self) -> bool:
        """Whether prices are given at all."""
        return self.error is not None and self.error <= LARGEST_ERROR

    def saving(self, change: Change) -> int | None:
        """By how many ns the window would be shorter; negative if longer, None where nothing can be promised."""
        if not self.is_trusted:
            return None
        boundaries = self.boundaries(change)
        return self.wall_ns - int(boundaries[-1] - boundaries[0])

    def step_saving(self, change: Change, steady: Sequence[bool]) -> int | None:
        """By how many ns the median of the steady steps would be shorter.

        Args:
            change: What is changed.
            steady: Of each step, as ``Step.steady`` says; all count where none is steady.
        """
        found = self.savings(change, steady)
        return None if found is None else found.step_ns

    def savings(self, change: Change, steady: Sequence[bool]) -> Savings | None:
        """What ``saving`` and ``step_saving`` say, by one replay."""
        if not self.is_trusted:
            return None
        boundaries = self.boundaries(change)
        chosen = np.array(steady, np.bool_)
        chosen = chosen if chosen.any() else ~chosen
        before, after = np.diff(self._unchanged)[chosen], np.diff(boundaries)[chosen]
        return Savings(
            self.wall_ns - int(boundaries[-1] - boundaries[0]), int(np.median(before)) - int(np.median(after))
        )

    @cached_property
    def limit_ns(self) -> int | None:
        """What could be saved if nothing took any time: no claims together may exceed it."""
        if not self.is_trusted:
            return None
        return self.saving(Change(np.zeros_like(self.duration), host=np.zeros_like(self.host), no_waits=True))

    def host_without(
        self,
        ops: Ints | None = None,
        calls: Ints | None = None,
        keep: float = 0.0,
        host: Ints | None = None,
        spans: tuple[Ints, Ints, Ints] | None = None,
    ) -> Ints:
        """Intervals of host time of which that of some ops, calls and spans of time is taken away.

        Args:
            ops: Rows of ops; an op's time includes what it calls.
            calls: Rows of calls; time that a call waits for the device is not touched (``Change.unblocked``).
            keep: The share of their time that stays.
            host: Intervals to begin with; as recorded by default.
            spans: Threads (-1: every one), starts and ends of anything else.
        """
        trace, points = self.recording.trace, self._need().points
        ops = np.zeros(0, np.int64) if ops is None else ops
        calls = np.zeros(0, np.int64) if calls is None else calls
        more = _on_threads(spans, distinct(points.thread)) if spans is not None else (ops[:0], ops[:0], ops[:0])
        thread = np.concatenate([trace.ops.thread[ops], trace.calls.thread[calls], more[0]])
        start = np.concatenate([trace.ops.start[ops], trace.calls.start[calls], more[1]])
        end = np.concatenate([trace.ops.end[ops], trace.calls.end[calls], more[2]])
        cut = points.interval - without(points, thread, (start, end), keep)
        return np.maximum((self.host if host is None else host) - cut, 0)

    def graphed(self, items: NDArray[np.bool_], slot_ns: int) -> Change:
        """The change that a device graph makes: one launch a step and thread, then one activity after the other.

        The host's time from the first launch to the last goes, with all that the thread does in between; blocking
        calls in between stay as they are (no graph can hold them, and the finding has to say so).

        Args:
            items: What the graph holds.
            slot_ns: Between two activities of a graph, ns.
        """
        recording, calls = self.recording, self.recording.trace.calls
        chosen = np.flatnonzero(items & (recording.items.call >= 0))
        call = recording.items.call[chosen]
        threads = int(calls.thread.max(initial=0)) + 1
        group, inverse = np.unique(recording.items.step[chosen] * threads + calls.thread[call], return_inverse=True)
        start = np.full(len(group), np.iinfo(np.int64).max)
        end = np.full(len(group), NEVER)
        np.minimum.at(start, inverse.reshape(-1), calls.end[call])
        np.maximum.at(end, inverse.reshape(-1), calls.end[call])
        points = self._need().points
        cut = points.interval - without(points, group % threads, (start, end))
        return Change(slot=np.where(items, slot_ns, -1), host=np.maximum(self.host - cut, 0))

    def launches(self, items: NDArray[np.bool_]) -> Ints:
        """Rows of the calls all of whose activities are among ``items`` (a graph's launch has many)."""
        call = self.recording.items.call
        return all_but(call[items & (call >= 0)], call[~items])

    def boundaries(self, change: Change) -> Ints:
        """D(0)..D(k) of the changed recording, as ``Steps.boundaries`` defines them, ns."""
        return cut_window(self.recording, self._need(), self.replayed(change))

    def replayed(self, change: Change) -> Replayed:
        """When everything would happen; activities are in the order of (device, stream, start)."""
        return replay(self._need(), self._changed(change))

    def _need(self) -> Dependencies:
        if self._dependencies is None:
            raise ValueError("the recording has no time, so it cannot be replayed: ask `is_trusted` first")
        return self._dependencies

    def _changed(self, change: Change) -> Setting:
        dependencies, setting = self._need(), self._setting
        item = dependencies.streams.item
        host = setting.host if change.host is None else change.host
        if change.duration is not None:
            if self.recording.is_cpu:
                host = self._own_times(host, change.duration)
            setting = replace(setting, duration=change.duration[item])
        if change.slot is not None:
            held_up = dependencies.lags.unexplained > LONG_WAIT_NS  # what held it up is not known to go
            slot = np.where(held_up, -1, change.slot[item])
            usual = np.minimum(setting.lead, 0)
            setting = replace(
                setting, gap=np.where(slot >= 0, slot, setting.gap), lead=np.where(slot >= 0, usual, setting.lead)
            )
        if change.removed is not None and self.recording.is_cpu:
            host = self._own_times(host, np.where(change.removed, 0, self.duration))
        elif change.removed is not None:
            gone = change.removed[item]
            setting = replace(
                setting,
                duration=np.where(gone, 0, setting.duration),
                gap=np.where(gone, np.minimum(setting.gap, 0), setting.gap),
                lead=np.where(gone, NEVER, setting.lead),
            )
            host = self.host_without(calls=self.launches(change.removed), host=host)
        lag = setting.lag
        if change.unblocked is not None:
            call = dependencies.graph.call
            lag = np.where((call >= 0) & change.unblocked[call], NEVER, lag)
        if change.no_waits:
            lag = np.where(dependencies.graph.kind == Graph.AT_POINT, lag, NEVER)
            no_time = np.zeros_like(setting.gap)
            setting = replace(setting, gap=no_time, lead=np.where(setting.lead > NEVER, 0, NEVER))
        return replace(setting, host=host, lag=lag)

    def _own_times(self, host: Ints, duration: Ints) -> Ints:
        """Host intervals of a CPU recording, those of each item's own time stretched to its new duration."""
        owner = self._need().points.owner
        before = np.maximum(taken(self.duration, owner), 1)
        after = taken(duration, owner)
        return np.where((owner >= 0) & (after != before), np.rint(host * (after / before)).astype(np.int64), host)

    def _say(self) -> tuple[str, ...]:
        notes = []
        if self.error is not None and self.error > ACCEPTED_ERROR:
            what_follows = (
                "nothing is promised about what a change would save"
                if self.error > LARGEST_ERROR
                else "savings are uncertain by as much"
            )
            notes.append(f"run again unchanged, the recording lasts {self.error:.1%} off the measured: {what_follows}")
        share = self.unexplained_ns / self.measured_ns
        if share > WORTH_A_NOTE:
            notes.append(
                f"device activities waited for {share:.0%} of the window with no recorded launch, wait or other "
                "activity to explain it; savings take that time for unchangeable"
            )
        return tuple(notes)


def _on_threads(spans: tuple[Ints, Ints, Ints], threads: Ints) -> tuple[Ints, Ints, Ints]:
    """Spans with those that hold on every thread (-1) once for each."""
    thread, start, end = spans
    everywhere = thread < 0
    count = int(everywhere.sum())
    return (
        np.concatenate([thread[~everywhere], np.repeat(threads, count)]),
        np.concatenate([start[~everywhere], np.tile(start[everywhere], len(threads))]),
        np.concatenate([end[~everywhere], np.tile(end[everywhere], len(threads))]),
    )


def _earliest(recording: Recording) -> int:
    """The earliest start of an activity."""
    starts = recording.items.spans.start
    return int(starts.min()) if len(starts) else 0
