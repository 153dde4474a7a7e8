"""Many ranks of one job: each recording analysed by itself, in parallel, then what they say together."""

from __future__ import annotations

import os
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from diagnose.analysis import NO_FINDINGS, VERSION, Options, analyse
from diagnose.errors import DiagnoseError, UsageError
from diagnose.ranks.arrivals import Arrivals, arrivals_of
from diagnose.ranks.clock_offsets import corrections, estimate_offsets
from diagnose.ranks.files import found_files, rank_of_name
from diagnose.ranks.joined_collectives import Joined, is_possible, join, joined_rows, meetings
from diagnose.ranks.straggler import Straggler, find_straggler, straggler_findings
from diagnose.schema import Document, Finding, Tool
from diagnose.tables.rank_rows import imbalance_of, rank_row, said
from diagnose.tables.ranks import RANKS_SCHEMA_VERSION, ClockOffset, JoinedCollective, RanksDocument
from diagnose.trace.chrome import Reading, read_trace

_WORTH_PROCESSES: Final = 4 << 20
"""Bytes of files below which starting processes (0.3 s each) costs more than it saves."""

_Result = TypeVar("_Result")

Price = Callable[[str, Straggler], list[Finding]]
"""Says what the recording at a path would gain if the straggler came in time."""

CONNECT_S = 10
"""How long a Dask scheduler may take to answer."""


@dataclass(frozen=True, slots=True)
class RankResult:
    """What comes back from one recording: small enough to travel."""

    path: str
    header_rank: int | None
    world_size: int | None
    document: Document
    arrivals: Arrivals


def analyse_rank(path: str, rank: int | None, options: Options) -> RankResult:
    """Reads and analyses one recording; runs in a process of its own, perhaps on another machine.

    Args:
        path: Of the recording.
        rank: Where its header names none.
        options: As for one recording.

    Raises:
        TraceError: It is no trace.
    """
    reading, header_rank = _read(path, rank)
    seen: list[Arrivals] = []
    document = analyse(reading, options, lambda placed, timelines: seen.append(arrivals_of(placed, timelines)))
    return RankResult(path, header_rank, reading.trace.world_size, document, seen[0])


def price_straggler(path: str, rank: int | None, options: Options, straggler: Straggler) -> list[Finding]:
    """What the rank that recorded ``path`` would gain if the straggler came in time; runs where ``analyse_rank`` does.

    Args:
        path: Of the recording.
        rank: Where its header names none.
        options: As it was read with before.
        straggler: Who comes late, and what this rank waited for it.
    """
    return straggler_findings(_read(path, rank)[0], options, straggler)


def _read(path: str, rank: int | None) -> tuple[Reading, int | None]:
    """The recording, and the rank that its header names; ``rank`` stands for it where it names none."""
    reading = read_trace(path)
    header_rank = reading.trace.process_rank
    if header_rank is None and rank is not None:
        reading = reading._replace(trace=replace(reading.trace, process_rank=rank))
    return reading, header_rank


def gather(
    sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    options: Options | None = None,
    dask: Any = None,
) -> RanksDocument:
    """The report over the recordings that paths, patterns and folders name.

    Args:
        sources: Where the recordings are.
        options: As for one recording.
        dask: Address of a Dask scheduler, or a ``distributed.Client``; None uses this machine's cores. Its workers
            must reach the files under the same paths.

    Raises:
        UsageError: No file is found, or Dask is not installed.
        TraceError: A file is no trace.
    """
    paths = found_files(sources)
    if not paths:
        raise UsageError("no recording was given")
    chosen = options or Options()
    jobs = [(path, rank_of_name(path), chosen) for path in paths]
    notes: list[str] = []
    results = _on_dask(analyse_rank, jobs, dask) if dask is not None else _here(jobs)

    def price(path: str, straggler: Straggler) -> list[Finding]:
        job = (path, rank_of_name(path), chosen, straggler)
        found = price_straggler(*job) if dask is None else _on_dask(price_straggler, [job], dask)[0]
        return list(found)

    return combine(_by_rank(results, notes), notes, price)


