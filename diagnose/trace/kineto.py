"""How Kineto spells things: events and their arguments as typed values.

This module and ``kineto_file`` are the only ones that know the format's words. An event with a surprising value costs
that event at most: what the typed decoder rejects is decoded again loosely.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from diagnose.trace.tables import CONTEXT_SYNC, COPY, EVENT_SYNC, KERNEL, SET, STREAM_SYNC, STREAM_WAIT

OP, CALL, ACTIVITY, ANNOTATION, OVERHEAD, MEMORY, STACK, WAIT = 1, 2, 3, 4, 5, 6, 7, 8
_RUNTIMES = ("cuda", "xpu", "mtia", "privateuse1", "hpu", "glow")
CATEGORY: Final[Mapping[str, int]] = {
    "cpu_op": OP,
    **{f"{runtime}_{kind}": CALL for runtime in _RUNTIMES for kind in ("runtime", "driver")},
    "kernel": ACTIVITY, "gpu_memcpy": ACTIVITY, "gpu_memset": ACTIVITY,
    "user_annotation": ANNOTATION,
    "overhead": OVERHEAD,
    "cpu_instant_event": MEMORY,
    "python_function": STACK,
    "cuda_sync": WAIT,
}  # fmt: skip
KIND: Final[Mapping[str, int]] = {"kernel": KERNEL, "gpu_memcpy": COPY, "gpu_memset": SET}
HOST_SIDE: Final = frozenset({"", "ac2g", "async_cpu_to_gpu", "fwdbwd", "Trace", "gpu_user_annotation", "cuda_event"})
"""Categories that are neither rows of a table nor device activity that is not understood."""

WAIT_KIND: Final[Mapping[str, int]] = {
    "Stream Wait Event": STREAM_WAIT, "Stream Sync": STREAM_SYNC, "Event Sync": EVENT_SYNC,
    "Context Sync": CONTEXT_SYNC,
}  # fmt: skip
BLOCKING: Final = re.compile(r"Synchronize|synchronize|^(cuda|hip)Memcpy(\dD|(To|From)Symbol)?$|^hipMemcpyWithStream$")
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

EMPTY, _NOTHING = Raw(b"{}"), Raw(b"")
_AT_ONCE: Final = 4096
"""Arguments that are decoded by one call, and one by one where one of them is odd."""
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
    args: Raw = EMPTY


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


class WaitArgs(Struct, gc=False):
    """Arguments of a synchronisation; an unknown stream or correlation is written as the largest value of its type."""

    correlation: int = -1
    device: int = -1
    stream: int = -1
    wait_on_stream: int = -1
    record: int = msgspec.field(default=-1, name="wait_on_cuda_event_record_corr_id")


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
    decode = msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]
    found: list[Args] = []
    for first in range(0, len(events), _AT_ONCE):
        some = [event.args for event in events[first : first + _AT_ONCE]]
        try:
            found += decode(b"[" + b",".join(some) + b"]")
        except (msgspec.DecodeError, RecursionError):
            found += [loose_args(args, kind) for args in some]
    return found


def texts(column: Sequence[Raw]) -> list[bytes]:
    """Each one's JSON text: in one piece, since a copy each takes three times as long. JSON holds no zero bytes."""
    if not column or column.count(column[0]) == len(column):  # the default, where they were not recorded
        return [bytes(column[0])] * len(column) if column else []
    return b"\0".join(column).split(b"\0")


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


_OVERLOAD: Final = re.compile(r"(\w+::\w+)\.(\w+)")


def without_overloads(names: list[str]) -> tuple[list[str], list[str | None]]:
    """Names of ops and their overloads: torch's profiler writes ``aten::add.Tensor`` if asked for overload names."""
    met = {name: found.groups() for name in set(names) if (found := _OVERLOAD.fullmatch(name)) is not None}
    if not met:
        return names, [None] * len(names)
    return [met[name][0] if name in met else name for name in names], [met.get(name, (None, None))[1] for name in names]
