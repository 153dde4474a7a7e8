"""From proposals to findings: every one priced by running the recording again, no nanosecond promised twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from diagnose.findings.case import KERNEL, Case, Proposal
from diagnose.replays.claims import Cell, Claim, grant
from diagnose.replays.replayer import Change, both, sped_up
from diagnose.schema import Finding, Interval
from diagnose.trace.tables import Ints
from diagnose.units import format_ns
from diagnose.wall.waterfall import PARTS

Rule = Callable[[Case], list[Proposal]]

SMALLEST_SHARE: Final = 0.005
"""Of the step: what would give less is not worth a sentence."""

MUCH_LONGER: Final = 0.95
"""An unrecorded step shorter than this share of the recorded one: recording, not the step, took the rest."""


@dataclass(slots=True)
class _Priced:
    """A proposal with what its changes save: the window by the probable one, the median step by all three."""

    proposal: Proposal
    window_ns: int
    step_ns: Interval


@dataclass(frozen=True, slots=True)
class _Together:
    """The probable changes of several proposals at once, in whatever order they came.

    Attributes:
        less: Of those that leave less work.
        faster: Those that do what is left of it faster.
        change: All of them.
    """

    less: Change
    faster: tuple[Change, ...]
    change: Change

    def with_one(self, proposal: Proposal, duration: Ints) -> _Together:
        """With another proposal; ``duration`` is that of each item as recorded, ns [n]."""
        less, faster = self.less, self.faster
        if proposal.multiplies:
            faster = (*faster, proposal.mid)
        else:
            less = both(less, proposal.mid, duration)
        change = less
        for each in faster:
            change = sped_up(change, each, duration)
        return _Together(less, faster, change)


def findings_of(case: Case, rules: Sequence[Rule]) -> list[Finding]:
    """What to change, what gives most first. Empty where the replay does not give the recording itself.

    Each finding is granted what is left of its cells, and no more than it adds to those before it when the recording is
    run again with all of them together.

    Args:
        case: The recording.
        rules: Each looks for one thing.
    """
    proposals = [proposal for rule in rules for proposal in rule(case)]
    if not proposals or not case.replayer.is_trusted:
        return []
    owned = holdings(case)
    least = SMALLEST_SHARE * case.step_ns
    worth = [each for each in (_priced(case, proposal) for proposal in proposals) if each.step_ns.mid >= least]
    alone = {each.proposal.rule: each.window_ns for each in worth}
    worth.sort(key=lambda each: (each.proposal.beyond in alone, -each.window_ns))
    claims = [Claim(each.window_ns - alone.get(each.proposal.beyond, 0), tuple(each.proposal.cells)) for each in worth]
    granted = grant(claims, owned, case.replayer.limit_ns or 0)
    found: list[Finding] = []
    together, saved = _Together(Change(), (), Change()), 0
    for each, given in zip(worth, granted, strict=True):
        joined = together.with_one(each.proposal, case.replayer.duration)
        added = max(0, (case.replayer.saving(joined.change) or 0) - saved) if found else each.window_ns
        share = min(given.ns, added) / max(1, each.window_ns)
        held = sum(owned.get(cell, 0) for cell in set(each.proposal.cells))
        finding = _finding(
            each, share, [*given.cells], is_shared=share * each.window_ns < min(held, each.window_ns) - 1
        )
        if finding.recoverable_ns.mid >= least:
            found.append(finding)
            together, saved = joined, saved + added
    return sorted((_unrecorded(case, each) for each in found), key=lambda each: -each.recoverable_ns.mid)


def _unrecorded(case: Case, finding: Finding) -> Finding:
    """What it gives of a step that nobody records, where that is shorter: the same share of it."""
    plain = None if case.extras is None else case.extras.step_plain_ns
    if not plain or plain >= MUCH_LONGER * case.step_ns:
        return finding
    saves, scale = finding.recoverable_ns, plain / case.step_ns
    return structs.replace(
        finding,
        recoverable_ns=Interval(round(saves.low * scale), round(saves.mid * scale), round(saves.high * scale)),
        assumes=f"{finding.assumes}; as a share of the {format_ns(plain)} that a step takes unrecorded",
    )


def holdings(case: Case) -> dict[Cell, int]:
    """The wall time that can be claimed: what each kernel row owns, and each idle part; the mean over devices."""
    owned = {Cell(group, KERNEL): int(ns) for group, ns in enumerate(case.exposed.tolist()) if ns}
    idle = {Cell(None, part): case.idle_ns(part) for part in PARTS if part.startswith("idle_")}
    return owned | {cell: ns for cell, ns in idle.items() if ns}


def _priced(case: Case, proposal: Proposal) -> _Priced:
    """One replay for each distinct change."""
    steady = [step.steady for step in case.steps]
    changes = {id(change): change for change in (proposal.low, proposal.mid, proposal.high)}
    prices = {key: case.replayer.savings(change, steady) for key, change in changes.items()}
    found = [prices[id(change)] for change in (proposal.low, proposal.mid, proposal.high)]
    low, mid, high = (0 if price is None else max(0, price.step_ns) for price in found)
    window_ns = 0 if found[1] is None else max(0, found[1].window_ns)
    return _Priced(proposal, window_ns, Interval(min(low, mid), mid, max(mid, high)))


def _finding(priced: _Priced, share: float, granted: Sequence[Cell], *, is_shared: bool) -> Finding:
    proposal, price = priced.proposal, priced.step_ns
    shared = f"; other findings claim {1 - share:.0%} of the same time" if is_shared else ""
    return Finding(
        rule=proposal.rule,
        bound=proposal.bound,
        title=proposal.title,
        evidence=proposal.evidence,
        where=list(proposal.where),
        claims=[_spelled(cell) for cell in granted],
        recoverable_ns=Interval(round(price.low * share), round(price.mid * share), round(price.high * share)),
        gap_ns=proposal.gap_ns,
        advice=proposal.advice,
        assumes=proposal.assumes + shared,
    )


def _spelled(cell: Cell) -> str:
    return cell.part if cell.row is None else f"group {cell.row}"
