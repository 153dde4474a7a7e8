"""Kineto's file as typed values: its header and its events, whatever one of them looks like.

What Kineto writes is decoded at once. Another writer's spelling costs time, an event that is no event costs that event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from diagnose.errors import TraceError
from diagnose.trace.kineto import CATEGORY, EMPTY, HOST_SIDE, Event

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_NOT_JSON_NUMBER: Final = re.compile(rb"([:,\[]\s*)-?(?:nan|inf|NaN|Infinity|NAN|INF)(?=\s*[,}\]])")
_QUOTED_NAME: Final = re.compile(
    rb'(?<="name": ")(?!(?:[^"\\\n]|\\.)*"\s*[,}])((?:[^"\\\n]|\\.)*"[^\n]*?)(?="\s*,\s*"pid":)'
)
"""An annotation's name with quotation marks inside, which Kineto writes as they are (torch 2.13)."""


class File(Struct, rename="camel"):
    """The document; header keys that are not listed are dropped on purpose (they were seen with tokens in them)."""

    trace_events: list[Event] | UnsetType = UNSET
    device_properties: Raw = Raw(b"[]")
    distributed_info: Raw = EMPTY
    record_shapes: Raw = msgspec.field(default=Raw(b"0"), name="record_shapes")
    with_stack: Raw = msgspec.field(default=Raw(b"0"), name="with_stack")
    diagnose: Raw | UnsetType = UNSET


if TYPE_CHECKING:
    _Category = str
else:
    _Category = Literal[tuple({*CATEGORY, *HOST_SIDE})]
    """One string a category instead of one an event."""


class _Complete(Struct, gc=False, tag_field="ph", tag="X"):
    """What every row of a table is."""

    ph: ClassVar[str] = "X"
    cat: _Category = ""
    name: str = ""
    pid: int | str = ""
    tid: int | str = ""
    ts: Raw = Raw(b"")
    dur: Raw = Raw(b"")
    args: Raw = EMPTY


class _Instant(Struct, gc=False, tag_field="ph", tag="i"):
    """The allocator's events, among others."""

    ph: ClassVar[str] = "i"
    cat: _Category = ""
    name: str = ""
    args: Raw = EMPTY


class _Bare(Struct, gc=False):
    """Events that no table has rows of, often a third of the file: passed over, and counted."""

    ph: ClassVar[str] = ""
    name: ClassVar[str] = ""
    cat: _Category = ""


class _FlowStart(_Bare, gc=False, tag_field="ph", tag="s"):
    pass


class _FlowStep(_Bare, gc=False, tag_field="ph", tag="t"):
    pass


class _FlowEnd(_Bare, gc=False, tag_field="ph", tag="f"):
    pass


class _Metadata(_Bare, gc=False, tag_field="ph", tag="M"):
    pass


_UsualEvent = _Complete | _Instant | _FlowStart | _FlowStep | _FlowEnd | _Metadata


class _UsualFile(File, rename="camel"):
    """What Kineto writes; anything else in one event, and the file is decoded as ``File``."""

    trace_events: list[_UsualEvent] | UnsetType = UNSET  # type: ignore[assignment]


class _LooseFile(File, rename="camel"):
    trace_events: list[Raw] | UnsetType = UNSET  # type: ignore[assignment]


def decode_file(content: bytes, label: str) -> tuple[File, int]:
    """The file typed, and how many events were dropped because they are no objects."""
    content = content.removeprefix(_BYTE_ORDER_MARK)
    try:
        return _required(msgspec.json.decode(content, type=_UsualFile), label), 0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # another writer's, or no trace at all
    try:
        return _required(msgspec.json.decode(content, type=File), label), 0
    except RecursionError:
        raise TraceError(f"{label}: is nested too deeply to be a trace") from None
    except (msgspec.ValidationError, UnicodeDecodeError):
        pass  # one surprising value: decoded event by event below
    except msgspec.DecodeError as error:
        if _clean(content).strip() in (content, b""):
            raise _no_json(label, error) from error
    try:
        loose = msgspec.json.decode(_clean(content), type=_LooseFile)
    except RecursionError:
        raise TraceError(f"{label}: is nested too deeply to be a trace") from None
    except msgspec.ValidationError as error:
        raise TraceError(f"{label}: is JSON, but not a Kineto trace ({error})") from error
    except msgspec.DecodeError as error:
        raise _no_json(label, error) from error
    raw_events: Sequence[Any] = [] if loose.trace_events is UNSET else loose.trace_events
    events = [_loose_event(Raw(raw)) for raw in raw_events]
    kept = [event for event in events if event is not None]
    file = File(
        UNSET if loose.trace_events is UNSET else kept,
        loose.device_properties, loose.distributed_info, loose.record_shapes, loose.with_stack, loose.diagnose,
    )  # fmt: skip
    return _required(file, label), len(events) - len(kept)


def _no_json(label: str, error: Exception) -> TraceError:
    if "truncated" in str(error):
        return TraceError(f"{label}: the JSON is cut off; was the recording interrupted while saving?")
    return TraceError(f"{label}: is not JSON ({error})")


def _clean(content: bytes) -> bytes:
    """Without what some writers print though JSON does not have it: bare nan and inf, raw control characters, halves of
    surrogate pairs, bytes that are no UTF-8, quotation marks inside names.
    """
    text = content.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "replace").encode()
    text = _LONE_SURROGATE.sub(rb"\\ufffd", _CONTROL.sub(b" ", text))
    text = _QUOTED_NAME.sub(lambda found: re.sub(rb'(?<!\\)"', rb"\"", found[1]), text)
    return _NOT_JSON_NUMBER.sub(rb"\1null", text)


def _required(file: File, label: str) -> File:
    if file.trace_events is UNSET:
        raise TraceError(f"{label}: is JSON, but not a Kineto trace: it has no `traceEvents`")
    if not file.trace_events:
        raise TraceError(f"{label}: the trace has no events")
    return file


def _loose_event(raw: Raw) -> Event | None:
    try:
        return msgspec.json.decode(raw, type=Event)
    except msgspec.DecodeError:
        pass
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Raw])
    except msgspec.DecodeError:
        return None
    ph, cat, name, pid, tid = (
        _text(fields[key]) if key in fields else "" for key in ("ph", "cat", "name", "pid", "tid")
    )
    ts, dur = (fields.get(key, Raw(b"")) for key in ("ts", "dur"))
    return Event(ph, cat, name, pid, tid, ts, dur, fields.get("args", EMPTY))


def _text(raw: Raw) -> str:
    value = msgspec.json.decode(raw)
    return value if isinstance(value, str) else bytes(raw).decode("utf-8", "replace")
