"""Triton kernels, Inductor's and users': from the arguments of their launch.

Such an op's inputs are the kernel's pointers and then its numbers. Inductor orders them: buffers that it reads and
writes (``in_out_ptr``), buffers read, buffers written, sizes, and last the lengths of the loops (``xnumel``,
``r0_numel``). Names of arguments are not recorded, so what is written is told by its length: docs/work.md has the rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from diagnose.costs.promotion import is_complex, is_floating, known_dtype
from diagnose.costs.registry import cost_where
from diagnose.costs.traffic import itemsize, operations
from diagnose.costs.triton_names import CREATES, PARTS, SCATTERS, SLICES, TABLES, KernelName, read_triton_name
from diagnose.costs.triton_templates import read_template
from diagnose.work import MissingFactError, Op, TensorMeta, Work

_TILE: Final = re.compile(r"(?:^|,)([A-Z]\d?)_?BLOCK=")
_MOST_ITERATIONS: Final = 1 << 50
_IN_REDUCTIONS: Final = frozenset({"mm", "bmm", "mv", "addmm", "baddbmm"})


class Launch(Struct, frozen=True):
    """The arguments of a launch.

    Attributes:
        pointers: In order.
        numbers: What follows the last pointer; None for one that was not recorded.
        rows: Iterations of the outer loops, None where their lengths were not recorded.
        depth: Iterations of the reduced loops for each of those; 1 where nothing is reduced.
    """

    pointers: tuple[TensorMeta, ...]
    numbers: tuple[int | None, ...]
    rows: int | None = None
    depth: int = 1

    @property
    def total(self) -> int | None:
        """Elements of the whole iteration."""
        return None if self.rows is None else self.rows * self.depth


@dataclass(slots=True)
class Traffic:
    """Bytes each way, and whether they are a bound."""

    read: int = 0
    written: int = 0
    is_bound: bool = False


def is_triton(op: Op) -> bool:
    """Whether the op is the launch of a Triton kernel: it says so, or has a name as Inductor gives them."""
    return op.attribute("backend") == "triton" or (
        op.name.startswith("triton_") and read_triton_name(op.name).kind != "user"
    )


@cost_where(is_triton)
def triton(op: Op) -> Work:
    """A generated kernel.

    Shapes: pointers in the order in_out, in, out; then numbers, the last of them the lengths of the loops
    FLOPs: each op of the name once an element (a lower bound: repeated ops stand there once); templates 2 m n k; None
        where the name has an op that we do not know
    Bytes: each pointer once, at most an element an iteration; what is written is told by length; where Inductor
        estimated the sum (``benchmark_kernel``), that
    Assumes: a user's kernel, and one without recorded lengths, touches every element of every pointer once: a bound
    """
    name, launch = read_triton_name(op.name), _launch(op)
    if name.kind == "user":
        traffic, flops = _each_once(launch, None), None
    elif name.kind == "template":
        template = read_template(name, launch.pointers, op.attribute("flops"))
        traffic, flops = _whole(launch, template.is_in_place), template.flops
    else:
        launch = _with_lengths(launch, name, str(op.attribute("tiles") or ""))
        traffic, flops = _traffic(name, launch), _flops(name, launch)
    traffic = _estimated(traffic, op.attribute("bytes"))
    return Work(flops, traffic.read, traffic.written, source="triton", is_bound=traffic.is_bound)


def _launch(op: Op) -> Launch:
    if op.inputs is None:
        raise MissingFactError("shapes were not recorded")
    places = [index for index, value in enumerate(op.inputs) if isinstance(value, TensorMeta)]
    if not places:
        raise MissingFactError("the kernel's arguments were not recorded")
    pointers = tuple(op.tensor(index) for index in places)
    if any(not isinstance(value, (TensorMeta, int)) for value in op.inputs[: places[-1]]):
        raise MissingFactError("one of the kernel's pointers was not recorded")
    rest = op.inputs[places[-1] + 1 :]
    return Launch(pointers, tuple(v if isinstance(v, int) and not isinstance(v, bool) else None for v in rest))


def _with_lengths(launch: Launch, name: KernelName, tiles: str) -> Launch:
    """The lengths of the loops: as many of the last numbers as the kernel has tiled dimensions."""
    found = set(_TILE.findall(tiles))
    outer = len(found & {"X", "Y", "Z"})
    inner = 0
    if name.kind in ("reduction", "persistent"):
        # A persistent reduction's inner tile, and an outer tile of one, are no arguments.
        outer, inner = max(outer, 1), max(len([tile for tile in found if tile.startswith("R")]), 1)
    lengths = launch.numbers[len(launch.numbers) - outer - inner :] if len(launch.numbers) >= outer + inner else ()
    known = [length for length in lengths if length is not None and length > 0]
    if not outer or len(known) != outer + inner or prod(known) > _MOST_ITERATIONS:
        return launch
    rows, depth = prod(known[:outer]), prod(known[outer:])
    longest = max(pointer.numel for pointer in launch.pointers)
    if longest < rows and not name.has(SCATTERS):
        return launch  # nowhere to write the results: these numbers are something else
    return replace(launch, rows=rows, depth=depth)


def _bytes(pointer: TensorMeta, elements: int) -> int:
    return min(pointer.distinct_numel, elements) * itemsize(known_dtype(pointer))


def _each_once(launch: Launch, limit: int | None) -> Traffic:
    """Every pointer's elements (at most ``limit``), the last one's as written."""
    sizes = [_bytes(pointer, pointer.numel if limit is None else limit) for pointer in launch.pointers]
    return Traffic(sum(sizes[:-1]), sizes[-1], is_bound=True)


def _whole(launch: Launch, is_in_place: bool) -> Traffic:
    """A template's operands and its result, which stands last, or first where it takes the place of an input."""
    sizes = [_bytes(pointer, pointer.numel) for pointer in launch.pointers]
    return Traffic(sum(sizes), sizes[0]) if is_in_place else Traffic(sum(sizes[:-1]), sizes[-1])


