"""A trace written back with more in it: further arguments and further events, every recorded field as it was.

Values keep their text: numbers are not read and printed again, so that no digit changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Raw

from diagnose.errors import TraceError
from diagnose.trace import kineto
from diagnose.trace.numbers import nanoseconds
from diagnose.trace.tables import Ints, Trace

ADDED_KEY: Final = "diagnose"
"""The argument that holds what is added, so that no recorded argument is covered."""

FIRST_PROCESS: Final = 2_000_000_000
"""Our tracks' process numbers: beyond those of any system, which Kineto uses."""

_CATEGORY: Final = "diagnose"


def rewritten(
    content: bytes, trace: Trace, is_cpu: bool, added: Sequence[Mapping[str, Any] | None], more: Iterable[bytes]
) -> bytes:
    """The trace with ``added[row]`` among the arguments of each activity (on a CPU of each op), and ``more`` events.

    Args:
        content: The JSON text that ``trace`` was read from.
        trace: Its columns.
        is_cpu: Whether rows are ops instead of activities.
        added: One entry a row of the table, and perhaps more; None adds nothing.
        more: Further events, as JSON.

    Raises:
        TraceError: The file needed mending to be read, so that it cannot be written back as it was.
    """
    try:
        top = msgspec.json.decode(content, type=dict[str, Raw])
        texts = msgspec.json.decode(top["traceEvents"], type=list[Raw])
        events = msgspec.json.decode(top["traceEvents"], type=list[kineto.Event])
    except (msgspec.MsgspecError, KeyError, UnicodeError, RecursionError) as error:
        raise TraceError(f"this trace is not plain JSON and cannot be written back unchanged: {error}") from error
    code, start = (kineto.OP, trace.ops.start) if is_cpu else (kineto.ACTIVITY, trace.activities.start)
    written: list[bytes] = list(map(bytes, texts))
    places = _places(events, code, start + trace.epoch_ns)
    # Items beyond the table are a host's collectives, which are recorded as annotations.
    for place, values in zip(places.tolist(), added, strict=False):
        if values:
            written[place] = _with_argument(written[place], msgspec.json.encode(values))
    body = b",\n".join([*written, *more])
    keys = [
        msgspec.json.encode(key) + b":" + (b"[\n" + body + b"\n]" if key == "traceEvents" else bytes(raw))
        for key, raw in top.items()
    ]
    return b"{" + b",\n".join(keys) + b"}\n"


def _places(events: Sequence[kineto.Event], code: int, start_ns: Ints) -> Ints:
    """Where in the file each row of a table stands: the reader's own order, checked against its times."""
    chosen = [place for place, event in enumerate(events) if event.ph == "X" and kineto.CATEGORY.get(event.cat) == code]
    begin, has_begin = nanoseconds([events[place].ts for place in chosen])
    length, has_length = nanoseconds([events[place].dur for place in chosen])
    is_usable = has_begin & has_length & (np.abs(begin) < 1 << 61) & (length < 1 << 61)
    order = np.argsort(begin, kind="stable")
    order = order[is_usable[order]]
    if not np.array_equal(begin[order], start_ns):
        raise TraceError("this trace's events cannot be told apart, so that it cannot be written back")
    return np.array(chosen, np.int64)[order]


def _with_argument(text: bytes, value: bytes) -> bytes:
    """The event with one more argument, the last; as it was where its arguments are no object."""
    fields = msgspec.json.decode(text, type=dict[str, Raw])
    recorded = bytes(fields.get("args", Raw(b"{}"))).strip()
    if not recorded.startswith(b"{"):
        return text
    if ADDED_KEY.encode() in recorded:  # written by us before: what is added replaces that
        known = {
            key: raw for key, raw in msgspec.json.decode(recorded, type=dict[str, Raw]).items() if key != ADDED_KEY
        }
        recorded = msgspec.json.encode(known)
    body = recorded[1:-1].rstrip()
    fields["args"] = Raw(
        b"{" + body + (b"," if body.strip() else b"") + b'"' + ADDED_KEY.encode() + b'":' + value + b"}"
    )
    return b"{" + b",".join(msgspec.json.encode(key) + b":" + bytes(raw) for key, raw in fields.items()) + b"}"


class Track:
    """Makes the events of one process of ours: JSON objects in the trace-event format.

    Args:
        number: Counted from 0.
        name: What the viewer calls it.
        epoch_ns: Where the trace's offsets count from.
    """

    def __init__(self, number: int, name: str, epoch_ns: int) -> None:
        self._process = FIRST_PROCESS + number
        self._epoch_ns = epoch_ns
        self.names = [
            self._event("M", "process_name", 0, args={"name": name}),
            self._event("M", "process_sort_index", 0, args={"sort_index": -10 + number}),
        ]

    def counters(self, name: str, at_ns: Ints, values: Mapping[str, Sequence[float]]) -> list[bytes]:
        """A sample of each series at each time; a viewer draws them as steps."""
        return [
            self._event("C", name, 0, ts=self._time(at), args=dict(zip(values, sample, strict=True)))
            for at, *sample in zip(at_ns.tolist(), *values.values(), strict=True)
        ]

    def slices(
        self, thread: int, names: Sequence[str], start_ns: Ints, end_ns: Ints, args: Callable[[int], Mapping[str, Any]]
    ) -> list[bytes]:
        """An interval each, on one line of the viewer."""
        spans = zip(names, start_ns.tolist(), end_ns.tolist(), strict=True)
        return [
            self._event(
                "X", name, thread, cat=_CATEGORY, ts=self._time(start), dur=_microseconds(end - start), args=args(row)
            )
            for row, (name, start, end) in enumerate(spans)
        ]

    def line(self, thread: int, name: str) -> bytes:
        """What a line is called."""
        return self._event("M", "thread_name", thread, args={"name": name})

    def _time(self, offset_ns: int) -> Raw:
        return _microseconds(self._epoch_ns + offset_ns)

    def _event(self, phase: str, name: str, thread: int, **fields: Any) -> bytes:
        return msgspec.json.encode({"ph": phase, "name": name, "pid": self._process, "tid": thread, **fields})


def _microseconds(time_ns: int) -> Raw:
    """Exact decimal text: a double cannot hold absolute microseconds with decimals."""
    sign, size = ("-", -time_ns) if time_ns < 0 else ("", time_ns)
    return Raw(f"{sign}{size // 1000}.{size % 1000:03d}")
