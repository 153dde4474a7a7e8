"""The top-level key ``diagnose`` of a saved recording: what Kineto's file cannot hold otherwise.

Written by ``recording``, read back by the reader. The key is data from a stranger like the rest of the file: each
field is decoded by itself, so that a surprising one costs that field and a note, never the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from diagnose.medians import median_low
from diagnose.schema import Ceiling
from diagnose.work import TensorMeta

EXTRAS_KEY: Final = "diagnose"
EXTRAS_VERSION: Final = 1

MARK_PREFIX: Final = "diagnose.profile#"
"""Name of the annotation that the recorder writes around a plain block; a number follows."""

Size = Annotated[int, Meta(ge=0, le=2**62)]
Stride = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Time = Annotated[int, Meta(ge=0, le=2**62)]


class ListTensor(Struct, frozen=True, array_like=True):
    """One tensor inside a list, as ``[shape, dtype, strides]``; the dtype is torch's name without ``torch.``."""

    shape: tuple[Size, ...]
    dtype: str | None = None
    strides: tuple[Stride, ...] | None = None

    def meta(self) -> TensorMeta:
        """The same as a value that formulas see."""
        strides = self.strides if self.strides is not None and len(self.strides) == len(self.shape) else None
        return TensorMeta(self.shape, self.dtype, strides)


class Arithmetic(Struct, frozen=True):
    """torch's switches at the time of recording that decide which unit runs float32 matmuls and convolutions."""

    matmul_allow_tf32: bool | None = None
    cudnn_allow_tf32: bool | None = None
    float32_matmul_precision: str | None = None
    allow_fp16_reduced_precision_reduction: bool | None = None
    deterministic: bool | None = None


class CpuFacts(Struct, frozen=True):
    """The processor that ran the host, and the CPU's ops.

    Attributes:
        model: The maker's name of it.
        physical_cores: Cores without hyper-threads that this process may use.
        threads: torch's intra-op threads.
        l2_bytes: Of one core.
        llc_bytes: Last-level cache, all that the process's cores share between them.
    """

    model: str | None = None
    physical_cores: Size | None = None
    threads: Size | None = None
    l2_bytes: Size | None = None
    llc_bytes: Size | None = None


class AcceleratorFacts(Struct, frozen=True):
    """One device as torch describes it live: more than the trace's header says."""

    index: Size
    name: str
    kind: str = "cuda"
    compute_capability: tuple[int, int] | None = None
    sms: Size | None = None
    memory_bytes: Size | None = None
    l2_bytes: Size | None = None


class GcRun(Struct, frozen=True, array_like=True):
    """One run of Python's garbage collector, as ``[start, duration, generation, thread]``.

    ``start_ns`` is on the file's own clock: subtract nothing, it compares with ``ts`` x 1000.
    """

    start_ns: Stride
    duration_ns: Time
    generation: Size = 0
    thread: Size | None = None


class CodePlace(Struct, frozen=True, array_like=True):
    """Where in the code an op was called, as ``[module, line, caller]``; None where that is not known.

    Attributes:
        module: Path of the innermost module that was being called: ``GPT2.h.3.mlp``.
        line: Innermost position outside torch and Python's own code (``python_names`` says how it is written).
        caller: Innermost position in code that is not installed either.
    """

    module: str | None = None
    line: str | None = None
    caller: str | None = None


class Extras(Struct, frozen=True, kw_only=True):
    """Everything the key holds. Every field has a default, unknown ones are ignored.

    Attributes:
        version: Of this layout.
        tool_version, torch_version, python_version: Who recorded.
        has_shapes, has_stacks: Options of the recording.
        tensor_lists: Distinct lists of tensors.
        list_arguments: ``{External id of the op: {argument index: index into tensor_lists}}``.
        output_lists: Distinct answers of torch's meta execution to what an op puts out; nothing for views.
        outputs: ``{External id of an op without a formula: index into output_lists}``.
        places: Distinct places in the code; empty without stacks.
        op_places: ``{External id of the op: index into places}``; an op that is missing has that of the op around it.
        arithmetic: Switches of torch.
        cpu, accelerators: What it ran on.
        ceilings: Roofs in force while recording; they win over the reader's.
        plain_step_ns: Wall times of steps without the profiler.
        recorded_step_ns: Wall times of steps with it.
        gc_runs: Garbage collections inside the recording.
        notes: What the recorder has to say about the recording, each one sentence.
    """

    version: int = EXTRAS_VERSION
    tool_version: str | None = None
    torch_version: str | None = None
    python_version: str | None = None
    has_shapes: bool | None = None
    has_stacks: bool | None = None
    tensor_lists: tuple[tuple[ListTensor, ...], ...] = ()
    list_arguments: dict[int, dict[int, Size]] = {}
    output_lists: tuple[tuple[ListTensor, ...], ...] = ()
    outputs: dict[int, Size] = {}
    places: tuple[CodePlace, ...] = ()
    op_places: dict[int, Size] = {}
    arithmetic: Arithmetic | None = None
    cpu: CpuFacts | None = None
    accelerators: tuple[AcceleratorFacts, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    plain_step_ns: tuple[Time, ...] = ()
    recorded_step_ns: tuple[Time, ...] = ()
    gc_runs: tuple[GcRun, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def step_plain_ns(self) -> int | None:
        """Median wall time of a step without the profiler, None where none was timed."""
        return median_low(self.plain_step_ns) if self.plain_step_ns else None

    @property
    def step_recorded_ns(self) -> int | None:
        """Median wall time of a step under the profiler, None where none was timed."""
        return median_low(self.recorded_step_ns) if self.recorded_step_ns else None

    def lists_of(self, external_id: int) -> Mapping[int, tuple[TensorMeta, ...]]:
        """The tensor lists of one op by argument index; empty where none was kept."""
        arguments = self.list_arguments.get(external_id, {})
        return {
            argument: tuple(item.meta() for item in self.tensor_lists[index])
            for argument, index in arguments.items()
            if index < len(self.tensor_lists)
        }


def encode_extras(extras: Extras) -> bytes:
    """The key's value as JSON."""
    return msgspec.json.encode(extras)


def decode_extras(raw: bytes | memoryview | msgspec.Raw) -> tuple[Extras | None, str | None]:
    """The key's value read back.

    Returns:
        The extras, without the fields that could not be read, or None if nothing could; and a note saying what was
        dropped, None if all is well.
    """
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None, f"the key `{EXTRAS_KEY}` of the recording could not be read; what it held is missing"
    values: dict[str, Any] = {}
    dropped: list[str] = []
    for field in msgspec.structs.fields(Extras):
        if field.name not in fields:
            continue
        try:
            values[field.name] = msgspec.json.decode(fields[field.name], type=field.type)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OverflowError):
            dropped.append(field.name)
    if "ceilings" in values:
        sound = tuple(row for row in values["ceilings"] if _is_sound(row))
        if len(sound) < len(values["ceilings"]):
            dropped.append("ceilings that are no positive number")
        values["ceilings"] = sound
    note = f"unreadable in the key `{EXTRAS_KEY}` and left out: {', '.join(dropped)}" if dropped else None
    return Extras(**values), note


def _is_sound(row: Ceiling) -> bool:
    rates = [row.achievable, *(rate for rate in (row.datasheet, row.low, row.high) if rate is not None)]
    return all(math.isfinite(rate) and rate > 0 for rate in rates)
