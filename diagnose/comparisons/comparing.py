"""Two reports as one table of differences that add up: what got faster, slower, new, gone, and what that explains."""

from __future__ import annotations

from collections.abc import Sequence

from diagnose.comparisons.match import Match, match_rows, place_of
from diagnose.comparisons.quantities import SHOWN, is_plain, quantity_of, step_count
from diagnose.comparisons.thresholds import Threshold, judge
from diagnose.comparisons.verdict import decide, noise_words
from diagnose.render.selection import device_row, main_device, stack_of
from diagnose.render.words import shapes_words
from diagnose.schema import Document, KernelRow
from diagnose.steady import Account, account_of, steady_steps
from diagnose.tables.comparison import Change, Difference, Side, Status


def difference_of(before: Document, after: Document, thresholds: Sequence[Threshold] = ()) -> Difference:
    """Compares two reports.

    Args:
        before: The earlier one.
        after: The later one.
        thresholds: What must not have happened.
    """
    accounts = (account_of(before), account_of(after))
    changes = _changes((before, after), accounts)
    quantities = [quantity_of(before, after, name) for name in SHOWN]
    known = [row for row in quantities if row.before is not None or row.after is not None]
    step = quantities[0]
    is_same = is_unchanged(before, after)
    return Difference(
        tool=after.tool,
        before=_side(before),
        after=_side(after),
        verdict=decide(step, changes, is_same=is_same),
        noise=noise_words(before, after, step),
        quantities=known,
        step_before_ns=accounts[0].step_ns,
        step_after_ns=accounts[1].step_ns,
        changes=changes,
        thresholds=[judge(threshold, before, after) for threshold in thresholds],
        notes=_notes(before, after),
    )


def is_unchanged(before: Document, after: Document) -> bool:
    """Whether all that was measured is equal, as when a recording is compared with itself."""
    old, new = (
        (document.window.steps, document.waterfall, document.kernels, document.recording)
        for document in (before, after)
    )
    return old == new


def _changes(documents: tuple[Document, Document], accounts: tuple[Account, Account]) -> list[Change]:
    before, after = documents
    matches = match_rows(before.kernels, after.kernels)
    found = [_of_kernels(match, documents, accounts) for match in matches]
    parts = sorted({*accounts[0].parts, *accounts[1].parts})
    for part in parts:
        old, new = (account.parts.get(part, 0) for account in accounts)
        if old or new:
            op, where = _blamed(before, after, part, 1 if new >= old else -1)
            found.append(Change(status=_status(old, new), part=part, op=op, where=where, before_ns=old, after_ns=new))
    return sorted(found, key=lambda change: (-abs(change.difference_ns), -max(change.before_ns, change.after_ns)))


def _blamed(before: Document, after: Document, part: str, sign: int) -> tuple[str | None, str | None]:
    """The op or call, and its place, behind most of what an idle part grew (``sign`` 1) or shrank by."""
    sums: dict[tuple[str | None, str | None], float] = {}
    for weight, document in ((-sign, before), (sign, after)):
        for row in document.idle:
            if row.part == part:
                key = (row.op or row.call, row.line or row.module)
                sums[key] = sums.get(key, 0.0) + weight * row.ns / step_count(document)
    largest = max(sums, key=lambda key: sums[key], default=None)
    return largest if largest is not None and sums[largest] > 0 else (None, None)


def _status(before_ns: int, after_ns: int) -> Status:
    return "same" if before_ns == after_ns else "slower" if after_ns > before_ns else "faster"


def _of_kernels(match: Match, documents: tuple[Document, Document], accounts: tuple[Account, Account]) -> Change:
    sides = [
        ([document.kernels[index] for index in indices], [account.kernels[index] for index in indices])
        for document, account, indices in zip(documents, accounts, (match.before, match.after), strict=True)
    ]
    (old, old_ns), (new, new_ns) = sides
    largest = max([*new, *old], key=lambda row: row.time_ns)
    status: Status = "new" if not old else "gone" if not new else _status(sum(old_ns), sum(new_ns))
    counts = [step_count(document) * _devices(document) for document in documents]
    return Change(
        status=status,
        op=largest.op,
        kernels_before=_names(old),
        kernels_after=_names(new),
        shapes_before=_shapes(old),
        shapes_after=_shapes(new),
        where=_where(new or old),
        matched_by=match.by,
        before_ns=sum(old_ns),
        after_ns=sum(new_ns),
        calls_before=sum(row.calls for row in old) / counts[0],
        calls_after=sum(row.calls for row in new) / counts[1],
        kernel_before_ns=sum(row.time_ns for row in old) / counts[0],
        kernel_after_ns=sum(row.time_ns for row in new) / counts[1],
    )


def _devices(document: Document) -> int:
    return max(1, len({(row.process_rank, row.device) for row in document.kernels}))


def _names(rows: Sequence[KernelRow]) -> list[str]:
    return list(dict.fromkeys(row.kernel for row in sorted(rows, key=lambda row: -row.time_ns)))


def _shapes(rows: Sequence[KernelRow]) -> str | None:
    return (shapes_words(max(rows, key=lambda row: row.time_ns)) or None) if rows else None


def _where(rows: Sequence[KernelRow]) -> str | None:
    largest = max(rows, key=lambda row: row.time_ns)
    return stack_of(largest) or place_of(largest)


def _side(document: Document) -> Side:
    row = device_row(document, main_device(document))
    return Side(
        path=None if document.source.kind == "live" else document.source.path,
        device=None if row is None else row.name,
        torch_version=document.source.torch_version,
        steps=len(document.window.steps),
        steady=len(steady_steps(document)),
    )


def _notes(before: Document, after: Document) -> list[str]:
    """What makes the two less alike than they should be, the gravest first."""
    notes = []
    old, new = _side(before), _side(after)
    differing = []
    if old.device != new.device:
        differing.append(f"devices ({old.device or 'none'}, then {new.device or 'none'})")
    if old.torch_version != new.torch_version and old.torch_version and new.torch_version:
        differing.append(f"versions of torch ({old.torch_version}, then {new.torch_version})")
    if differing:
        notes.append(f"the two ran on different {' and '.join(differing)}")
    for side, document in (("before", before), ("after", after)):
        if not document.kernels:
            notes.append(f"{side}: nothing ran on a device, so the parts of its step are not known")
    shared = [
        f"{len(steady_steps(document))} of {len(document.window.steps)} {side}"
        for side, document in (("before", before), ("after", after))
        if document.kernels and not all(step.steady for step in document.window.steps)
    ]
    if shared:
        notes.append(
            f"kernels share the busy time of the steady steps ({', '.join(shared)}) as they share that of all recorded"
        )
    if before.source.options != after.source.options:
        notes.append("the two were recorded with different options (shapes, stacks), which cost time themselves")
    if is_plain(before, after):
        notes.append("the step time is that of unrecorded steps; the parts add up to the recorded steps")
    return notes
