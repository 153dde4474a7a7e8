"""Synthetic Kineto traces, written as Kineto writes them: times as decimal text with three digits, nothing rounded.

    trace = TraceBuilder()
    trace.step(0, 0, 100)
    trace.op("aten::relu", 1, 8, inputs=[((4096,), "float32")])
    trace.kernel("relu_kernel", 20, 30, correlation=trace.launch(2, 3))
    trace.write(tmp_path / "trace.json.gz")

Times are microseconds from the builder's epoch, as numbers or as text.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from diagnose.trace.chrome import Reading, parse_trace

Microseconds = int | float | str | Decimal

EPOCH_US = 1_712_195_495_519_000
"""Like a real epoch: near 1.7e15 a double's step is 0.25 us."""

HEADERS: Mapping[str, dict[str, Any]] = {
    "NVIDIA H100 80GB HBM3": {
        "totalGlobalMem": 84942979072, "computeMajor": 9, "computeMinor": 0, "numSms": 132, "warpSize": 32,
    },
    "NVIDIA A100-SXM4-80GB": {
        "totalGlobalMem": 84974239744, "computeMajor": 8, "computeMinor": 0, "numSms": 108, "warpSize": 32,
    },
}  # fmt: skip

SPELLINGS: Mapping[str, str] = {
    "float32": "float", "float64": "double", "bfloat16": "c10::BFloat16", "float16": "c10::Half", "int64": "long int",
    "int32": "int", "bool": "bool",
}  # fmt: skip


def decimal_text(time_us: Microseconds) -> str:
    """``1.5`` -> ``"1.500"``; an exact sum, since floats of short decimals print as they were written."""
    return f"{Decimal(str(time_us)):.3f}"