def _traffic(name: KernelName, launch: Launch) -> Traffic:
    pointers, total = launch.pointers, launch.total
    first, last = pointers[0], pointers[-1]
    if total is None:
        # Whichever of the two is written has as many elements as there are iterations.
        return _each_once(launch, max(first.numel, last.numel) if name.kind == "pointwise" else None)
    if len(pointers) == 1:
        size = _bytes(first, total)
        creates = name.ops is not None and CREATES.issuperset(name.ops)
        return Traffic(0 if creates else size, size)
    traffic = Traffic()
    if _can_be_written(last, name, launch) and not _is_what_is_reduced(last, name, launch):
        inputs = pointers[:-1]
        traffic.written = _bytes(last, total)
        # With an operand for every pointer the first one may be the result instead: then a write is missing.
        traffic.is_bound = (name.operands or 0) >= len(pointers) and first.numel == total
    elif _can_be_written(first, name, launch):
        inputs = pointers if first.numel >= total else pointers[1:]
        traffic.written = _bytes(first, total)
    else:
        return _each_once(launch, total)
    for pointer in inputs:
        elements, is_bound = _elements_read(pointer, name, len(inputs), total)
        traffic.read += _bytes(pointer, elements)
        traffic.is_bound |= is_bound
    return traffic


def _can_be_written(pointer: TensorMeta, name: KernelName, launch: Launch) -> bool:
    """Whether a result of the kernel fits: an element an iteration, or in a reduction an element a row."""
    rows, total = launch.rows or 0, launch.total or 0
    return pointer.numel >= total or pointer.numel == rows or name.has(SCATTERS)


def _is_what_is_reduced(last: TensorMeta, name: KernelName, launch: Launch) -> bool:
    """Whether the last pointer is a reduction's input: the only one long enough to be."""
    total = launch.total or 0
    long = [pointer for pointer in launch.pointers if pointer.numel >= total]
    return name.kind in ("reduction", "persistent") and launch.depth > 1 and len(long) == 1 and last.numel >= total


def _elements_read(pointer: TensorMeta, name: KernelName, inputs: int, total: int) -> tuple[int, bool]:
    """How many elements of an input a kernel reads, and whether that is a bound."""
    if pointer.distinct_numel <= total or name.has(TABLES):
        return total, False
    # Fewer inputs than the ops need: slices of one tensor are the operands (a gate and its values).
    loads = (name.operands or 0) - (inputs - 1)
    if loads * total >= pointer.distinct_numel:
        return pointer.distinct_numel, False
    return total, not name.has(SLICES)


def _estimated(traffic: Traffic, estimate: str | float | None) -> Traffic:
    """The sum that Inductor knew when it wrote the kernel, divided as we would."""
    if not isinstance(estimate, (int, float)):
        return traffic
    total = round(estimate)
    written = min(traffic.written, total)
    return Traffic(total - written, written)


def _flops(name: KernelName, launch: Launch) -> tuple[tuple[str, int], ...] | None:
    """Each op of the name once an element; once a row what a reduction does to its results."""
    rows, total = launch.rows, launch.total
    if name.ops is None or rows is None or total is None:
        return None
    reduces = name.kind in ("reduction", "persistent")
    flops = special = 0
    for op in name.ops:
        part = PARTS[op]
        count = rows if part.is_row and reduces else total
        flops += (2 if reduces and op in _IN_REDUCTIONS else part.flops) * count
        special += part.special * count
    return operations(_compute_dtype(launch.pointers), flops, special)


def _compute_dtype(pointers: tuple[TensorMeta, ...]) -> str:
    """What the kernel computes in: the widest real number among its arguments (short ones in float32)."""
    dtypes = [known_dtype(pointer) for pointer in pointers]
    for kinds in (is_complex, is_floating, lambda dtype: dtype != "bool"):
        found = [dtype for dtype in dtypes if kinds(dtype)]
        if found:
            return max(found, key=itemsize)
    return "bool"
