"""Rules about collectives: nothing beside them, a slow link, many small ones. ``sending`` says what a transfer takes.

Rules about their bytes are in ``collective_bytes`` and ``collective_weights``, about copies between host and device in
``host_copies``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.findings import collective_bytes, collective_weights, host_copies
from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.findings.retiming import all_but_first, gap_of, ns_per_step, rate_of
from diagnose.findings.sending import (
    ONE_NODE,
    Nanoseconds,
    Sent,
    best_bytes_per_s,
    collective_groups,
    free_ns,
    link_ns,
    main_kind,
    sent,
    shorter,
)
from diagnose.items import KIND_COPY
from diagnose.replays.replayer import Change
from diagnose.trace.tables import Ints
from diagnose.transfers import exposed_of

REACHED: Final = 0.6
"""Share of the datasheet's link that large messages reach at least where nothing is wrong; NVLink 4 reaches 0.88."""

SLOW: Final = 0.3
"""Below this share of the link in the best of all calls, something other than the message decides: half of REACHED."""

SMALL_NS: Final = 5_000.0
"""A message that the link needs less than this for takes latency and little else: below any of NCCL's latencies."""

MANY: Final = 8
"""Small collectives a step from which on sending them together is worth a change."""


def exposed_collectives(case: Case) -> list[Proposal]:
    """Collectives in whose time no kernel of this device runs.

    What own kernels can cover is limited by their own time without communication beside it; all three estimates are.
    Low: what the link needs at its ceiling, transfer for certain. Mid: half of what is exposed, since the last bucket
    stays and kernels beside a collective slow down. High: all of it.
    """
    groups, everything = collective_groups(case), exposed_of(case.placed)
    exposed = everything * case.items_of(groups)
    alone_ns, free = int(exposed.sum()), free_ns(case, everything) if groups else 0
    if not alone_ns or not free:
        return []
    found, most = sent(case), min(1.0, free / alone_ns)
    hidden: Nanoseconds = np.asarray(most * exposed, np.float64)
    surely: Nanoseconds = np.minimum(most * link_ns(case, found), hidden / 2)
    title, advice = _overlap(case, found, main_kind(case, groups, exposed))
    return [
        Proposal(
            rule="exposed-collectives",
            bound="communication",
            title=title,
            evidence={
                "collectives_per_step": case.per_step(case.calls(groups)),
                "collectives_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "exposed_ns_per_step": ns_per_step(case, alone_ns),
                "kernels_without_communication_ns_per_step": ns_per_step(case, free),
                **({"link_needs_ns_per_step": ns_per_step(case, link_ns(case, found).sum())} if found else {}),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=shorter(case, surely),
            mid=shorter(case, hidden / 2),
            high=shorter(case, hidden),
            advice=advice,
            assumes="they do not wait for a late rank (`diagnose report rank*.json.gz` tells); kernels beside a "
            "collective slow down a little",
        )
    ]


def slow_link(case: Case) -> list[Proposal]:
    """Large messages that even at their best move far below the link, within one node.

    Low: nothing, for the time may be a wait for another rank. High: all that is above 60 % of the link's ceiling. Mid:
    half of that, since it is one of the two and the recording does not say which.
    """
    found = sent(case)
    slow = [each for each in found if _is_slow(found, each)]
    if not slow:
        return []
    groups, worst = [each.group for each in slow], slow[0]
    items, best = case.items_of(groups), best_bytes_per_s(found, worst) or 0.0
    above: Nanoseconds = np.maximum(0.0, case.replayer.duration - link_ns(case, slow) / REACHED) * items
    return [
        Proposal(
            rule="slow-link",
            bound="communication",
            title="large messages move far below the link's rate, or wait for a rank",
            evidence={
                "collectives_per_step": case.per_step(case.calls(groups)),
                "collectives_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "message_bytes": worst.message,
                "shortest_call_ns": round(worst.shortest_ns),
                "best_bus_bytes_per_s": round(best),
                "link_bytes_per_s": round(rate_of(case, worst.group, "link.peer") or 0.0),
                "ranks": worst.ranks,
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=Change(),
            mid=shorter(case, above / 2),
            high=shorter(case, above),
            gap_ns=gap_of(case, 0, float(above.sum()) / 2, float(above.sum())),
            advice="NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,GRAPH torchrun ...  # says the transport: P2P is the link, "
            f"SHM and NET/Socket are not\n{_TOPOLOGY[_is_amd(case, worst.group)]}  # what connects the devices",
            assumes=f"the {worst.ranks} ranks are on one node with such links; a rank that comes late looks the same: "
            "`diagnose report rank*.json.gz` tells them apart",
        )
    ]


def small_collectives(case: Case) -> list[Proposal]:
    """Many collectives too small for bandwidth to matter, which need not wait for each other.

    Only gradients, and what follows another such collective directly: what kernels between them need cannot be sent
    together. One a step of each kind and group stays. Low: half of the time of the others. Mid: all of it, but for
    what the link needs for their bytes. High: their launches too.
    """
    small = [each for each in sent(case) if each.link_ns is not None and each.link_ns < SMALL_NS]
    items, again = _mergeable(case, small)
    if items.sum() < MANY * max(1, len(case.steps)):
        return []
    groups = [each.group for each in small if (items & case.items_of([each.group])).any()]
    needed = link_ns(case, small)
    return [
        Proposal(
            rule="small-collectives",
            bound="communication",
            title="many small collectives one after another: latency is what they take",
            evidence={
                "small_collectives_per_step": case.per_step(int(items.sum())),
                "small_collectives_ns_per_step": ns_per_step(case, case.replayer.duration[items].sum()),
                "largest_message_bytes": max(each.message for each in small if each.group in groups),
                "link_needs_ns_per_step": ns_per_step(case, needed[items].sum()),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=shorter(case, again * case.replayer.duration / 2),
            mid=shorter(case, again * (case.replayer.duration - needed)),
            high=Change(removed=again),
            advice="flat = torch.cat([tensor.flatten() for tensor in tensors])\n"
            "torch.distributed.all_reduce(flat, group=group)  # one in place of len(tensors)\n"
            "parts = flat.split([tensor.numel() for tensor in tensors])  # DDP: a larger bucket_cap_mb does the same",
            assumes="nothing between them needs their results; the flat tensor takes memory and a copy each way",
        )
    ]


def late_rank(case: Case, waited: Ints, surely: Ints | None = None) -> list[Proposal]:
    """Collectives that wait for a rank which comes late: recordings of several ranks show it.

    Not among RULES, since one rank's recording does not. ``ranks.straggler`` asks it.

    Low: the wait after all others had come, since the next to come is waited for still. Mid: half way to all of it.
    High: all of it, as if the others came together too.

    Args:
        case: The recording of one rank.
        waited: Of each item how long it waited for others, as the joined recordings of all ranks say, ns [n].
        surely: Of that, how long none but the last was missing; None where that is not known [n].
    """
    groups = [group for group in collective_groups(case) if waited[case.group_of == group].any()]
    least = np.zeros_like(waited) if surely is None else surely
    total, low = float(waited.sum()), float(least.sum())
    if not groups or not total:
        return []
    return [
        Proposal(
            rule="late-rank",
            bound="communication",
            title="collectives wait for a rank that comes late",
            evidence={
                "collectives_per_step": case.per_step(case.calls(groups)),
                "collectives_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "waited_ns_per_step": ns_per_step(case, total),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=shorter(case, least),
            mid=shorter(case, (least + waited) / 2),
            high=shorter(case, waited),
            gap_ns=gap_of(case, low, (low + total) / 2, total),
            advice="diagnose report rank*.json.gz  # names the rank, and what it did instead",
            assumes="the late rank can be made as fast as the others: even shards, no work on one rank alone",
        )
    ]


_TOPOLOGY: Final = {False: "nvidia-smi topo -m", True: "rocm-smi --showtopo"}


def _is_amd(case: Case, group: int) -> bool:
    return case.placed.hardware.rows[int(case.placed.groups.device[group])].name.startswith("AMD")


_PREFETCH: Final = (
    "for layer, later in zip(model.layers, model.layers[1:]):  # each layer under its own fully_shard\n"
    "    layer.set_modules_to_forward_prefetch([later])\n"
    "    later.set_modules_to_backward_prefetch([layer])"
)
_BUCKETS: Final = (
    "model = torch.nn.parallel.DistributedDataParallel(  # the largest bucket now: {size:.0f} MiB\n"
    "    model, bucket_cap_mb={cap}, gradient_as_bucket_view=True)  # smaller ones start earlier\n"
    "with model.no_sync(): ...  # all micro-batches but the last, where gradients accumulate"
)
_PIPELINED: Final = (
    "torch._inductor.config._micro_pipeline_tp = True  # tensor parallel under torch.compile: a tile is sent while\n"
    "# others are computed; or two micro-batches, one of which computes while the other communicates"
)
_SMALLEST_BUCKET_MIB: Final = 5
"""A fifth of torch's default of 25 MiB: buckets much smaller take latency."""


_ASYNCHRONOUS: Final = (
    "work = torch.distributed.{call}, group=group, async_op=True)\n"
    "other = independent(features)  # what does not need the result: the dense part, another micro-batch\n"
    "work.wait()"
)


def _overlap(case: Case, found: Sequence[Sent], kind: tuple[str, bool]) -> tuple[str, str]:
    """Title and advice: sharded weights, replicated weights, exchanged rows, or products cut over ranks."""
    if kind[0] in ("all_gather", "reduce_scatter") and case.is_training:
        return "gathering and scattering of sharded weights is exposed", _PREFETCH
    if kind == ("all_reduce", True):
        size = max((each.message for each in found if each.is_backward), default=0) / 2**20
        cap = max(_SMALLEST_BUCKET_MIB, round(size / 2))
        return "the reduction of gradients is exposed: no kernel runs beside it", _BUCKETS.format(size=size, cap=cap)
    if kind[0] == "all_to_all":
        return "the exchange between ranks (all-to-all) is exposed: no kernel runs beside it", _ASYNCHRONOUS.format(
            call="all_to_all_single(received, to_send"
        )
    if case.is_training:
        call = "broadcast(tensor, src=0" if kind[0] == "broadcast" else "all_reduce(tensor"
        return "collectives are exposed: no kernel runs beside them", _ASYNCHRONOUS.format(call=call)
    return "collectives are in line with the kernels: nothing runs beside them", _PIPELINED


def _is_slow(found: Sequence[Sent], each: Sent) -> bool:
    """Whether the best large message of its kind and group is slow for one node's link."""
    best = best_bytes_per_s(found, each)
    if not each.is_large or best is None or not each.link_ns or not 1 < each.ranks <= ONE_NODE:
        return False
    return best < SLOW * 1e9 * each.crossed / each.link_ns


def _mergeable(case: Case, small: Sequence[Sent]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Items that could be sent together, and those of them that one other a step would carry [n]."""
    items = case.placed.recording.items
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys((each.kind, each.ranks) for each in small))}
    kind, is_free = np.full(len(items.name), -1), np.zeros(len(items.name), np.bool_)
    for each in small:
        alike = case.items_of([each.group])
        kind[alike] = kinds[each.kind, each.ranks]
        is_free[alike] = each.is_backward
    order = np.argsort(items.order, kind="stable")
    order = order[(items.kind[order] != KIND_COPY) & (case.group_of[order] >= 0)]
    after = (kind[order][1:] == kind[order][:-1]) & (kind[order][1:] >= 0)
    follows = np.concatenate([[False], after]) | np.concatenate([after, [False]])
    chosen = np.zeros(len(items.name), np.bool_)
    chosen[order] = (kind[order] >= 0) & (follows[: len(order)] | is_free[order])
    return chosen, all_but_first(case, chosen, kind)


RULES: Final[tuple[Rule, ...]] = (
    exposed_collectives,
    slow_link,
    small_collectives,
    *collective_bytes.RULES,
    *collective_weights.RULES,
    *host_copies.RULES,
)
