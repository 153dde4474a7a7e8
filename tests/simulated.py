"""A device and its host, simulated event by event: what really happens when durations change, and its recording.

Nothing here is shared with the replay: calls are carried out one after another in order of time, by rules of their own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tests.builders import TraceBuilder

LATENCY_NS, GAP_NS, WAIT_NS, RETURN_NS = 2_000, 1_100, 1_500, 3_000
"""From a launch call's return to the start, between queued kernels, after an awaited event, from an end to a call's
return."""


@dataclass(frozen=True)
class Call:
    """One thing that a host thread does.

    Attributes:
        kind: launch, copy (pageable, waits for itself), device, stream, event (synchronisations), record, wait (of a
            stream), post, await (of a thread).
        work_ns: Host time before the call.
        call_ns: Of the call itself, unless it waits.
        stream: Of launches, stream synchronisations, records and waits.
        duration_ns: Of the activity.
        key: Of the event or the post.
    """

    kind: str
    work_ns: int
    call_ns: int
    stream: int = 7
    duration_ns: int = 0
    key: int = 0


@dataclass
class Ran:
    """What a simulation saw; times in ns."""

    calls: list[tuple[int, Call, int, int, int]] = field(default_factory=list)
    """Thread, call, start, end, number of the activity launched or awaited (-1 for none)."""
    activities: list[tuple[int, int, int]] = field(default_factory=list)
    """Stream, start, end."""

    @property
    def wall_ns(self) -> int:
        return max([end for *_, end, _ in self.calls] + [end for *_, end in self.activities])


def simulate(threads: list[list[Call]], queue_depth: int = 10**9, jitter: int | None = None) -> Ran:
    """Carries out what the threads do, always the earliest call next.

    Args:
        threads: What they do.
        queue_depth: Launches that may wait for the device; the next one blocks.
        jitter: Seed for lags that vary with the activity, though not with its duration; None leaves them alike.
    """
    machine, clocks, places = _Machine(queue_depth), [0] * len(threads), [0] * len(threads)
    while True:
        ready = []
        for thread, calls in enumerate(threads):
            if places[thread] < len(calls):
                call = calls[places[thread]]
                if call.kind != "await" or call.key in machine.posts:
                    posted = machine.posts[call.key] if call.kind == "await" else 0
                    ready.append((max(clocks[thread], posted) + call.work_ns, thread))
        if not ready:
            return machine.ran
        start, thread = min(ready)
        call = threads[thread][places[thread]]
        places[thread] += 1
        vary = random.Random(f"{jitter} {thread} {places[thread]}")
        lags = tuple(lag + (0 if jitter is None else vary.randint(0, 800)) for lag in (LATENCY_NS, GAP_NS))
        end, number = machine.carry_out(call, start, lags)
        clocks[thread] = end
        machine.ran.calls.append((thread, call, start, end, number))


class _Machine:
    """A device and its queue."""

    def __init__(self, queue_depth: int) -> None:
        self.ran = Ran()
        self.queue_depth = queue_depth
        self.tails: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.events: dict[int, int] = {}
        self.posts: dict[int, int] = {}

    def carry_out(self, call: Call, start: int, lags: tuple[int, ...]) -> tuple[int, int]:
        """When a call returns, and the number of the activity that it launched, -1 for none."""
        end = start + call.call_ns
        if call.kind in ("launch", "copy"):
            return self._launch(call, start, lags)
        if call.kind == "record":
            self.events[call.key] = self.tails.get(call.stream, 0)
        elif call.kind == "wait" and self.events.get(call.key):
            self.held[call.stream] = max(self.held.get(call.stream, 0), self.events[call.key] + WAIT_NS)
        elif call.kind == "post":
            self.posts[call.key] = end
        awaited = {
            "device": list(self.tails.values()),
            "stream": [self.tails[call.stream]] if call.stream in self.tails else [],
            "event": [self.events[call.key]] if call.key in self.events else [],
        }.get(call.kind, [])
        return max([end, *(time + RETURN_NS for time in awaited)]), -1

    def _launch(self, call: Call, start: int, lags: tuple[int, ...]) -> tuple[int, int]:
        latency, gap = lags
        number, end = len(self.ran.activities), start + call.call_ns
        if number >= self.queue_depth:
            end = max(end, self.ran.activities[number - self.queue_depth][1])
        reference = start if call.kind == "copy" else end
        begin = max(
            reference + latency, self.tails.get(call.stream, -gap) + gap, self.held.pop(call.stream, 0)
        )  # fmt: skip
        self.tails[call.stream] = begin + call.duration_ns
        self.ran.activities.append((call.stream, begin, self.tails[call.stream]))
        return (max(end, self.tails[call.stream] + RETURN_NS) if call.kind == "copy" else end), number


NAMES = {
    "launch": "cudaLaunchKernel", "copy": "cudaMemcpyAsync", "device": "cudaDeviceSynchronize",
    "stream": "cudaStreamSynchronize", "event": "cudaEventSynchronize", "record": "cudaEventRecord",
    "wait": "cudaStreamWaitEvent",
}  # fmt: skip


def recorded(ran: Ran, *, with_waits: bool) -> TraceBuilder:
    """The recording of a simulation.

    Args:
        ran: The simulation.
        with_waits: Whether waits say what they wait for, as few recordings do.
    """
    built = TraceBuilder()
    records: dict[int, tuple[int, int]] = {}
    for thread, call, start, end, number in ran.calls:
        host = 100 + thread
        built.op(f"aten::{call.kind}", us(start - min(500, call.work_ns)), us(end - start + min(500, call.work_ns)),
                 thread=host)  # fmt: skip
        if call.kind in ("post", "await"):
            continue
        correlation = built.launch(us(start), us(end - start), name=NAMES[call.kind], thread=host)
        if call.kind == "launch":
            stream, begin, done = ran.activities[number]
            built.kernel(f"kernel_{number}", us(begin), us(done - begin), correlation=correlation, stream=stream)
        elif call.kind == "copy":
            stream, begin, done = ran.activities[number]
            built.copy("Memcpy DtoH (Device -> Pageable)", us(begin), us(done - begin), size=8,
                       correlation=correlation, stream=stream)  # fmt: skip
        elif call.kind == "record":
            records[call.key] = correlation, call.stream
        elif call.kind == "wait" and with_waits and call.key in records:
            record, other = records[call.key]
            built.event("cuda_sync", "Stream Wait Event", us(start), us(end - start), stream=call.stream,
                        wait_on_stream=other, wait_on_cuda_event_record_corr_id=record, correlation=correlation,
                        device=0)  # fmt: skip
        elif call.kind == "stream" and with_waits:
            built.event("cuda_sync", "Stream Sync", us(start), us(end - start), stream=call.stream,
                        correlation=correlation, device=0)  # fmt: skip
    return built


def us(ns: int) -> Decimal:
    return Decimal(ns) / 1000


def program(seed: int) -> list[list[Call]]:
    """What one or two threads do: kernels on up to three streams, waits and blocking calls, the balance at random."""
    draw = random.Random(seed)
    streams = draw.choice([[7], [7, 20], [7, 20, 21]])
    host, device = draw.choice([2_000, 5_000, 10_000]), draw.choice([5_000, 20_000, 60_000])
    blocking = draw.choice([0.0, 0.02, 0.1])
    threads: list[list[Call]] = [[] for _ in range(draw.choice([1, 2]))]
    key = 0
    for phase in range(draw.randint(1, 6)):
        own = threads[phase % len(threads)]
        if len(threads) > 1 and phase:
            threads[(phase - 1) % 2].append(Call("post", 1_000, 500, key=-phase))
            own.append(Call("await", 4_000, 500, key=-phase))
        for _ in range(draw.randint(5, 60)):
            work, call = draw.randint(host // 2, host * 2), draw.randint(2_000, 5_000)
            kind = draw.random()
            if kind < blocking:
                what = draw.choice(["device", "stream", "copy", "event"])
                if what == "event":
                    key += 1
                    own.append(Call("record", 300, 1_000, key=key))
                own.append(Call(what, work, call, duration_ns=1_500 if what == "copy" else 0, key=key))
            elif kind < blocking + 0.1 and len(streams) > 1:
                # As collectives are launched: the other stream waits for this one, later this one for the other.
                other, length = draw.choice(streams[1:]), draw.randint(1_000, 6 * device)
                key += 2
                own += [
                    Call("record", work, 1_000, key=key), Call("wait", 500, 1_000, stream=other, key=key),
                    Call("launch", 500, call, stream=other, duration_ns=length),
                ]  # fmt: skip
                if draw.random() < 0.5:
                    own.append(Call("launch", work, call, duration_ns=draw.randint(1_000, 2 * device)))
                    own += [
                        Call("record", 500, 1_000, stream=other, key=key + 1), Call("wait", 500, 1_000, key=key + 1),
                    ]  # fmt: skip
                own.append(Call("launch", work, call, duration_ns=draw.randint(1_000, 2 * device)))
            else:
                own.append(Call("launch", work, call, duration_ns=draw.randint(1_000, 2 * device)))
    if draw.random() < 0.7:
        threads[(phase) % len(threads)].append(Call("device", 2_000, 3_000))
    return threads


def changed(threads: list[list[Call]], seed: int, host: float = 1.0) -> list[list[Call]]:
    """The same with other durations of activities, each times 1/4 to 2, and all host work times ``host``."""
    draw = random.Random(seed)
    return [
        [
            replace(
                call,
                work_ns=round(call.work_ns * host),
                duration_ns=round(call.duration_ns * draw.choice([0.25, 0.5, 1.0, 2.0])),
            )
            for call in calls
        ]
        for calls in threads
    ]
