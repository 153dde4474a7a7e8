"""Activations that are saved and read back, though the backward pass could compute them again for nothing.

A gated layer computes ``act(gate) * up``. Eager autograd keeps the result of ``act`` for the product's backward, which
reads it and writes its own gradient, and keeps ``gate`` for the backward of ``act``, which reads that gradient again:
three kernels move nine tensors. One kernel that reads the gradient, ``gate`` and ``up``, computes ``act(gate)`` again
and writes both gradients moves five, and nothing is kept but ``gate`` and ``up``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.findings.case import Case, Proposal
from diagnose.findings.ordering import Ordered, in_launch_order, is_moved, joined, rates, tensors_of
from diagnose.replays.replayer import Change
from diagnose.schema import Interval
from diagnose.trace.host import skip
from diagnose.trace.tables import Ints
from diagnose.wall.phases import BACKWARD

ACTIVATIONS: Final = {
    "aten::silu": "aten::silu_backward", "aten::gelu": "aten::gelu_backward", "aten::mish": "aten::mish_backward",
    "aten::hardswish": "aten::hardswish_backward",
}  # fmt: skip
"""Activations whose backward reads their input, so that their result can be had from what is there; not relu, sigmoid
and tanh, which keep their result in its place."""

EAGER: Final = 9
"""Tensors that two products and the activation's backward move: each reads two and writes one."""

FUSED: Final = 5
"""The gradient, the gate and the other half are read, two gradients are written."""


class Gates(Struct, frozen=True):
    """The backward pass of gated layers; a column has one entry a layer and step, in places of the launch order [p].

    Attributes:
        activation: The activation's backward.
        first, last: The two products.
    """

    activation: Ints
    first: Ints
    last: Ints


