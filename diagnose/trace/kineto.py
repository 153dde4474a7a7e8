"""How Kineto spells things: the file, its events and their arguments as typed values.

The only module that knows the format's words. An event with a surprising value costs that event at most: what the
typed decoder rejects is decoded again loosely.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from diagnose.errors import TraceError
from diagnose.trace.tables import COPY, KERNEL, SET

OP, CALL, ACTIVITY, ANNOTATION, OVERHEAD, MEMORY, STACK = 1, 2, 3, 4, 5, 6, 7
_RUNTIMES = ("cuda", "xpu", "mtia", "privateuse1", "hpu", "glow")
CATEGORY: Final[Mapping[str, int]] = {
    "cpu_op": OP,
    **{f"{runtime}_{kind}": CALL for runtime in _RUNTIMES for kind in ("runtime", "driver")},
    "kernel": ACTIVITY, "gpu_memcpy": ACTIVITY, "gpu_memset": ACTIVITY,
    "user_annotation": ANNOTATION,
    "overhead": OVERHEAD,
    "cpu_instant_event": MEMORY,
    "python_function": STACK,
}  # fmt: skip
KIND: Final[Mapping[str, int]] = {"kernel": KERNEL, "gpu_memcpy": COPY, "gpu_memset": SET}
HOST_SIDE: Final = frozenset(
    {"", "ac2g", "async_cpu_to_gpu", "fwdbwd", "Trace", "gpu_user_annotation", "cuda_sync", "cuda_event"}
)
"""Categories that are neither rows of a table nor device activity that is not understood."""

BLOCKING: Final = re.compile(r"Synchronize|synchronize|^(cuda|hip)Memcpy(\dD|(To|From)Symbol)?$|^hipMemcpyWithStream$")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_NOT_JSON_NUMBER: Final = re.compile(rb"([:,\[]\s*)-?(?:nan|inf|NaN|Infinity|NAN|INF)(?=\s*[,}\]])")
COLLECTIVE_KEYS: Final[Mapping[str, str]] = {
    "Collective name": "collective", "dtype": "dtype", "In msg nelems": "elements_in",
    "Out msg nelems": "elements_out", "Group size": "group_size", "Process Group Name": "group",
    "Process Group Description": "group_description", "Process Group Ranks": "ranks",
}  # fmt: skip
"""What a collective says of itself, and what ``Trace.metadata`` calls it."""

SCALAR_TYPES: Final[Mapping[str, str]] = {
    "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16", "long": "int64", "int": "int32",
    "short": "int16", "char": "int8", "byte": "uint8", "bool": "bool", "float8_e4m3fn": "float8_e4m3fn",
    "float8_e5m2": "float8_e5m2", "complexfloat": "complex64", "complexdouble": "complex128",
}  # fmt: skip
"""c10::ScalarType's own names, as a collective spells its dtype, in lower case."""

_EMPTY, _NOTHING = Raw(b"{}"), Raw(b"")
_LONGEST_ATTRIBUTE: Final = 1000
_LARGEST_ATTRIBUTE: Final = 1e18


class Event(Struct, gc=False):
    """What every event may have; numbers stay text, since doubles cannot hold them."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | str = ""
    tid: int | str = ""
    ts: Raw = Raw(b"")
    dur: Raw = Raw(b"")
    args: Raw = _EMPTY


class File(Struct, rename="camel"):
    """The document; header keys that are not listed are dropped on purpose (they were seen with tokens in them)."""

    trace_events: list[Event] | UnsetType = UNSET
    device_properties: Raw = Raw(b"[]")
    distributed_info: Raw = _EMPTY
    record_shapes: Raw = msgspec.field(default=Raw(b"0"), name="record_shapes")
    with_stack: Raw = msgspec.field(default=Raw(b"0"), name="with_stack")
    diagnose: Raw | UnsetType = UNSET


class _LooseFile(File, rename="camel"):
    trace_events: list[Raw] | UnsetType = UNSET  # type: ignore[assignment]


class OpArgs(Struct, gc=False):
    """Arguments of a host op."""

    external_id: int = msgspec.field(default=-1, name="External id")
    sequence: int = msgspec.field(default=-1, name="Sequence number")
    forward_thread: int = msgspec.field(default=-1, name="Fwd thread id")
    dims: Raw = msgspec.field(default=Raw(b""), name="Input Dims")
    types: Raw = msgspec.field(default=Raw(b""), name="Input type")
    strides: Raw = msgspec.field(default=Raw(b""), name="Input Strides")
    concrete: Raw = msgspec.field(default=Raw(b""), name="Concrete Inputs")
    backend: str = msgspec.field(default="", name="kernel_backend")
    tiles: Raw = msgspec.field(default=_NOTHING, name="kernel_kwargs")
    gigabytes: Raw = msgspec.field(default=_NOTHING, name="kernel_num_gb")
    operations: Raw = msgspec.field(default=_NOTHING, name="kernel_flop")


class CallArgs(Struct, gc=False):
    """Arguments of a runtime or driver call; ROCm also names the ``kernel`` that it launches."""

    external_id: int = msgspec.field(default=-1, name="External id")
    correlation: int = -1
    kernel: str = ""


class ActivityArgs(Struct, gc=False):
    """Arguments of a device activity."""

    external_id: int = msgspec.field(default=-1, name="External id")
    correlation: int = -1
    device: int = -1
    stream: int = -1
    grid: tuple[int, int, int] = (-1, -1, -1)
    block: tuple[int, int, int] = (-1, -1, -1)
    registers: int = msgspec.field(default=-1, name="registers per thread")
    shared_memory: int = msgspec.field(default=-1, name="shared memory")
    bytes: int = -1
    graph_node: int = msgspec.field(default=-1, name="graph node id")
    collective: Raw = msgspec.field(default=Raw(b""), name="Collective name")


class MemoryArgs(Struct, gc=False):
    """Arguments of the allocator's instant events."""

    allocated: int = msgspec.field(default=-1, name="Total Allocated")
    device_type: int = msgspec.field(default=-1, name="Device Type")