class TraceBuilder:
    """Collects events; every method that adds one returns what later events refer to."""

    def __init__(self, device: str | None = "NVIDIA H100 80GB HBM3", *, epoch_us: int = EPOCH_US) -> None:
        self.epoch_us = epoch_us
        self.events: list[dict[str, Any]] = []
        self.top: dict[str, Any] = {"schemaVersion": 1, "deviceProperties": [], "record_shapes": 1}
        self._last_id = 0
        self._last_correlation = 0
        if device is not None:
            self.header(device)

    def header(self, device: str, index: int = 0, **properties: Any) -> None:
        """Lists one more device."""
        self.top["deviceProperties"].append({"id": index, "name": device, **HEADERS.get(device, {}), **properties})

    def distributed(self, rank: int, world_size: int) -> None:
        self.top["distributedInfo"] = {"backend": "nccl", "rank": rank, "world_size": world_size}

    def event(
        self, cat: str, name: str, start: Microseconds, dur: Microseconds | None, *, pid: Any = 100, tid: Any = 100,
        **args: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Any complete event; the dict may be changed before the trace is written."""
        ts = decimal_text(Decimal(str(start)) + self.epoch_us)
        event: dict[str, Any] = {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": msgspec.Raw(ts)}
        if dur is not None:
            event["dur"] = msgspec.Raw(decimal_text(dur))
        event["args"] = args
        self.events.append(event)
        return event

    def op(
        self, name: str, start: Microseconds, dur: Microseconds, *, thread: int = 100,
        inputs: Sequence[Any] | None = None, external_id: int | None = None, **args: Any,
    ) -> int:  # fmt: skip
        """A host op; returns its External id.

        A tensor is ``(shape, dtype)`` or ``(shape, dtype, strides)``, a list of such tuples a TensorList; anything
        else is a scalar, a list of scalars, or None.
        """
        self._last_id = self._last_id + 1 if external_id is None else external_id
        recorded = {} if inputs is None else _inputs(inputs)
        self.event("cpu_op", name, start, dur, tid=thread, **{"External id": self._last_id}, **recorded, **args)
        return self._last_id

    def launch(
        self, start: Microseconds, dur: Microseconds = 2, *, name: str = "cudaLaunchKernel",
        cat: str = "cuda_runtime", thread: int = 100, correlation: int | None = None, external_id: int | None = None,
    ) -> int:  # fmt: skip
        """A runtime call; returns its correlation."""
        self._last_correlation = self._last_correlation + 1 if correlation is None else correlation
        args = {"correlation": self._last_correlation} | ({} if external_id is None else {"External id": external_id})
        self.event(cat, name, start, dur, tid=thread, **args)
        return self._last_correlation

    def kernel(
        self, name: str, start: Microseconds, dur: Microseconds, *, correlation: int | None = None, stream: int = 7,
        grid: Sequence[int] | None = (264, 1, 1), block: Sequence[int] | None = (256, 1, 1), device: int = 0,
        external_id: int | None = None, **args: Any,
    ) -> dict[str, Any]:  # fmt: skip
        given = {"correlation": correlation, "grid": grid, "block": block, "External id": external_id}
        kept = {key: value for key, value in given.items() if value is not None}
        return self.event(
            "kernel", name, start, dur, pid=device, tid=stream, device=device, stream=stream, **kept, **args
        )

    def copy(
        self, name: str, start: Microseconds, dur: Microseconds, *, size: int | None, correlation: int | None = None,
        stream: int = 7, device: int = 0, cat: str = "gpu_memcpy",
    ) -> dict[str, Any]:  # fmt: skip
        """A memory copy, named as Kineto does: ``Memcpy HtoD (Pageable -> Device)``."""
        given = {"correlation": correlation, "bytes": size}
        kept = {key: value for key, value in given.items() if value is not None}
        return self.event(cat, name, start, dur, pid=device, tid=stream, device=device, stream=stream, **kept)

    def memset(self, start: Microseconds, dur: Microseconds, *, size: int | None, **others: Any) -> dict[str, Any]:
        return self.copy("Memset (Device)", start, dur, size=size, cat="gpu_memset", **others)

    def collective(
        self, start: Microseconds, dur: Microseconds, *, elements: int, dtype: str = "Float", ranks: int = 8,
        kind: str = "allreduce", name: str = "ncclDevKernel_AllReduce_Sum_f32_RING_LL", **others: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """An NCCL kernel with the metadata that newer recordings keep on it."""
        described = {
            "Collective name": kind, "dtype": dtype, "In msg nelems": elements, "Out msg nelems": elements,
            "Group size": ranks,
        }  # fmt: skip
        return self.kernel(name, start, dur, **{"stream": 20, **others}, **described)

    def annotation(self, name: str, start: Microseconds, dur: Microseconds, *, thread: int = 100) -> None:
        self.event("user_annotation", name, start, dur, tid=thread)

    def step(self, number: int, start: Microseconds, dur: Microseconds) -> None:
        """A profiler step's mark."""
        self.annotation(f"ProfilerStep#{number}", start, dur)

    def bytes(self) -> bytes:
        """The file's content."""
        return msgspec.json.encode({**self.top, "traceEvents": self.events})

    def json(self) -> dict[str, Any]:
        """The content as Python sees it (times as floats: for changing a trace, not for checking it)."""
        parsed: dict[str, Any] = json.loads(self.bytes())
        return parsed

    def reading(self) -> Reading:
        """What the reader makes of it."""
        return parse_trace(self.bytes(), "built.json")

    def write(self, path: Path) -> Path:
        """Writes the file, compressed if its name says so."""
        content = self.bytes()
        path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
        return path


def _inputs(inputs: Sequence[Any]) -> dict[str, list[Any]]:
    columns = [_input(value) for value in inputs]
    keys = ("Input Dims", "Input type", "Input Strides", "Concrete Inputs")
    return {key: [column[index] for column in columns] for index, key in enumerate(keys)}


def _input(value: Any) -> tuple[Any, str, Any, str]:
    """One argument as Kineto writes it: dims, type, strides, concrete."""
    if isinstance(value, tuple):
        shape, dtype = value[:2]
        return list(shape), SPELLINGS[dtype], list(value[2]) if len(value) > 2 else dense(shape), ""
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        tensors = [_input(item) for item in value]
        return [item[0] for item in tensors], "TensorList", [item[2] for item in tensors], ""
    if isinstance(value, list):
        return [], "ScalarList", [], str(value)
    return ([], "", [], "") if value is None else ([], "Scalar", [], str(value))


def dense(shape: Sequence[int]) -> list[int]:
    """Strides of a contiguous tensor."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return strides[::-1]


def launched(  # one kernel of one op, the everyday case
    trace: TraceBuilder, op: str, inputs: Sequence[Any] | None, at: Microseconds, dur: Microseconds, *,
    kernel: str = "void at::native::some_kernel()", launch_at: Microseconds | None = None, **kernel_args: Any,
) -> int:  # fmt: skip
    """An op whose launch call launches one kernel at ``at`` for ``dur``; returns the External id."""
    host = Decimal(str(at)) - 10 if launch_at is None else Decimal(str(launch_at))
    external_id = trace.op(op, host - 1, 6, inputs=inputs)
    correlation = trace.launch(host, 3, external_id=external_id)
    trace.kernel(kernel, at, dur, correlation=correlation, external_id=external_id, **kernel_args)
    return external_id
