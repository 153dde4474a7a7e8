"""What only the recording process knows: lists of tensors, torch's switches, devices, versions.

All of it goes into the file's key ``diagnose`` (``trace.extras``), so that a saved recording read back on another
machine, without torch, says the same as the live one.
"""

from __future__ import annotations

import gc
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from diagnose.processor import cpu_facts
from diagnose.recording.call_stacks import places_of_tree
from diagnose.trace.chrome import collector_off
from diagnose.trace.embed import base_time_ns
from diagnose.trace.extras import AcceleratorFacts, Arithmetic, CodePlace, Extras, GcRun, ListTensor

_TENSOR_LIST: Final = "List[Tensor]"
"""How torch's schemas spell the type of an argument that holds several tensors."""


class GcClock:
    """Notes when Python's garbage collector runs, on the system's clock."""

    def __init__(self) -> None:
        self._began = 0
        self._runs: list[tuple[int, int, int, int]] = []

    def _on_gc(self, phase: str, info: dict[str, int]) -> None:
        now = time.time_ns()
        if phase == "start":
            self._began = now
        elif self._began:
            self._runs.append((self._began, now - self._began, info["generation"], threading.get_native_id()))
            self._began = 0

    def start(self) -> None:
        """Listens from now on."""
        gc.callbacks.append(self._on_gc)

    def stop(self) -> None:
        """Listens no more."""
        if self._on_gc in gc.callbacks:
            gc.callbacks.remove(self._on_gc)

    def runs(self, trace: Path) -> tuple[GcRun, ...]:
        """The runs on the clock of the file ``trace``; none where its header does not say what that counts from."""
        base = base_time_ns(trace)
        if base is None:
            return ()
        return tuple(
            GcRun(start - base, max(0, took), generation, thread) for start, took, generation, thread in self._runs
        )


def gather(results: Any, *, has_shapes: bool, has_stacks: bool) -> Extras:
    """All that is known when a recording has just ended.

    Args:
        results: ``prof.profiler.kineto_results``.
        has_shapes: Whether shapes were recorded (without them there are no lists to keep).
        has_stacks: Whether stacks were.
    """
    import torch

    with collector_off():
        lists, arguments = tensor_lists(results) if has_shapes else ((), {})
        places, op_places, notes = _places(results) if has_stacks else ((), {}, ())
    return Extras(
        tool_version=_version_of("torch-diagnose"),
        torch_version=str(torch.__version__),
        python_version=platform.python_version(),
        has_shapes=has_shapes,
        has_stacks=has_stacks,
        tensor_lists=lists,
        list_arguments=arguments,
        places=places,
        op_places=op_places,
        notes=notes,
        arithmetic=_arithmetic(),
        cpu=cpu_facts(torch.get_num_threads()),
        accelerators=_accelerators(),
    )


def _places(results: Any) -> tuple[tuple[CodePlace, ...], dict[int, int], tuple[str, ...]]:
    """Where each op was called, and what to say if that cannot be told."""
    try:
        places, op_places = places_of_tree(results.experimental_event_tree())
    except Exception as error:  # noqa: BLE001 - the tree is torch's own affair; without lines there is still a report
        return (), {}, (f"the source lines could not be read from the stacks: {type(error).__name__}: {error}",)
    return places, dict(op_places), ()


class _ListOps(dict[str, bool]):
    """Whether an op may take a list of tensors, by name: as its schema says; unknown names may."""

    def __missing__(self, name: str) -> bool:
        import torch

        try:
            # No public door leads to an operator's schemas by name.
            schemas = torch._C._jit_get_schemas_for_operator(name)  # noqa: SLF001
        except RuntimeError:  # a name without a namespace
            schemas = []
        types = [str(argument.type) for schema in schemas for argument in schema.arguments]
        self[name] = not schemas or any(_TENSOR_LIST in spelled for spelled in types)
        return self[name]


def tensor_lists(results: Any) -> tuple[tuple[tuple[ListTensor, ...], ...], dict[int, dict[int, int]]]:
    """Every list of tensors that an op was given, equal ones once; the file loses their dtypes, and long ones whole.

    Returns:
        The distinct lists, and ``{External id: {argument index: index of its list}}``.
    """
    interned = _Interned()
    found: dict[int, dict[int, int]] = {}
    may_take_lists = _ListOps()
    pending = list(results.experimental_event_tree())
    while pending:
        node = pending.pop()
        children = node.children
        if children:
            pending.extend(children)
        if not may_take_lists[node.name]:
            continue
        inputs = getattr(node.extra_fields, "inputs", ())
        arguments = {i: interned.list_id(value) for i, value in enumerate(inputs) if _is_tensor_list(value)}
        if arguments:
            found[node.correlation_id] = arguments
    return tuple(interned.lists), found


def _is_tensor_list(value: Any) -> bool:
    return isinstance(value, list) and all(hasattr(item, "sizes") for item in value)


class _Interned:
    """Distinct tensors and distinct lists of them; a model has few, its optimizer names them every step."""

    def __init__(self) -> None:
        self.lists: list[tuple[ListTensor, ...]] = []
        self._list_ids: dict[tuple[int, ...], int] = {}
        self._tensors: list[ListTensor] = []
        self._tensor_ids: dict[tuple[Any, ...], int] = {}

    def list_id(self, tensors: list[Any]) -> int:
        key = tuple(self._tensor_id(tensor) for tensor in tensors)
        if key not in self._list_ids:
            self._list_ids[key] = len(self.lists)
            self.lists.append(tuple(self._tensors[index] for index in key))
        return self._list_ids[key]

    def _tensor_id(self, tensor: Any) -> int:
        key = (tuple(tensor.sizes), tensor.dtype, tuple(tensor.strides))
        if key not in self._tensor_ids:
            shape, dtype, strides = key
            self._tensor_ids[key] = len(self._tensors)
            self._tensors.append(ListTensor(shape, str(dtype).removeprefix("torch."), strides))
        return self._tensor_ids[key]


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # used from a source tree
        return None


def _arithmetic() -> Arithmetic:
    import torch

    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    return Arithmetic(
        matmul_allow_tf32=_switch(lambda: matmul.allow_tf32, lambda: matmul.fp32_precision == "tf32"),
        cudnn_allow_tf32=_switch(lambda: cudnn.allow_tf32, lambda: cudnn.conv.fp32_precision == "tf32"),
        float32_matmul_precision=_precision(),
        allow_fp16_reduced_precision_reduction=_switch(lambda: matmul.allow_fp16_reduced_precision_reduction),
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )


def _switch(*ways: Callable[[], Any]) -> bool | None:
    """The first way of asking that works: torch refuses the older names once a newer one was used."""
    for ask in ways:
        with suppress(RuntimeError, AttributeError):
            return bool(ask())
    return None


def _precision() -> str | None:
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _accelerators() -> tuple[AcceleratorFacts, ...]:
    """The CUDA devices of this process, if it uses CUDA at all (asking would start it)."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return ()
    found = []
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        found.append(
            AcceleratorFacts(
                index,
                device.name,
                compute_capability=(device.major, device.minor),
                sms=device.multi_processor_count,
                memory_bytes=device.total_memory,
                l2_bytes=getattr(device, "L2_cache_size", None) or None,
            )
        )
    return tuple(found)