class DeviceProperties(Struct):
    """One device of the header."""

    id: int = -1
    name: str = ""
    memory: int | None = msgspec.field(default=None, name="totalGlobalMem")
    major: int | None = msgspec.field(default=None, name="computeMajor")
    minor: int | None = msgspec.field(default=None, name="computeMinor")
    sms: int | None = msgspec.field(default=None, name="numSms")
    threads_per_sm: int | None = msgspec.field(default=None, name="maxThreadsPerMultiprocessor")
    registers_per_sm: int | None = msgspec.field(default=None, name="regsPerMultiprocessor")
    shared_memory_per_sm: int | None = msgspec.field(default=None, name="sharedMemPerMultiprocessor")


class DistributedInfo(Struct):
    """The process among others."""

    rank: int | None = None
    world_size: int | None = None
    groups: Raw = msgspec.field(default=Raw(b"[]"), name="pg_config")


class GroupConfig(Struct):
    """One process group of the header."""

    size: int = msgspec.field(default=-1, name="pg_size")


def group_sizes(info: DistributedInfo) -> tuple[int, ...]:
    """The distinct sizes of the process groups."""
    listed: list[Raw] = header(info.groups, list[Raw], [])
    return tuple(sorted({size for raw in listed if (size := loose_args(raw, GroupConfig).size) > 0}))


def decode_file(content: bytes, label: str) -> tuple[File, int]:
    """The file typed, and how many events were dropped because they are no objects."""
    try:
        return _required(msgspec.json.decode(content.removeprefix(_BYTE_ORDER_MARK), type=File), label), 0
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
    surrogate pairs, bytes that are no UTF-8.
    """
    text = content.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "replace").encode()
    text = _LONE_SURROGATE.sub(rb"\\ufffd", _CONTROL.sub(b" ", text))
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
    return Event(ph, cat, name, pid, tid, ts, dur, fields.get("args", _EMPTY))


def _text(raw: Raw) -> str:
    value = msgspec.json.decode(raw)
    return value if isinstance(value, str) else bytes(raw).decode("utf-8", "replace")


def attributes(args: OpArgs) -> tuple[tuple[str, str | float], ...]:
    """What a generated kernel's op says of itself, in our words, sorted; values that make no sense are left out."""
    found: dict[str, str | float] = {"backend": args.backend}
    tiles = header(args.tiles, str, "") if args.tiles else ""
    if tiles:
        found["tiles"] = tiles
    for name, raw, unit in (("bytes", args.gigabytes, 1e9), ("flops", args.operations, 1.0)):
        value = _number(raw)
        if value is not None and 0 < value * unit < _LARGEST_ATTRIBUTE:
            found[name] = value * unit
    return tuple(sorted((name, value) for name, value in found.items() if len(str(value)) <= _LONGEST_ATTRIBUTE))


def _number(raw: Raw) -> float | None:
    """A number, also one written as text; nan and inf are none."""
    try:
        value = msgspec.json.decode(raw, type=float, strict=False)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if math.isfinite(value) else None


Args = TypeVar("Args", bound=Struct)


def decode_args(events: Sequence[Event], kind: type[Args]) -> list[Args]:
    """The arguments of each event; a value of the wrong type is left out alone."""
    decode = msgspec.json.Decoder(kind).decode
    try:
        return [decode(event.args) for event in events]
    except (msgspec.DecodeError, RecursionError):
        return [loose_args(event.args, kind) for event in events]


def loose_args(raw: Raw, kind: type[Args]) -> Args:
    """Field by field, so that one surprising value costs that value."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        return kind()
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name not in fields:
            continue
        try:
            values[field.name] = msgspec.json.decode(fields[field.encode_name], type=field.type, strict=False)
        except (msgspec.DecodeError, RecursionError):
            continue
    return kind(**values)


def header(raw: Raw, kind: Any, default: Any) -> Any:
    """A part of the header as ``kind``, ``default`` where it is something else."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError):
        return default