def _here(jobs: Sequence[tuple[str, int | None, Options]]) -> list[RankResult]:
    """On every core, each recording in a process of its own; one after the other where that cannot be."""
    workers = min(len(jobs), cores())
    is_worth_it = workers > 1 and sum(_size(path) for path, _, _ in jobs) >= _WORTH_PROCESSES
    # Formulas that the user registered with @diagnose.cost live in this process alone.
    if is_worth_it and "diagnose.costs.own" not in sys.modules:
        from multiprocessing import get_context

        try:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                with _main_hidden():
                    found = pool.map(analyse_rank, *zip(*jobs, strict=True))
                return list(found)
        except (BrokenProcessPool, OSError, AttributeError, TypeError, pickle.PicklingError):
            pass  # no processes here (a sandbox), or an option that cannot travel
    return [analyse_rank(*job) for job in jobs]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _main_hidden() -> Iterator[None]:
    """New processes run the caller's script again to know its functions; nothing of it is needed here.

    A script without a main guard would train again in each of them.
    """
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    try:
        main.__spec__ = None
        if "__file__" in kept:
            del main.__file__
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return _WORTH_PROCESSES  # a URL, perhaps: large enough


def _on_dask(work: Callable[..., _Result], jobs: Sequence[tuple[Any, ...]], dask: Any) -> list[_Result]:
    if not isinstance(dask, str):
        return _mapped(dask, work, jobs)
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError("--dask needs Dask: install torch-diagnose with the extra [ranks]") from error
    try:
        client = Client(dask, timeout=CONNECT_S)  # type: ignore[no-untyped-call]  # has no annotations
    except (OSError, ValueError) as error:
        raise DiagnoseError(f"no Dask scheduler answers at {dask}: {error}") from error
    with client:
        return _mapped(client, work, jobs)


def _mapped(client: Any, work: Callable[..., _Result], jobs: Sequence[tuple[Any, ...]]) -> list[_Result]:
    # Not pure: a file may have changed since another call read it.
    found: list[_Result] = client.gather(client.map(work, *zip(*jobs, strict=True), pure=False))
    return found


def _by_rank(results: Sequence[RankResult], notes: list[str]) -> dict[int, RankResult]:
    """The recordings by rank, the header's word first; what had to be guessed or left out is noted."""
    header = [result.header_rank for result in results]
    named = [rank_of_name(result.path) for result in results]
    is_alike = len(results) > 1 and len(set(header)) == 1 and len(set(named)) == len(results) and None not in named
    if is_alike and header[0] is not None:
        notes.append(f"every recording says that it is rank {header[0]}: the ranks are taken from the files' names")
        header = [None] * len(results)
    found: dict[int, RankResult] = {}
    for place, (result, rank, name) in enumerate(zip(results, header, named, strict=True)):
        label = Path(result.path).name
        if rank is not None and name is not None and rank != name:
            notes.append(f"{label}: its header says rank {rank}, its name {name}; the header is believed")
        if rank is None and name is None:
            notes.append(f"{label}: neither header nor name tells its rank; by its place it is taken for rank {place}")
        one = rank if rank is not None else name if name is not None else place
        if one in found:
            notes.append(f"rank {one} was given twice: {Path(found[one].path).name} is used, {label} is left out")
            continue
        found[one] = result
    return dict(sorted(found.items()))


def combine(results: Mapping[int, RankResult], notes: Sequence[str] = (), price: Price | None = None) -> RanksDocument:
    """What the ranks say together.

    Args:
        results: By rank.
        notes: What is to be said first.
        price: Asked what a rank's recording would gain without the straggler; None leaves the findings out.
    """
    told = list(notes)
    worlds = Counter(result.world_size for result in results.values() if result.world_size is not None)
    world = worlds.most_common(1)[0][0] if worlds else None
    if len(worlds) > 1:
        told.append(f"the recordings are of jobs of different sizes ({', '.join(map(str, sorted(worlds)))} ranks)")
    told += _missing(list(results), world)
    arrivals = {rank: result.arrivals for rank, result in results.items()}
    joined, offsets = _met(list(results), arrivals)
    correction = corrections(offsets)
    origin = min(int(result.document.window.epoch_ns) - correction[rank] for rank, result in results.items())
    rows = joined_rows(joined, arrivals, correction, origin, world, told.append)
    told += _unjoined(results, rows) + _clocks(offsets)
    table = [rank_row(rank, result.path, result.document, rows) for rank, result in results.items()]
    balance = imbalance_of(table)
    straggler = find_straggler(table, rows, joined, arrivals, correction)
    findings: list[Finding] = []
    if straggler is not None and price is not None:
        findings, doubts = _priced(price, results[straggler.seen_by].path, straggler)
        told += doubts
    return RanksDocument(
        schema_version=RANKS_SCHEMA_VERSION,
        tool=Tool("torch-diagnose", VERSION),
        world_size=world,
        verdict=said(table, rows, balance),
        table=table,
        imbalance=balance,
        collectives=rows,
        offsets=offsets,
        notes=told,
        ranks=[result.document for result in results.values()],
        findings=findings,
    )


