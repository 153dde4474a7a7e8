"""What a recording shows around each group of items: its grid, its sizes, what ran beside it and before it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from diagnose.distinct import distinct
from diagnose.items import KIND_COPY, KIND_KERNEL, Recording
from diagnose.kernel_names import read_name
from diagnose.limits import Limits
from diagnose.pricing.grouping import Groups, sum_by
from diagnose.pricing.pricing import Priced
from diagnose.roofs.ceilings import Ceilings
from diagnose.roofs.hardware import Hardware
from diagnose.roofs.occupancy import Block, blocks_per_sm
from diagnose.roofs.operands import odd_sizes, product, strided
from diagnose.roofs.question import Evidence, Reuse
from diagnose.roofs.reuse import Access, reusable
from diagnose.trace.tables import Ints
from diagnose.work import Op, TensorMeta

_SAMPLES = 8
"""Calls of a group whose predecessors are looked at: they are alike, since steps and layers repeat."""


class Surroundings(Struct, frozen=True):
    """A recording's groups with what can be looked up around them; the last four by item.

    Attributes:
        shared: Share of each group's time in which other kernels ran on its device [g].
        order: Items by device, stream and start.
        rank: Where each item stands in ``order``.
    """

    recording: Recording
    groups: Groups
    priced: Priced
    hardware: Hardware
    limits: Limits
    shared: tuple[float, ...]
    order: Ints
    rank: Ints

    def evidence(self, index: int) -> Evidence:
        """Why the group may be slow."""
        kind = int(self.groups.kind[index])
        op = self._op_of_group(index)
        found = Evidence(
            odd_sizes=() if op is None else odd_sizes(op, self.limits.alignment_bytes),
            strided=None if op is None else strided(op, self.limits.sector_bytes),
            shared=self.shared[index],
        )
        return found if kind != KIND_KERNEL or self.recording.is_cpu else self._with_grid(index, op, found)

    def reuse(self, index: int, ceilings: Ceilings) -> Reuse | None:
        """What the cache may hold of the group's inputs when its kernels begin."""
        if ceilings.l2_bytes is None or self.recording.is_cpu:
            return None
        members = np.flatnonzero(self.groups.of_item == index)
        sample = members[:: max(1, len(members) // _SAMPLES)][:_SAMPLES].tolist()
        inputs = self._access(sample[0]).read if sample else ()
        room = self.limits.usable_l2 * ceilings.l2_bytes
        found = [reusable(inputs, self._before(item), room, self.limits) for item in sample]
        # The group's time is a mean over its calls, and so is what the cache did for them.
        known = sorted((each for each in found if each is not None), key=lambda each: each.bytes)
        if not known or (len(known) < len(found) and not known[-1].bytes):
            return None
        return replace(known[-1], bytes=sum(each.bytes for each in known) // len(known))

    def _with_grid(self, index: int, op: Op | None, found: Evidence) -> Evidence:
        first = int(self.groups.first[index])
        activities, blocks = self.recording.trace.activities, int(self.recording.items.blocks[first])
        threads = activities.block[first]
        block = Block(
            int(threads.prod()) if (threads >= 0).all() else -1,
            int(activities.registers[first]),
            int(activities.shared_memory[first]),
        )
        sm = self.hardware.multiprocessors.get(int(self.groups.device[index]))
        facts = read_name(self._name(first))
        factors = None if op is None else product(op)
        is_whole = facts.tile is not None and not facts.is_split_k
        return replace(
            found,
            blocks=blocks if blocks >= 0 else None,
            tiles=factors.tiles(facts.tile) if factors is not None and facts.tile is not None and is_whole else None,
            blocks_per_sm=None if sm is None else blocks_per_sm(block, sm),
        )

    def _name(self, item: int) -> str:
        return self.recording.trace.strings[int(self.recording.items.name[item])]

    def _op_of_group(self, index: int) -> Op | None:
        signature = int(self.groups.signature[index])
        return None if signature < 0 else self.recording.trace.signatures[signature]

    def _before(self, item: int) -> Iterator[Access]:
        """What ran before an item on its stream, the latest first."""
        activities = self.recording.trace.activities
        place = (int(activities.device[item]), int(activities.stream[item]))
        for rank in range(int(self.rank[item]) - 1, -1, -1):
            earlier = int(self.order[rank])
            if (int(activities.device[earlier]), int(activities.stream[earlier])) != place:
                return
            yield self._access(earlier)

    def _access(self, item: int) -> Access:
        number = int(self.priced.work[item])
        work = self.priced.works[number] if number >= 0 else None
        if work is None or work.bytes_read is None or work.bytes_written is None or work.is_bound:
            return Access(self._name(item), None, 0)
        ops, op = self.recording.trace.ops, int(self.recording.items.op[item])
        signature = self.recording.trace.signatures[int(ops.signature[op])] if op >= 0 else None
        read = _tensor_bytes(signature, work.bytes_read)
        return Access(self._name(item), work.bytes_read + work.bytes_written, work.bytes_written, read)


def _tensor_bytes(op: Op | None, bytes_read: int) -> tuple[int, ...]:
    """Bytes of each tensor that an op's kernel reads; as one if the op has several kernels that share them."""
    if op is None or op.inputs is None:
        return (bytes_read,)
    tensors = [value for value in op.inputs if isinstance(value, TensorMeta)]
    sizes = [tensor.distinct_numel * tensor.itemsize for tensor in tensors if tensor.itemsize is not None]
    return tuple(sizes) if sum(sizes) == bytes_read else (bytes_read,)


def surroundings(
    recording: Recording, groups: Groups, priced: Priced, hardware: Hardware, limits: Limits
) -> Surroundings:
    """Prepares what is looked up around every group."""
    count = len(recording.items.name)
    if recording.is_cpu:
        nothing = np.zeros(0, np.int64)
        return Surroundings(recording, groups, priced, hardware, limits, (0.0,) * len(groups), nothing, nothing)
    activities = recording.trace.activities
    order = np.lexsort((activities.start, activities.stream, activities.device))
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    together = sum_by(groups.of_item, beside_others(recording), len(groups))
    shared = tuple((together / np.maximum(groups.time, 1)).tolist())
    return Surroundings(recording, groups, priced, hardware, limits, shared, order, rank)


def beside_others(recording: Recording) -> Ints:
    """Of each device activity the time, in ns, in which another one ran on its device.

    Copies do not count: they have engines of their own.
    """
    activities, items = recording.trace.activities, recording.items
    found = np.zeros(len(activities.start), np.int64)
    for device in distinct(activities.device).tolist():
        rows = np.flatnonzero((activities.device == device) & (items.kind != KIND_COPY))
        times, place = np.unique(np.concatenate([activities.start[rows], activities.end[rows]]), return_inverse=True)
        begins, ends = np.split(place.reshape(-1), 2)
        change = np.bincount(begins, minlength=len(times)) - np.bincount(ends, minlength=len(times))
        several = np.cumsum(change)[:-1] > 1
        until = np.concatenate([[0], np.cumsum(np.where(several, np.diff(times), 0))])
        found[rows] = until[ends] - until[begins]
    return found
