"""What only the recording process knows: lists of tensors, torch's switches, devices, versions.

All of it goes into the file's key ``diagnose`` (``trace.extras``), so that a saved recording read back on another
machine, without torch, says the same as the live one.
"""

from __future__ import annotations

import gc
import platform
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from diagnose.processor import cpu_facts
from diagnose.recording.call_stacks import places_of_tree
from diagnose.trace.chrome import collector_off
from diagnose.trace.embed import base_time_ns, ids_with_lists
from diagnose.trace.extras import AcceleratorFacts, Arithmetic, CodePlace, Extras, GcRun, ListTensor


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


def gather(results: Any, path: Path, *, has_shapes: bool, has_stacks: bool) -> Extras:
    """All that is known when a recording has just ended.

    Args:
        results: ``prof.profiler.kineto_results``.
        path: Where it was saved.
        has_shapes: Whether shapes were recorded (without them there are no lists to keep).
        has_stacks: Whether stacks were.
    """
    import torch

    with collector_off():
        lists, arguments = tensor_lists(results, ids_with_lists(path)) if has_shapes else ((), {})
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


def tensor_lists(
    results: Any, wanted: Sequence[int]
) -> tuple[tuple[tuple[ListTensor, ...], ...], dict[int, dict[int, int]]]:
    """The lists of tensors that ops were given, equal ones once; the file loses their dtypes, and long ones whole.

    Args:
        results: ``prof.profiler.kineto_results``.
        wanted: The External ids of the ops with lists, ascending. Only the branches with them are looked at: the tree
            comes node by node, which takes seconds where there are a million.

    Returns:
        The distinct lists, and ``{External id: {argument index: index of its list}}``.
    """
    interned = _Interned()
    found: dict[int, dict[int, int]] = {}
    lanes: dict[int, list[Any]] = {}
    for root in results.experimental_event_tree() if wanted else ():
        lanes.setdefault(root.start_tid, []).append(root)
    pending = [(siblings, wanted) for siblings in lanes.values()]
    while pending:
        for node, inside in _holding(*pending.pop()):
            pending.append((node.children, inside))
            if node.correlation_id == inside[0]:
                inputs = enumerate(getattr(node.extra_fields, "inputs", ()))
                found[inside[0]] = {i: interned.list_id(value) for i, value in inputs if _is_tensor_list(value)}
    return tuple(interned.lists), found


def _holding(siblings: Sequence[Any], wanted: Sequence[int]) -> Iterator[tuple[Any, Sequence[int]]]:
    """Those of one thread's successive nodes that may be or hold a wanted one, and which.

    A thread's ops are numbered as they begin: below a node are the numbers from its own to the next one's. What is no
    op (a Python function, an allocation) has none.
    """
    ids = [node.correlation_id for node in siblings]
    until = len(wanted)
    for node, number in zip(reversed(siblings), reversed(ids), strict=True):
        first = bisect_left(wanted, number) if number else 0
        if first < until:
            yield node, wanted[first:until]
        until = first if number else until


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