def _priced(price: Price, path: str, straggler: Straggler) -> tuple[list[Finding], list[str]]:
    """The findings and what is doubtful about them: they cost a note where they fail, never the report."""
    try:
        return price(path, straggler), []
    except Exception as error:  # noqa: BLE001 - whatever is odd about the recording, or has gone since it was read
        return [], [f"{NO_FINDINGS}: {type(error).__name__}: {error}"]


def _met(ranks: Sequence[int], arrivals: Mapping[int, Arrivals]) -> tuple[list[Joined], list[ClockOffset]]:
    """The joined collectives and the clocks: each helps to find the other."""
    joined = join(arrivals)
    offsets = estimate_offsets(ranks, meetings(joined, arrivals))
    if all(is_possible(one, arrivals, corrections(offsets)) for one in joined):
        return joined, offsets
    joined = join(arrivals, corrections(offsets))
    return joined, estimate_offsets(ranks, meetings(joined, arrivals))


def _missing(ranks: Sequence[int], world: int | None) -> list[str]:
    if world is None:
        return ["the recordings do not say how many ranks the job had: waits are what the given ones show"]
    missing = sorted(set(range(world)) - set(ranks))
    if not missing:
        return []
    note = f"{len(missing)} of {world} ranks are missing ({_ranges(missing)}): who arrived last may be one of them, so "
    return [note + "a rank's wait is at least what is shown and at most all of its time in the collective"]


def _ranges(numbers: Sequence[int]) -> str:
    """``2 to 7, 9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return ", ".join([*words[:6], "..."] if len(words) > 6 else words)


def _unjoined(results: Mapping[int, RankResult], rows: Sequence[JoinedCollective]) -> list[str]:
    """Collectives that stayed alone, and sends and receives."""
    notes = []
    count = Counter(rank for row in rows for rank in row.ranks)
    alone = {rank: len(result.arrivals.key) - count[rank] for rank, result in results.items()}
    if len(results) > 1 and any(alone.values()):
        words = ", ".join(f"{left} of rank {rank}" for rank, left in list(alone.items())[:4] if left)
        notes.append(f"collectives without a partner on another recorded rank: {words}")
    pairwise = sum(result.arrivals.point_to_point for result in results.values())
    if pairwise:
        notes.append(f"{pairwise} sends and receives are not joined: only two ranks take part in each")
    if not any(len(result.arrivals.key) for result in results.values()):
        notes.append("no collective was recorded: waiting cannot be told from computing")
    return notes


def _clocks(offsets: Sequence[ClockOffset]) -> list[str]:
    from diagnose.units import format_ns

    notes = []
    moved = [row for row in offsets if row.is_applied and row.offset_ns is not None]
    if moved:
        words = ", ".join(
            f"rank {row.rank} {format_ns(row.offset_ns)} +- {format_ns(row.uncertainty_ns)}" for row in moved[:4]
        )
        more = f" and {len(moved) - 4} more" if len(moved) > 4 else ""
        notes.append(
            f"clocks are ahead of rank {offsets[0].rank}'s by the ends of collectives: {words}{more}; corrected"
        )
    unknown = [row.rank for row in offsets if row.offset_ns is None]
    if unknown and len(offsets) > 1:
        notes.append(f"the clocks of ranks {_ranges(unknown)} could not be compared: they share no collective")
    return notes