def saved_activations(case: Case) -> list[Proposal]:
    """Gated layers read a saved activation back that is cheaper to compute again from what is read anyway.

    Which product takes the activation's result is read from sizes and order, for no recording has addresses; which
    kernels are the backward of which op, from autograd's sequence numbers. Low: the four tensors that go, at the
    memory's full rate. Mid: five ninths of the time of the three kernels (on a CPU, whose time may be the arithmetic's:
    as low). High: five tensors at the full rate.
    """
    if not case.is_training:
        return []
    ordered = in_launch_order(case)
    gates = _gates(case, ordered)
    left = None if gates is None else _left(case, ordered, gates)
    if gates is None or left is None:
        return []
    items = np.stack([ordered.item[places] for places in (gates.first, gates.last, gates.activation)])
    groups = distinct(case.group_of[items]).tolist()
    taken, size = case.replayer.duration[items].sum(axis=0), _result_bytes(case, ordered, gates)
    low, mid, high = (_in_one(case, items, gates, each) for each in left)
    steps = max(1, len(case.steps))
    ops = case.op_name(int(case.group_of[items[2][0]]))
    return [
        Proposal(
            rule="saved-activations",
            bound="memory",
            title="gated layers read saved activations back that are cheaper to compute again",
            evidence={
                "gates_per_step": case.per_step(len(taken)),
                "backward_ns_per_step": round(float(taken.sum()) / steps),
                "backward_bytes_per_step": round(float(EAGER * size.sum()) / steps),
                "bytes_per_step_computed_again": round(float(FUSED * size.sum()) / steps),
                "saved_bytes_per_step_not_needed": round(float(size.sum()) / steps),
                "activation": ops.removeprefix("aten::").removesuffix("_backward"),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=low,
            mid=mid,
            high=high,
            gap_ns=Interval(*(round(float((taken - each).sum()) / steps) for each in left)),
            advice="for layer in model.layers:  # saves both halves, and computes the activation again\n"
            "    layer.mlp = torch.compile(layer.mlp)\n"
            "# or one kernel by hand: liger_kernel.transformers.LigerSwiGLUMLP, LigerGEGLUMLP",
            assumes="the product after the activation multiplies its result (their sizes say so); nothing else reads "
            "it; the first steps compile",
        )
    ]


def _left(case: Case, ordered: Ordered, gates: Gates) -> list[NDArray[np.float64]] | None:
    """What one kernel in place of three takes, ns: worst, probable, best [p]; None without the memory's rate."""
    places = np.stack([gates.first, gates.last, gates.activation])
    dram = rates(case, int(ordered.group[gates.activation[0]]))[0]
    if dram is None:
        return None
    taken = case.replayer.duration[ordered.item[places]].sum(axis=0).astype(np.float64)
    tensor_ns = _result_bytes(case, ordered, gates) / dram * 1e9
    best = np.minimum(taken, FUSED * tensor_ns)
    worst = np.maximum(best, taken - (EAGER - FUSED) * tensor_ns)
    probable = worst if case.is_cpu else np.clip(taken * FUSED / EAGER, best, worst)
    return [worst, probable, best]


def _in_one(case: Case, items: Ints, gates: Gates, left: NDArray[np.float64]) -> Change:
    """The recording with one kernel in place of each three.

    Where they are a chain (``memory_chains``), which leaves its work with its first kernel, this leaves it there too:
    together the two must not count it as gone. Else the activation's backward has it, which no chain of them holds.

    Args:
        case: The recording.
        items: The two products and the activation's backward [3, p].
        gates: The same, as places.
        left: What one kernel takes, ns [p].
    """
    carrier = np.where(gates.activation == gates.last + 1, items[0], items[2])
    gone = np.zeros(len(case.replayer.duration), np.bool_)
    gone[items] = True
    gone[carrier] = False
    column = case.replayer.duration.astype(np.float64)
    column[carrier] = left
    return joined(column, gone)


def _gates(case: Case, ordered: Ordered) -> Gates | None:
    """Gated layers whose three backward kernels all are there and bound by memory; None where there are none."""
    forward, backward = _sequences(case, ordered)
    count = len(case.placed.groups)
    names = [case.op_name(group) for group in range(count)]
    is_activation = np.array([name in ACTIVATIONS for name in names], np.bool_)
    is_back = np.array([name in ACTIVATIONS.values() and _is_bound(case, group) for group, name in enumerate(names)])
    is_product = np.array([_is_product(case, group) for group in range(count)], np.bool_)
    is_slow = np.array([_is_bound(case, group) for group in range(count)], np.bool_)
    if not (is_activation.any() and is_back.any() and is_product.any()):
        return None
    sizes = np.array([_numel(case, group) for group in range(count)], np.int64)[ordered.group]
    here = is_activation[ordered.group] & (forward >= 0)
    activation = np.flatnonzero(here)
    product = np.flatnonzero(is_product[ordered.group] & (forward >= 0))
    after = _next(product, activation)
    # The next product of that size, before the next activation of any size.
    until = np.append(activation[1:], len(ordered.item))
    fits = (after >= 0) & (after < until) & (sizes[after] == sizes[activation])
    fits &= ordered.lane[after] == ordered.lane[activation]
    act, mul = forward[activation[fits]], forward[after[fits]]
    acts = np.flatnonzero(is_back[ordered.group] & (backward >= 0))
    muls = np.flatnonzero(is_product[ordered.group] & is_slow[ordered.group] & (backward >= 0))
    return _complete(act, mul, (acts, backward[acts]), (muls, backward[muls]))


def _complete(act: Ints, mul: Ints, acts: tuple[Ints, Ints], muls: tuple[Ints, Ints]) -> Gates | None:
    """Of pairs of sequence numbers those with one backward kernel of the activation and two of the product.

    Args:
        act: Sequence numbers of activations [p].
        mul: Those of the products after them [p].
        acts: Places of the activations' backward kernels, and their sequence numbers.
        muls: Those of the products'.
    """
    order = np.argsort(muls[1], kind="stable")
    place, number = muls[0][order], muls[1][order]
    begin, end = np.searchsorted(number, mul, "left"), np.searchsorted(number, mul, "right")
    by_act = np.argsort(acts[1], kind="stable")
    low, high = (np.searchsorted(acts[1][by_act], act, side) for side in ("left", "right"))
    whole = (end - begin == 2) & (high - low == 1)
    if not whole.any():
        return None
    first, last = place[begin[whole]], place[begin[whole] + 1]
    return Gates(acts[0][by_act[low[whole]]], np.minimum(first, last), np.maximum(first, last))


def _next(rows: Ints, places: Ints) -> Ints:
    """The first of ascending rows after each place, -1 where there is none."""
    index = np.searchsorted(rows, places, side="right")
    return np.where(index < len(rows), np.append(rows, -1)[np.minimum(index, len(rows))], -1)


def _sequences(case: Case, ordered: Ordered) -> tuple[Ints, Ints]:
    """Numbers by autograd: of each kernel's forward op, and of the op whose backward it is; -1 for neither [k]."""
    ops, op = case.placed.recording.trace.ops, case.placed.recording.items.op[ordered.item]
    nothing = np.full(len(op), -1, np.int64)
    if not len(ops.start):
        return nothing, nothing
    at, is_there = np.maximum(op, 0), op >= 0
    is_backward = case.phases.phase[ordered.item] == BACKWARD
    node = (ops.sequence >= 0) & (ops.forward_thread > 0)
    above = np.where(node, np.arange(len(node)), skip(ops.parent, node))[at]
    forward = np.where(is_there & ~is_backward & (ops.forward_thread[at] <= 0), ops.sequence[at], -1)
    return forward, np.where(is_there & is_backward & (above >= 0), ops.sequence[np.maximum(above, 0)], -1)


def _is_product(case: Case, group: int) -> bool:
    """Whether it multiplies two tensors of one shape and type, element by element."""
    op = case.op(group)
    if op is None or op.name != "aten::mul" or not is_moved(case, group):
        return False
    tensors = tensors_of(op)
    return len(tensors) == 2 and tensors[0].shape == tensors[1].shape and tensors[0].dtype == tensors[1].dtype


def _is_bound(case: Case, group: int) -> bool:
    """Whether memory is what it takes, and its bytes are known."""
    return case.placed.placements[group].bound == "memory" and is_moved(case, group)


def _numel(case: Case, group: int) -> int:
    return max((tensor.numel for tensor in tensors_of(case.op(group))), default=0)


def _result_bytes(case: Case, ordered: Ordered, gates: Gates) -> NDArray[np.float64]:
    """Bytes of each saved activation: what the activation's backward writes [p]."""
    works = [case.work(group) for group in range(len(case.placed.groups))]
    written = np.array([0 if work is None else work.bytes_written or 0 for work in works], np.float64)
    return written[ordered.group[gates.activation]]
